"""What does a label mean? One table for each edition of a challenge, read forwards to convert and backwards to submit.

Inside nnU-Net every edition of BraTS has the labels of 2023: 1 necrosis (NCR), 2 oedema (ED), 3 enhancing tumour (ET),
and from 2024 on 4 resection cavity (RC). A 4 on disk is ET up to 2022 and RC from 2024 on, so values never tell the
edition.
"""
from collections.abc import Collection, Mapping

import numpy as np

from nnunetv2_gsp.errors import InputError

Labels = Mapping[int, int]

NECROSIS, EDEMA, ENHANCING, CAVITY = 1, 2, 3, 4  # inside nnU-Net

_BRATS_UNTIL_2022 = {0: 0, 1: NECROSIS, 2: EDEMA, 4: ENHANCING}

# on disk -> inside nnU-Net
LABELS: Mapping[str, Labels] = {
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


def inverse(labels: Labels) -> dict[int, int]:
    """Return the table read backwards: inside nnU-Net -> on disk."""
    return {inside: on_disk for on_disk, inside in labels.items()}


def relabel(segmentation: np.ndarray, labels: Labels, name: object = "the segmentation") -> np.ndarray:
    """Replace each label by its partner in the table; any shape and dtype, returned as uint8.

    Args:
        segmentation: labels of any shape.
        labels: old label -> new label.
        name: what an error calls the segmentation, its file for instance.

    Raises:
        InputError: the segmentation holds a value that the table does not know.
    """
    found = check_labels(segmentation, labels, name)
    relabelled = np.zeros(segmentation.shape, np.uint8)
    for label in found:
        relabelled[segmentation == label] = labels[label]
    return relabelled


def check_labels(segmentation: np.ndarray, labels: Collection[int], name: object = "the segmentation") -> list[int]:
    """Return the labels that a segmentation holds; raise InputError if one is not among `labels`."""
    found = np.unique(segmentation).tolist()
    unknown = [value for value in found if value not in labels]
    if unknown:
        raise InputError(f"Expected labels among {sorted(labels)} in {name}, found {_listed(unknown)}; check that it "
                         f"belongs to this edition.")
    return found


def _listed(values: list[float], most: int = 5) -> str:
    shown = ", ".join(f"{value:g}" for value in values[:most])
    return shown if len(values) <= most else f"{shown} and {len(values) - most} more"
