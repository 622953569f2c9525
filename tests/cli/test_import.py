"""What is not imported is one sentence, and nothing is left behind."""

from tests.cli.commands import exit_code


def test_a_file_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    assert exit_code("import", tmp_path / "model.zip") == (
        f"nnUNetv2_gsp import: {tmp_path / 'model.zip'}: expected an exported model, got no such file; "
        "name another archive."
    )


def test_a_file_that_is_no_bundle(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    (tmp_path / "model.zip").write_text("no zip")
    assert exit_code("import", tmp_path / "model.zip") == (
        f"nnUNetv2_gsp import: {tmp_path / 'model.zip'}: expected a whole zip, got none (File is not a zip file); get "
        f"the file again."
    )
    assert [file.name for file in tmp_path.iterdir()] == ["model.zip"]
