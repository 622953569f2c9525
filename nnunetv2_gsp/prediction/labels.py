"""Makes labels of an image from logits at the network's resolution; logits of the image itself never exist."""

import ctypes
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from nnunetv2_gsp.cpu.library import FusedLayers, Labelling, Taps, find_fused_layers

Labels = NDArray[np.uint8] | NDArray[np.uint16]
_MAX_CLASSES = 32_766  # that labels.c counts


@dataclass(frozen=True)
class Decision:
    """How logits of a voxel become its label.

    Attributes:
        label_of: without regions, label of each class; with them, 0 for the background, then the label of each region.
        has_regions: True if each region is decided by itself, and the last one whose logit is above 0 gives the label;
            False if the largest logit does, the first one of equal ones.
    """

    label_of: tuple[int, ...]
    has_regions: bool


def write_labels(
    logits: NDArray[np.float32], taps: Sequence[NDArray[np.void]], decision: Decision, labels: Labels
) -> None:
    """Write labels of voxels that lie between those of the logits, on as many threads as torch takes.

    Args:
        logits: logits (classes, D, H, W) at the network's resolution.
        taps: taps along D, H and W as `resampling.taps_along` returns them, one for each voxel of the labels.
        decision: what makes a label of logits.
        labels: array (D, H, W) of uint8 or uint16 that is written to, with any strides.

    Raises:
        MemoryError: there is no memory for two bytes a voxel of the logits.

    Examples:
        >>> from nnunetv2_gsp.prediction.resampling import taps_along
        >>> logits = np.array([[0, 0], [-1, 3]], np.float32).reshape(2, 1, 1, 2)
        >>> labels = np.empty((1, 1, 8), np.uint8)
        >>> write_labels(
        ...     logits, [taps_along(*sizes, 1) for sizes in ((1, 1), (1, 1), (2, 8))], Decision((0, 1), False), labels
        ... )
        >>> labels.tolist()
        [[[0, 0, 0, 1, 1, 1, 1, 1]]]
    """
    layers = find_fused_layers()
    if isinstance(layers, FusedLayers) and len(logits) <= _MAX_CLASSES:
        _write_in_c(layers, logits, taps, decision, labels)
    else:
        _write_in_numpy(logits, taps, decision, labels)


def _write_in_c(
    layers: FusedLayers,
    logits: NDArray[np.float32],
    taps: Sequence[NDArray[np.void]],
    decision: Decision,
    labels: Labels,
) -> None:
    logits = np.ascontiguousarray(logits, np.float32)
    all_taps, label_of = np.concatenate(taps), np.array(decision.label_of, np.int32)
    code = layers.label(
        ctypes.byref(
            Labelling(
                logits.ctypes.data,
                all_taps.ctypes.data_as(ctypes.POINTER(Taps)),
                label_of.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
                labels.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8)),
                labels.strides,
                logits.shape[1:],
                labels.shape,
                len(logits),
                decision.has_regions,
                labels.itemsize,
                torch.get_num_threads(),
            )
        )
    )
    if code:
        raise MemoryError("no memory to make labels of logits")


def _write_in_numpy(
    logits: NDArray[np.float32], taps: Sequence[NDArray[np.void]], decision: Decision, labels: Labels
) -> None:
    """Do the same a slice at a time, as all of them would take the memory that is to be spared."""
    label_of = np.array(decision.label_of, labels.dtype)
    along_d, along_h, along_w = taps
    volumes = logits.astype(np.float32, copy=False)
    for in_slice, tap in zip(labels, along_d, strict=True):
        interpolated = (_between(_between(_between(volume, tap, 0), along_h, 0), along_w, 1) for volume in volumes)
        in_slice[...] = label_of[_winners(interpolated, in_slice.shape, decision.has_regions)]


def _between(values: NDArray[np.float32], taps: NDArray[np.void], axis: int) -> NDArray[np.float32]:
    """Interpolate along an axis; a single tap leaves no axis."""
    first, second = values.take(taps["first"], axis), values.take(taps["second"], axis)
    weight = (
        taps["weight"].reshape([-1 if i == axis else 1 for i in range(first.ndim)]) if taps.ndim else taps["weight"]
    )
    between: NDArray[np.float32] = first + weight * (second - first)
    return between


def _winners(logits: Iterable[NDArray[np.float32]], shape: tuple[int, ...], has_regions: bool) -> NDArray[np.intp]:
    """Return the number of the winning class of each voxel; with regions one more, and 0 where there is none."""
    winner, best = np.zeros(shape, np.intp), np.full(shape, -np.inf, np.float32)
    for number, logit in enumerate(logits):
        if has_regions:
            winner[logit > 0] = number + 1
        else:
            winner[logit > best] = number
            np.maximum(best, logit, out=best)
    return winner
