"""Applies a challenge's label table, forwards to convert data and backwards to submit."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from nnunetv2_gsp.errors import ConflictingInputError
from nnunetv2_gsp.wording import first_few

LabelMapping = Mapping[int, int]

_NEARLY_WHOLE = 1e-3  # how far a header's scaling moves labels


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
        >>> relabel(np.array([[0, 1], [2, 4]]), {0: 0, 1: 1, 2: 2, 4: 3})
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
        whole = all(value == round(value) for value in unknown if np.isfinite(value))
        raise ConflictingInputError(
            f"labels among {sorted(labels)}",
            _listed(unknown),
            where=file,
            remedy="check that the file belongs to this edition of the challenge"
            if whole
            else "save it as integers: a header that scales them (scl_slope) leaves others",
        )
    return found


def whole_labels(segmentation: np.ndarray) -> tuple[np.ndarray, str]:
    """Return labels without the fractions that a header's scaling leaves, and a note on them, or "".

    Args:
        segmentation: array of labels, any shape and dtype; values within 0.001 of a whole number become that number.

    Examples:
        >>> whole_labels(np.array([0, 1.00002]))
        (array([0., 1.]), '1.00002 is taken as 1: its header scales the labels (scl_slope)')
    """
    if np.issubdtype(segmentation.dtype, np.integer):
        return segmentation, ""
    values = np.unique(segmentation)
    scaled = values[(values != np.rint(values)) & (np.abs(values - np.rint(values)) <= _NEARLY_WHOLE)]
    if not scaled.size:
        return segmentation, ""
    whole = np.rint(segmentation)
    rounded = np.where(np.abs(segmentation - whole) <= _NEARLY_WHOLE, whole, segmentation)
    return rounded, (
        f"{_listed(scaled.tolist())} {'is' if scaled.size == 1 else 'are'} taken as "
        f"{_listed(np.rint(scaled).tolist())}: its header scales the labels (scl_slope)"
    )


def _listed(values: Sequence[float]) -> str:
    return first_few([f"{value:g}" for value in values])
