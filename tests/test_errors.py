"""Errors say one sentence, to callers and on a command line, and come whole out of other processes."""

import pickle

import pytest

from nnunetv2_gsp.errors import (
    ConflictingInputError,
    DamagedFileError,
    InputError,
    MissingInputError,
    SeveralProblemsError,
    TargetExistsError,
    UnavailableError,
)

ERRORS = [
    InputError("one stride a stage", "3 of 6"),
    MissingInputError("a dataset.json", "none", where="folder/dataset.json", remedy="put it there"),
    DamagedFileError("a whole image", "one that is cut off", where="a.nii.gz", parameters=["images"]),
    ConflictingInputError("the same cases", "others", remedy="add them", parameters=["references", "predictions"]),
    UnavailableError("a cuda device", "none", parameters=("device",)),
    TargetExistsError("plans.json"),
    TargetExistsError("folder", parameters=("output",)),
    SeveralProblemsError("whole cases", ["a.nii.gz: it is cut off", "b.nii.gz: it is cut off"]),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_of_another_process_is_the_same(error):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ERRORS[0], "Expected one stride a stage, got 3 of 6."),
        (ERRORS[1], "folder/dataset.json: expected a dataset.json, got none; put it there."),
        (ERRORS[2], "a.nii.gz: expected a whole image, got one that is cut off; change images."),
        (ERRORS[3], "Expected the same cases, got others; add them, or change references or predictions."),
        (ERRORS[5], "plans.json exists and is not replaced; change output or overwrite."),
    ],
)
def test_callers_read_which_parameter_to_change(error, sentence):
    assert str(error) == sentence


def test_a_command_line_names_its_own_way_out():
    assert ERRORS[3].told(["name others with -gt"]) == (
        "Expected the same cases, got others; add them, or name others with -gt."
    )
