"""What a shell completes, asked of the shell itself."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import shtab

from nnunetv2_gsp.cli import parser
from tests.cli.commands import exit_code
from tests.cli.verbs import actions, verbs

ASK = """
source {script}
[[ "$(complete -p nnUNetv2_gsp)" =~ -F\\ ([^ ]+) ]]
COMP_WORDS=(nnUNetv2_gsp {words}) COMP_CWORD={number}
${{BASH_REMATCH[1]}}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    script = tmp_path_factory.mktemp("completion") / "nnUNetv2_gsp.bash"
    script.write_text(shtab.complete(parser(), shell="bash"))
    return script


def completions(script, words, cwd=None):
    """Return what bash offers for the last one of the words."""
    asked = subprocess.run(
        ["bash", "-c", ASK.format(script=script, words=words, number=len(words.split()))],
        capture_output=True,
        text=True,
        check=True,
        cwd=cwd,
        env={**os.environ, "LC_ALL": "C"},  # of a locale that is not installed bash complains
    )
    assert asked.stderr == ""
    return asked.stdout.split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_the_completion_is_printed(shell, capsys):
    assert exit_code("--print-completion", shell) == 0
    assert "check-submission" in capsys.readouterr().out


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("pla", ["plan"]),
        ("ex", ["experiments", "export"]),
        ("experiments table", ["table1", "table2"]),
        ("experiments ratio --exec", ["--executor"]),
        ("experiments ratio --executor s", ["slurm"]),
        ("demo -device cu", ["cuda"]),
        ("import mod", ["model.zip"]),
        ("export -o mod", ["model.zip"]),
        ("export mod", []),
        ("demo -o fol", ["folder"]),
        ("demo -o mod", []),
    ],
)
def test_bash_completes(words, offered, script, tmp_path):
    (tmp_path / "model.zip").touch()
    (tmp_path / "folder").mkdir()
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    assert completions(script, words, tmp_path) == offered


def test_every_path_is_completed_as_a_file_or_a_folder():
    paths = [action for verb in verbs().values() for action in actions(verb) if action.type is Path]
    assert len(paths) > 10
    for action in paths:
        assert action.complete == (shtab.FILE if action.metavar == "FILE" else shtab.DIRECTORY)
