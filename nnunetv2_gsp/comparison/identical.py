"""Counts the cases in which two contenders predict exactly the same."""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from nnunetv2_gsp.comparison.pairing import Contender
from nnunetv2_gsp.metrics.case_scores import CaseScores
from nnunetv2_gsp.metrics.segmentations import read_segmentation


def count_identical(
    contenders: tuple[Contender, Contender], scores: tuple[Collection[CaseScores], Collection[CaseScores]]
) -> int:
    """Return the number of cases in which the label maps of two contenders are equal in every voxel.

    Args:
        contenders: two contenders with predictions of the same cases.
        scores: scores of each, in the same order; where they differ, nothing needs to be read.

    Raises:
        InputError: a prediction can't be read.
    """
    differ = {mine["case"] for mine, other in zip(*scores, strict=True) if not _equal(mine, other)}
    first, second = (contender.predictions for contender in contenders)
    cases = dict.fromkeys(entry["case"] for entry in scores[0])
    return sum(_same_labels(first[case], second[case]) for case in cases if case not in differ)


def _equal(mine: Mapping[str, object], other: Mapping[str, object]) -> bool:
    return all(value == other[name] or (value != value and other[name] != other[name]) for name, value in mine.items())


def _same_labels(first: Path, second: Path) -> bool:
    from nnunetv2_gsp.images import parts_of

    if [part.read_bytes() for part in parts_of(first)] == [part.read_bytes() for part in parts_of(second)]:
        return True
    return np.array_equal(read_segmentation(first).labels, read_segmentation(second).labels)
