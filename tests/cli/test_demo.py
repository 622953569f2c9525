"""What the verb passes on, and where it says that everything lies."""

from pathlib import Path

from nnunetv2_gsp import demo
from tests.cli.commands import exit_code


def test_it_says_where_the_pages_lie(monkeypatch, capsys, tmp_path):
    asked = []

    def run_demo(*arguments):
        asked.append(arguments)
        return demo.Demo(tmp_path, "mps", demo.FULL_SIZE)

    monkeypatch.setattr(demo, "run_demo", run_demo)
    assert exit_code("demo", "-o", "there", "-device", "mps") == 0
    assert asked == [(Path("there"), "mps")]
    printed = capsys.readouterr().out
    assert f"comparison  {tmp_path / 'comparison' / 'comparison.html'}" in printed
    assert f"submission  {tmp_path / 'submission.zip'}" in printed
    assert f"web page    segments in a browser; to make it, run: nnUNetv2_gsp export {tmp_path}" in printed
    page = tmp_path / "web_page" / "index.html"
    page.parent.mkdir()
    page.touch()
    assert exit_code("demo", "-o", "there", "-device", "mps") == 0
    assert f"web page    {page}" in capsys.readouterr().out


def test_another_folder_is_hinted_at(tmp_path):
    (tmp_path / "notes.txt").touch()
    said = exit_code("demo", "-o", tmp_path)
    assert said.startswith(f"nnUNetv2_gsp demo: {tmp_path}: expected an empty folder or a demo, got a folder whose ")
    assert said.endswith("; choose another with -o.")
