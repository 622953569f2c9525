"""`convert`: from the arguments to one call, and from what it returns to the screen."""

import json
from pathlib import Path

import pytest

from nnunetv2_gsp.datasets import challenges
from nnunetv2_gsp.datasets.conversion import ConversionReport
from nnunetv2_gsp.datasets.source import SkippedCase
from tests.cli.commands import exit_code
from tests.datasets.sources import write_brats

REPORT = ConversionReport(
    "raw",
    "brats2021",
    {},
    ["a", "b"],
    ["c"],
    [SkippedCase("d", "Expected d, got none.")],
    ["e is taken for f."],
    {"train": {"training": 2, "test": 0}, "val": {"training": 0, "test": 1}},
)


@pytest.fixture
def calls(monkeypatch):
    """The calls of the library, which do nothing."""
    calls = []

    def convert_challenge(*arguments, **named):
        calls.append((arguments, named))
        return Path("raw/Dataset007_BraTS"), REPORT

    monkeypatch.setattr(challenges, "convert_challenge", convert_challenge)
    monkeypatch.setattr("nnunetv2_gsp.nnunet.n_processes", lambda: 5)
    return calls


@pytest.fixture
def raw(tmp_path, monkeypatch):
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path))
    return tmp_path


def test_every_argument_reaches_the_library(calls):
    assert (
        exit_code(
            "convert",
            "brats",
            "data",
            "-d",
            "7",
            "--name",
            "X",
            "--edition",
            "2021",
            "--split",
            "all",
            "--overwrite",
            "--strict",
            "-np",
            "3",
        )
        == 0
    )
    assert exit_code("convert", "msd", "data", "-d", "8") == 0
    assert calls == [
        (
            ("brats", Path("data"), 7),
            {"name": "X", "edition": "2021", "split": "all", "overwrite": True, "strict": True, "processes": 3},
        ),
        (
            ("msd", Path("data"), 8),
            {"name": None, "edition": None, "split": "folders", "overwrite": False, "strict": False, "processes": 5},
        ),
    ]


def test_the_screen_shows_what_was_done(calls, capsys):
    assert exit_code("convert", "brats", "data", "-d", "7") == 0
    assert capsys.readouterr().out.splitlines() == [
        "brats2021: 2 cases to train with, 1 to predict, 1 skipped",
        "train: 2 to train with, 0 to predict",
        "val: 0 to train with, 1 to predict",
        "note: e is taken for f.",
        "skipped d: Expected d, got none.",
        "",
        "Wrote raw/Dataset007_BraTS. Plan: nnUNetv2_plan_and_preprocess -d 7 --verify_dataset_integrity",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("kits", "data", "-d", "7"),
        ("brats", "data"),
        ("brats", "data", "-d", "x"),
        ("brats", "data", "-d", "7", "--edition", "2017"),
        ("brats", "data", "-d", "7", "--split", "some"),
        ("brats", "data", "-d", "7", "-np", "0"),
    ],
)
def test_a_wrong_command_line_exits_with_2(arguments, calls):
    assert exit_code("convert", *arguments) == 2
    assert not calls


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("brats", "nowhere", "-d", "7"), "expected a folder of the challenge's data, got none; name another SOURCE."),
        (("msd", "data", "-d", "7", "--edition", "2021"), "Expected no edition with MSD"),
        (("brats", "data", "-d", "1000"), "Expected an id from 1 to 999, got 1000; choose another id with -d."),
        (("brats", "data", "-d", "7", "--name", "a/b"), "got 'a/b'; choose another name with --name."),
    ],
)
def test_what_a_user_can_mend_is_one_sentence_with_the_flag(arguments, said, raw):
    assert said in exit_code("convert", *arguments)


def test_a_conversion_ends_with_a_dataset(raw, capsys):
    source = write_brats(raw / "source", "brats2021")
    (source / "BraTS2021_00002" / "BraTS2021_00002_t1.nii.gz").unlink()
    command = ("convert", "brats", source, "-d", "7", "-np", "1")
    refusal = exit_code(*command, "--strict")
    assert "BraTS2021_00002: " in refusal
    assert "leave out --strict" in refusal
    assert exit_code(*command) == 0
    printed = capsys.readouterr().out
    assert "brats2021: 1 cases to train with, 1 to predict, 1 skipped" in printed
    assert json.loads((raw / "Dataset007_BraTS" / "dataset.json").read_text())["numTraining"] == 1
    assert exit_code(*command).endswith("choose another dataset with -d, or replace it with --overwrite.")
