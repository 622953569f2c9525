"""Dilates masks and tells components apart, as BraTS's codes do, on whole arrays at a time."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nnunetv2_gsp.metrics.overlap import Mask

Numbers = npt.NDArray[np.integer[Any]]  # 0 is background, the components count from 1 on
Box = tuple[slice, ...]


def dilate(mask: Mask, times: int) -> Mask:
    """Dilate a mask by the voxels that share a face or an edge with it, as often as asked.

    Args:
        mask: bool (D, H, W).
        times: number of dilations, from 0 on.

    Examples:
        >>> point = np.zeros((3, 3, 3), bool)
        >>> point[1, 1, 1] = True
        >>> int(dilate(point, 1).sum())  # 27 without the 8 corners
        19
    """
    for _ in range(times):
        # of three squares of 3x3 voxels, each the dilation of a line
        along = [_dilate_along(mask, axis) for axis in (0, 1)]
        mask = _dilate_along(along[0], 1) | _dilate_along(along[0], 2) | _dilate_along(along[1], 2)
    return mask


def components(mask: Mask) -> tuple[Numbers, int]:
    """Return the components of a mask, whose voxels share a face, an edge or a corner, and how many they are.

    Args:
        mask: bool, any shape.

    Examples:
        >>> numbers, n = components(np.array([[True, False, False], [False, True, False], [False, False, False]]))
        >>> numbers.max().item(), n
        (1, 1)
    """
    numbers: Numbers
    numbers, n = ndimage.label(mask, ndimage.generate_binary_structure(mask.ndim, mask.ndim))
    return numbers, n


def touching(numbers: Numbers, others: Numbers) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield the numbers of components that share a face or an edge, or a voxel, one pair of arrays for each direction.

    Args:
        numbers: integers (D, H, W), 0 for background.
        others: integers of the same shape, 0 for background.

    Examples:
        >>> numbers, others = np.array([[[0, 7, 0, 0]]]), np.array([[[0, 0, 9, 0]]])
        >>> {pair for these, those in touching(numbers, others) for pair in zip(these.tolist(), those.tolist())}
        {(7, 9)}
    """
    if not others.any():
        return
    near = np.argwhere((others > 0) & dilate(numbers > 0, 1))
    those = others[tuple(near.T)]
    padded = np.pad(numbers, 1)
    for offset in np.argwhere(ndimage.generate_binary_structure(3, 2)):
        these = padded[tuple((near + offset).T)]
        yield these[these > 0], those[these > 0]


def box_around(mask: Mask, room: int = 0) -> Box:
    """Return the box around a mask's voxels with room on all sides, within the array; one voxel where it is empty.

    Args:
        mask: bool, any shape.
        room: voxels to each side, from 0 on.

    Examples:
        >>> box_around(np.array([False, False, True, False, False]), room=1)
        (slice(1, 4, None),)
    """
    found = ndimage.find_objects(mask.view(np.uint8))
    return with_room(found[0], room) if found else (slice(0, 1),) * mask.ndim


def with_room(box: Box, room: int) -> Box:
    """Return a box with room on all sides, cut where the array begins.

    Args:
        box: a slice for each axis.
        room: voxels to each side, from 0 on.

    Examples:
        >>> with_room((slice(1, 4),), 2)
        (slice(0, 6, None),)
    """
    return tuple(slice(max(0, axis.start - room), axis.stop + room) for axis in box)


def union_of(boxes: list[Box]) -> Box:
    """Return the smallest box that holds all boxes.

    Args:
        boxes: one or more, each a slice for each axis.

    Examples:
        >>> union_of([(slice(1, 4),), (slice(2, 9),)])
        (slice(1, 9, None),)
    """
    return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*boxes, strict=True))


def _dilate_along(mask: Mask, axis: int) -> Mask:
    dilated, source = np.moveaxis(mask.copy(), axis, 0), np.moveaxis(mask, axis, 0)
    dilated[1:] |= source[:-1]
    dilated[:-1] |= source[1:]
    return np.moveaxis(dilated, 0, axis)
