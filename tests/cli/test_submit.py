"""`submit`: from the arguments to one call, and from what it returns to the screen."""

from pathlib import Path

import numpy as np
import pytest

from nnunetv2_gsp import submission
from tests.cli.commands import exit_code
from tests.datasets.sources import write_image
from tests.submission.archives import Submission

REQUIRED = ("-i", "predictions", "-o", "new.zip", "--challenge", "brats2021")


@pytest.fixture
def calls(monkeypatch):
    """The calls of the library, which do nothing."""
    calls = []

    def write_submission(*arguments, **named):
        calls.append((arguments, named))
        return 3

    monkeypatch.setattr(submission, "write_submission", write_submission)
    monkeypatch.setattr("nnunetv2_gsp.nnunet.n_processes", lambda: 5)
    return calls


@pytest.fixture
def made(tmp_path):
    return Submission(tmp_path / "made", "brats2021")


def test_every_argument_reaches_the_library(calls):
    assert (
        exit_code(
            "submit",
            *REQUIRED,
            "--images",
            "raw",
            "--names",
            "{case}.nii.gz",
            "--et-threshold",
            "auto",
            "--cv-folder",
            "cv",
            "-gt",
            "labels",
            "--overwrite",
            "-np",
            "3",
        )
        == 0
    )
    assert exit_code("submit", *REQUIRED, "--et-threshold", "50") == 0
    assert exit_code("submit", *REQUIRED) == 0
    paths = (Path("predictions"), Path("new.zip"), "brats2021")
    without = {
        "images": None,
        "names": None,
        "cross_validation": None,
        "references": None,
        "overwrite": False,
        "processes": 5,
    }
    assert calls == [
        (
            paths,
            {
                "images": Path("raw"),
                "names": "{case}.nii.gz",
                "et_threshold": "auto",
                "cross_validation": Path("cv"),
                "references": Path("labels"),
                "overwrite": True,
                "processes": 3,
            },
        ),
        (paths, {**without, "et_threshold": 50}),
        (paths, {**without, "et_threshold": 0}),
    ]


def test_the_screen_says_what_was_not_checked(calls, capsys):
    written = "Wrote new.zip: 3 cases, checked against the rules of brats2021."
    exit_code("submit", *REQUIRED, "--images", "raw")
    assert capsys.readouterr().out.splitlines() == [written]
    exit_code("submit", *REQUIRED)
    first, second = capsys.readouterr().out.splitlines()
    assert first == written
    assert second.startswith("Not checked: whether all cases are there")


@pytest.mark.parametrize(
    "arguments",
    [
        REQUIRED[:4],
        (*REQUIRED[:5], "brats2017"),
        (*REQUIRED, "-np", "0"),
        (*REQUIRED, "--et-threshold", "0"),
        (*REQUIRED, "--et-threshold", "all"),
    ],
)
def test_a_wrong_command_line_exits_with_2(arguments, calls):
    assert exit_code("submit", *arguments) == 2
    assert not calls


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--challenge", "promise12", "--et-threshold", "5"), "got one for promise12, which has none; leave it out"),
        (("--et-threshold", "auto"), "name a cross-validation with --cv-folder"),
        (("--cv-folder", "x"), "leave them out, or change --et-threshold"),
        (("--et-threshold", "5", "-gt", "x"), "leave them out, or change --et-threshold"),
        (("--names", "x.nii.gz"), "change --names"),
        (("-o", "x.tar"), "expected a name that ends in .zip, got x.tar; choose another with -o"),
    ],
)
def test_options_that_do_not_go_together_are_refused_in_one_sentence(options, said, made):
    refusal = exit_code("submit", "-i", made.predictions, "-o", made.file, "--challenge", "brats2021", *options)
    assert said.lower() in refusal.lower()
    assert "\n" not in refusal
    assert not made.file.exists()


def test_an_archive_in_the_way_is_said_before_anything_is_read(made, tmp_path):
    made.file.write_bytes(b"an older one")
    refusal = exit_code(
        "submit",
        "-i",
        made.predictions,
        "-o",
        made.file,
        "--challenge",
        "brats2021",
        "--et-threshold",
        "auto",
        "--cv-folder",
        tmp_path / "nowhere",
    )
    assert refusal.endswith("exists and is not replaced; choose another with -o, or replace it with --overwrite.")


def test_predictions_that_are_not_there_are_named_with_their_flag(made, tmp_path):
    refusal = exit_code("submit", "-i", tmp_path, "-o", made.file, "--challenge", "brats2021")
    assert refusal.endswith("got none; name another folder of predictions with -i.")


def test_a_threshold_is_chosen_and_shown_and_the_archive_is_written(made, tmp_path, capsys):
    """Three voxels of enhancing tumour where there is none, in one case, are as many as cost a case."""
    for folder, n_enhancing in (("cv", 3), ("labels", 0)):
        for case, n_voxels in (("BraTS2021_00100", n_enhancing), ("BraTS2021_00101", 5)):
            voxels = np.full((4, 5, 6), 2, np.uint8)
            voxels.flat[:n_voxels] = 3
            write_image(voxels, tmp_path / folder / f"{case}.nii.gz")
    assert (
        exit_code(
            "submit",
            "-i",
            made.predictions,
            "-o",
            made.file,
            "--challenge",
            "brats2021",
            "--images",
            made.source,
            "--et-threshold",
            "auto",
            "--cv-folder",
            tmp_path / "cv",
            "-gt",
            tmp_path / "labels",
            "-np",
            "1",
        )
        == 0
    )
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("ET threshold 4 voxels: mean ET Dice 0.5000 -> 1.0000 on the 2 cases of ")
    assert second.startswith(f"Wrote {made.file}: 3 cases")
    assert made.file.is_file()
