"""`profile`: from the arguments to one call, and from what it returns to the screen and to files."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from nnunetv2_gsp import profiling
from tests.cli.commands import calls_of, exit_code

QUICK = ("--template", "brats18_csc_dec", "--patch", "32", "32", "32", "--rounds", "1")


@pytest.mark.parametrize(
    "arguments",
    [
        ("-d", "1", "--template", "default_local"),
        ("-d", "1", "--set", "shift_ratio=1"),
        ("-d", "1", "--channels", "3"),
        ("-d", "1", "--patch", "32", "32"),
        ("--template", "default", "-c", "2d"),
        ("-p", "nnUNetPlans"),
    ],
)
def test_plans_or_a_template_are_taken_not_both(arguments):
    assert exit_code("profile", *arguments).endswith("got some of both; drop one side.")


def test_what_is_shown_is_written(tmp_path, capsys):
    files = [tmp_path / "new" / "cost.json", tmp_path / "new" / "cost.md"]
    assert exit_code("profile", *QUICK, "--json", files[0], "--markdown", files[1]) == 0
    printed = capsys.readouterr().out
    figures = json.loads(files[0].read_text())
    assert figures["gsp"]["parameters"] == 245_792
    assert "245.79 k" in printed
    assert "| parameters | 5.65 M | 245.79 k |" in files[1].read_text()
    assert sorted((tmp_path / "new").iterdir()) == files


def test_channels_and_classes_are_those_of_the_network(tmp_path):
    assert exit_code("profile", *QUICK, "--channels", 2, "--classes", 3, "--json", tmp_path / "cost.json") == 0
    figures = json.loads((tmp_path / "cost.json").read_text())
    assert (figures["input_channels"], figures["output_channels"]) == (2, 3)


def test_every_flag_is_passed_on(monkeypatch):
    calls = calls_of(monkeypatch, profiling, "profile", SimpleNamespace(table=str))
    line = (
        "-d 1 -c 2d -p P --template T --set shift_ratio=1 --patch 8 16 --channels 2 --classes 3 -device mps --rounds 7 "
        "--json a.json --markdown a.md --overwrite"
    )
    assert exit_code("profile", *line.split()) == 0
    assert calls == [
        {
            "dataset": "1",
            "configuration": "2d",
            "plans_name": "P",
            "template": "T",
            "settings": {"shift_ratio": 1},
            "patch_size": [8, 16],
            "input_channels": 2,
            "classes": 3,
            "device": "mps",
            "rounds": 7,
            "json_file": Path("a.json"),
            "markdown_file": Path("a.md"),
            "overwrite": True,
        }
    ]


@pytest.mark.parametrize("flag", ["--json", "--markdown"])
def test_a_file_is_replaced_on_request_and_otherwise_refused_at_once(flag, tmp_path, monkeypatch):
    file = tmp_path / "cost"
    file.write_text("mine")
    with monkeypatch.context() as no_work:
        no_work.setattr("nnunetv2_gsp.profiling.profile_template", lambda *_: pytest.fail("it was profiled"))
        assert exit_code("profile", *QUICK, flag, file).endswith(
            f"exists and is not replaced; name another file with {flag}, or replace it with --overwrite."
        )
    assert file.read_text() == "mine"
    assert exit_code("profile", *QUICK, flag, file, "--overwrite") == 0
    assert "GSPUNet" in file.read_text()


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path):
    sentence = exit_code("profile", *QUICK, "--json", tmp_path, "--overwrite")
    assert sentence.endswith(
        "expected a file or nothing, got a folder; move it away, or name another file with --json."
    )


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("--patch", "16"), "change --patch."),
        (("--rounds", "0", "--patch", "16", "16"), "change --rounds."),
        (("--set", "shift_ration=1"), "change --set."),
    ],
)
def test_the_sentence_names_the_flag_that_mends_it(arguments, hint):
    assert exit_code("profile", *arguments).endswith(hint)
