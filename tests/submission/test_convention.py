import json

import pytest

from nnunetv2_gsp.errors import ConflictingInputError, DamagedFileError
from nnunetv2_gsp.submission.convention import check_convention
from nnunetv2_gsp.submission.rules import rules_of


def convention(made, labels):
    """Check predictions beside a dataset.json with these labels."""
    (made.predictions / "dataset.json").write_text(json.dumps({"labels": {"background": 0, **labels}}))
    check_convention(made.predictions, rules_of(made.challenge))


@pytest.mark.parametrize(
    "labels",
    [
        {"edema": 1, "non-enhancing tumor": 2, "enhancing tumour": 3},  # nnU-Net's converter of the Decathlon
        {"ED": 1, "NCR": 2, "ET": 3},
        {"a": 1, "b": 2, "c": 3},
        {"necrosis": 1, "edema": 2},
        {},
        {"necrosis": 1, "edema": 2, "enhancing": 3, "ET": 4},
        {"tumor": 1, "edema": 2, "enhancing": 3},
        {"whole": [1, 2, 3], "enhancing": [3]},
        {"whole": [1, 2, 3], "core": [1, 3], "enhancing": 3, "edema": 2},
        {"whole": [1, 2, 3], "core": [1, 2], "enhancing": [3]},
    ],
    ids=str,
)
def test_labels_of_another_meaning_are_refused(labels, brats2021):
    with pytest.raises(ConflictingInputError, match=r"dataset\.json: expected the labels 1 NCR, 2 .*, got "):
        convention(brats2021, labels)


@pytest.mark.parametrize(
    "labels",
    [
        {"necrosis": 1, "edema": 2, "enhancing": 3},
        {"NCR": 1, "ED": 2, "ET": 3, "RC": 4},
        {"Non-enhancing tumor": 1, "Peritumoral edema": 2, "GD-enhancing tumor": 3},
        {"NETC": 1, "SNFH": 2, "ET": 3},
        {"TC": [3, 1], "WT": [1, 2, 3], "ET": 3, "ignore": 5},
        {"WT": [1, 2, 3], "TC": [1, 3], "ET": [3], "RC": [4]},
    ],
    ids=str,
)
def test_labels_of_the_same_meaning_are_taken(labels, brats2021):
    convention(brats2021, labels)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"labels": {"a": [[1], [2]]}}',
        '{"labels": {"a": {}}}',
        '{"labels": {"a": []}}',
        '{"labels": {"a": "1"}}',
        '{"labels": 5}',
    ],
)
def test_a_damaged_dataset_json_is_said(content, brats2021):
    (brats2021.predictions / "dataset.json").write_text(content)
    with pytest.raises(DamagedFileError, match=r"dataset\.json with labels, got one that cannot be read"):
        check_convention(brats2021.predictions, rules_of("brats2021"))
