"""Measures the overlap of two masks (Dice), their volumes, and the relative difference of these."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


def dice(reference: Mask, prediction: Mask) -> float:
    """Return the Dice score, twice the common volume over the sum of both volumes, 0 to 1; NaN if both are empty.

    Args:
        reference: bool, any shape.
        prediction: bool, the same shape.

    Examples:
        >>> dice(np.array([True, True, False]), np.array([False, True, True]))
        0.5
    """
    total = np.count_nonzero(reference) + np.count_nonzero(prediction)
    return float(2 * np.count_nonzero(reference & prediction) / total) if total else float("nan")


def volume_mm3(mask: Mask, spacing_mm: Sequence[float]) -> float:
    """Return the volume of a mask in mm³; of a mask with two axes the area in mm².

    Args:
        mask: bool, any shape.
        spacing_mm: edge of a voxel along each axis of the mask, in their order.

    Examples:
        >>> volume_mm3(np.ones((2, 3, 4), bool), (3.0, 0.5, 1.0))
        36.0
    """
    return float(np.count_nonzero(mask) * np.prod(spacing_mm))


def absolute_relative_volume_difference(reference_mm3: float, prediction_mm3: float) -> float:
    """Return |prediction - reference| / reference in percent, from 0 on; NaN for an empty reference.

    Args:
        reference_mm3: volume of the reference in mm³, from 0 on.
        prediction_mm3: volume of the prediction in mm³, from 0 on.

    Examples:
        >>> absolute_relative_volume_difference(40.0, 50.0)
        25.0
    """
    return 100 * abs(prediction_mm3 - reference_mm3) / reference_mm3 if reference_mm3 else float("nan")
