"""Conventions of labels: raw ones of BraTS up to 2022 are told from nnU-Net's."""

from pathlib import Path

import numpy as np
import pytest

from nnunetv2_gsp.errors import ConflictingInputError
from nnunetv2_gsp.metrics.case_scores import score_cases
from nnunetv2_gsp.metrics.cases import find_segmentations, pair
from nnunetv2_gsp.metrics.definitions import DEFINITIONS
from nnunetv2_gsp.metrics.label_conventions import check_not_raw, check_same_labels
from nnunetv2_gsp.metrics.region_labels import RegionLabels
from tests.metrics.drawings import write
from tests.metrics.folders import CASES, SPACING_MM, tumour

KNOWN = {0, 1, 2, 3}


def scored(folders, labels):
    return score_cases(pair(*map(find_segmentations, folders)), labels, DEFINITIONS["captk"], processes=1)


def found(reference, prediction):
    return {"reference_mm3": reference, "prediction_mm3": prediction}


def write_raw(folder):
    for number, case in enumerate(CASES):
        labels = tumour(number + 1)
        write(np.where(labels == 3, 4, labels), folder / f"{case}.nii.gz", SPACING_MM)


def test_raw_labels_are_refused_where_the_dataset_has_nnunets(folders):
    write_raw(folders[0])
    labels = RegionLabels({"enhancing_tumor": (3,)}, known_labels=frozenset(KNOWN))
    with pytest.raises(
        ConflictingInputError, match=r"gt/BraTS_001\.nii\.gz: expected label 3 for enhancing tumour, .* up to 2022"
    ) as refused:
        scored(folders, labels)
    assert refused.value.parameters == ("raw_labels",)


@pytest.mark.parametrize("side", [0, 1])
def test_without_a_dataset_json_both_sides_tell(side, folders):
    write_raw(folders[side])
    names = ("references", "predictions")
    with pytest.raises(
        ConflictingInputError, match=rf"tumour in the {names[1 - side]}, got label 4 and never 3 in the {names[side]}"
    ):
        scored(folders, RegionLabels())


def test_raw_labels_on_both_sides_and_a_resection_cavity_are_no_conflict(folders):
    for folder in folders:
        write_raw(folder)
    assert len(scored(folders, RegionLabels())) == 9
    write(tumour(1) + (tumour(1) == 0), folders[0] / "BraTS_002.nii.gz", SPACING_MM)  # 3 and 4 occur on one side
    check_not_raw({1, 2, 3, 4}, {0, 1, 2, 3, 4}, Path("glioma2024.nii.gz"))
    check_same_labels([{"4": found(1, 0), "3": found(0, 1), "7": found(1, 1)}], RegionLabels())  # no labels of BraTS
    check_not_raw({1, 2, 5}, KNOWN, Path("another.nii.gz"))
