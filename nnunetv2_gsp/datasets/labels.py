"""Label tables, one for each edition of a challenge: applied forwards to convert data, and backwards to submit.

Inside nnU-Net every edition of BraTS has the labels of 2023: 1 necrosis (NCR), 2 oedema (ED), 3 enhancing tumour (ET),
and from 2024 on 4 resection cavity (RC). A 4 on disk is ET up to 2022 and RC from 2024 on, so values never tell the
edition.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from nnunetv2_gsp.errors import ConflictingInputError

LabelMapping = Mapping[int, int]

NECROSIS, EDEMA, ENHANCING, CAVITY = 1, 2, 3, 4  # inside nnU-Net

_BRATS_UNTIL_2022 = {0: 0, 1: NECROSIS, 2: EDEMA, 4: ENHANCING}

# on disk -> inside nnU-Net
LABEL_MAPPINGS: Mapping[str, LabelMapping] = {
    "brats2018": _BRATS_UNTIL_2022,
    "brats2019": _BRATS_UNTIL_2022,
    "brats2020": _BRATS_UNTIL_2022,
    "brats2021": _BRATS_UNTIL_2022,
    "brats2023": {0: 0, 1: NECROSIS, 2: EDEMA, 3: ENHANCING},
    "brats2024": {0: 0, 1: NECROSIS, 2: EDEMA, 3: ENHANCING, 4: CAVITY},
    "promise12": {0: 0, 1: 1},
    "msd_task01": {0: 0, 1: EDEMA, 2: NECROSIS, 3: ENHANCING},
    "msd_task05": {0: 0, 1: 1, 2: 2},
}


def inverse(mapping: LabelMapping) -> dict[int, int]:
    """Return the inverse mapping.

    Args:
        mapping: old label -> new label; no new label occurs twice.

    Examples:
        >>> inverse({0: 0, 1: 1, 2: 2, 4: 3})
        {0: 0, 1: 1, 2: 2, 3: 4}
    """
    return {new: old for old, new in mapping.items()}


def relabel(segmentation: np.ndarray, mapping: LabelMapping, file: Path | str | None = None) -> np.ndarray:
    """Return the segmentation with each label replaced by its partner in the mapping, as uint8.

    Args:
        segmentation: array of labels, any shape and dtype.
        mapping: old label -> new label, from 0 to 255.
        file: file that the segmentation was read from, for the error; None names none.

    Raises:
        ConflictingInputError: the segmentation holds a value that is not a key of the mapping.

    Examples:
        >>> relabel(np.array([[0, 1], [2, 4]]), LABEL_MAPPINGS["brats2021"])
        array([[0, 1],
               [2, 3]], dtype=uint8)
    """
    found = check_labels(segmentation, mapping, file)
    relabelled = np.zeros(segmentation.shape, np.uint8)
    for label in found:
        relabelled[segmentation == label] = mapping[label]
    return relabelled


def check_labels(segmentation: np.ndarray, labels: Collection[int], file: Path | str | None = None) -> list[int]:
    """Return the labels of a segmentation in ascending order, after checking that all of them are allowed.

    Args:
        segmentation: array of labels, any shape and dtype.
        labels: labels that the segmentation may hold.
        file: file that the segmentation was read from, for the error; None names none.

    Raises:
        ConflictingInputError: the segmentation holds a value that is not allowed.

    Examples:
        >>> check_labels(np.array([[0, 0], [3, 1]]), [0, 1, 2, 3])
        [0, 1, 3]
    """
    found: list[int] = np.unique(segmentation).tolist()
    unknown = [value for value in found if value not in labels]
    if unknown:
        raise ConflictingInputError(
            f"labels among {sorted(labels)}",
            _listed(unknown),
            where=file,
            remedy="check that the file belongs to this edition of the challenge",
        )
    return found


def _listed(values: list[int], most: int = 5) -> str:
    shown = ", ".join(f"{value:g}" for value in values[:most])
    return shown if len(values) <= most else f"{shown} and {len(values) - most} more"
