"""Cuts the prostate into apex, mid and base, thirds of the reference from foot to head, as in PROMISE12."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from nnunetv2_gsp.metrics.overlap import Mask

IN_WORDS = (
    "Apex, mid and base are thirds of the reference's slices from foot to head; both masks are cut there, and "
    "what a prediction has beyond the reference counts towards the adjacent third."
)
THIRDS = ("apex", "mid", "base")


def thirds(reference: Mask, prediction: Mask, direction: npt.NDArray[np.float64]) -> Iterator[tuple[str, Mask, Mask]]:
    """Yield each third's name with both masks cut to it; if the reference is empty, the prediction is cut in thirds.

    Args:
        reference: bool (D, H, W).
        prediction: bool (D, H, W).
        direction: float (3, 3), the cosines of the image as SimpleITK has them: columns are the directions of W, H and
            D, rows are left, posterior and superior.

    Examples:
        >>> reference = np.ones((7, 1, 1), bool)
        >>> [(name, int(part.sum())) for name, part, _ in thirds(reference, reference, np.eye(3))]
        [('apex', 2), ('mid', 3), ('base', 2)]
    """
    towards_head = direction[2, ::-1]  # (D, H, W)
    axis = int(np.argmax(np.abs(towards_head)))
    extent = reference if reference.any() else prediction
    slices = np.flatnonzero(extent.any(axis=tuple(other for other in range(3) if other != axis)))
    if towards_head[axis] < 0:
        reference, prediction = np.flip(reference, axis), np.flip(prediction, axis)
        slices = reference.shape[axis] - 1 - slices[::-1]
    first, last = (slices[0], slices[-1] + 1) if len(slices) else (0, 0)
    lower, upper = first + round((last - first) / 3), first + round(2 * (last - first) / 3)
    for name, (start, stop) in zip(THIRDS, ((0, lower), (lower, upper), (upper, reference.shape[axis])), strict=True):
        is_here = np.zeros(reference.shape[axis], bool)
        is_here[start:stop] = True
        here = np.expand_dims(is_here, [other for other in range(3) if other != axis])
        yield name, reference & here, prediction & here
