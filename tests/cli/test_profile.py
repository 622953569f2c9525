import json

import pytest

from tests.cli.commands import exit_code


@pytest.mark.parametrize("arguments", [
    ("-d", "1", "--template", "default_local"), ("-d", "1", "--set", "shift_ratio=1"), ("-d", "1", "--channels", "3"),
    ("-d", "1", "--patch", "32", "32"), ("--template", "default", "-c", "2d"), ("-p", "nnUNetPlans")])
def test_profile_takes_plans_or_a_template_not_both(arguments):
    assert "Expected either -d" in exit_code("profile", *arguments)


def test_profile_says_at_once_that_there_is_no_folder_for_its_file(tmp_path):
    assert "Expected a folder for" in exit_code("profile", "--patch", "32", "32", "--json", str(tmp_path / "no" / "x"))


def test_profile_says_at_once_that_its_file_is_a_folder(tmp_path):
    assert "Expected a file to write to, got the folder" in exit_code("profile", "--patch", "32", "32", "--json",
                                                                      str(tmp_path))


def test_profile_writes_what_it_shows(tmp_path, capsys):
    files = [tmp_path / "cost.json", tmp_path / "cost.md"]
    assert exit_code("profile", "--template", "brats18_csc_dec", "--patch", "32", "32", "32", "--rounds", "1",
                     "--json", str(files[0]), "--markdown", str(files[1])) == 0
    printed = capsys.readouterr().out
    figures = json.loads(files[0].read_text())
    assert figures["gsp"]["parameters"] == 245_792
    assert "245.79 k" in printed
    assert "| parameters | 5.65 M | 245.79 k |" in files[1].read_text()
    assert sorted(tmp_path.iterdir()) == files
