"""Makes labels of an image from logits at the network's resolution; logits of the image itself never exist."""

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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


def write_labels(logits: Tensor, taps: Sequence[NDArray[np.void]], decision: Decision, labels: Labels) -> None:
    """Write labels of voxels that lie between those of the logits.

    On the CPU they are made on as many threads as torch takes; on another device there, and labels alone leave it.

    Args:
        logits: logits (classes, D, H, W) at the network's resolution, in floating-point numbers, on any device.
        taps: taps along D, H and W as `resampling.taps_along` returns them, one for each voxel of the labels.
        decision: what makes a label of logits.
        labels: array (D, H, W) of uint8 or uint16 that is written to, with any strides.

    Raises:
        MemoryError: there is no memory for two bytes a voxel of the logits.
        torch.OutOfMemoryError: the device has no memory for a slice of all classes.

    Examples:
        >>> from nnunetv2_gsp.prediction.resampling import taps_along
        >>> logits = torch.tensor([[0.0, 0.0], [-1.0, 3.0]]).view(2, 1, 1, 2)
        >>> labels = np.empty((1, 1, 8), np.uint8)
        >>> write_labels(
        ...     logits, [taps_along(*sizes, 1) for sizes in ((1, 1), (1, 1), (2, 8))], Decision((0, 1), False), labels
        ... )
        >>> labels.tolist()
        [[[0, 0, 0, 1, 1, 1, 1, 1]]]
    """
    layers = find_fused_layers()
    if logits.device.type == "cpu" and isinstance(layers, FusedLayers) and len(logits) <= _MAX_CLASSES:
        _write_in_c(layers, logits.float().numpy(), taps, decision, labels)
    else:
        _write_in_torch(logits, taps, decision, labels)


def _write_in_c(
    layers: FusedLayers,
    logits: NDArray[np.float32],
    taps: Sequence[NDArray[np.void]],
    decision: Decision,
    labels: Labels,
) -> None:
    if not logits[0].flags.c_contiguous:
        logits = np.ascontiguousarray(logits)
    all_taps, label_of = np.concatenate(taps), np.array(decision.label_of, np.int32)
    code = layers.label(
        ctypes.byref(
            Labelling(
                logits.ctypes.data,
                logits.strides[0] // logits.itemsize,
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


def _write_in_torch(logits: Tensor, taps: Sequence[NDArray[np.void]], decision: Decision, labels: Labels) -> None:
    """Do the same a slice at a time, as all of them would take the memory that is to be spared."""
    few_bytes = torch.uint8 if labels.itemsize == 1 else torch.int32  # as they leave the device
    label_of = torch.tensor(decision.label_of, dtype=few_bytes, device=logits.device)
    along_d, *in_slices = taps
    along_h, along_w = (_on_device(tap, logits.device) for tap in in_slices)
    for tap, in_slice in zip(along_d, labels, strict=True):
        first, second = (logits[:, int(tap[name])].float() for name in ("first", "second"))
        low = first + float(tap["weight"]) * (second - first)
        winners = _winners(_between(_between(low, along_h, 1), along_w, 2), decision.has_regions)
        in_slice[...] = label_of[winners].cpu().numpy()


def _on_device(taps: NDArray[np.void], device: torch.device) -> dict[str, Tensor]:
    kinds = {"first": np.int64, "second": np.int64, "weight": np.float32}
    return {name: torch.from_numpy(taps[name].astype(kind)).to(device) for name, kind in kinds.items()}


def _between(values: Tensor, taps: Mapping[str, Tensor], axis: int) -> Tensor:
    """Interpolate (classes, H, W) along an axis."""
    first, second = (values.index_select(axis, taps[name]) for name in ("first", "second"))
    return first + taps["weight"].view([-1 if i == axis else 1 for i in range(values.ndim)]) * (second - first)


def _winners(logits: Tensor, has_regions: bool) -> Tensor:
    """Return the number of the winning class of each voxel; with regions one more, and 0 where there is none."""
    if not has_regions:
        return logits.argmax(0)  # the first one of equal ones
    numbers = torch.arange(1, len(logits) + 1, device=logits.device).view(-1, 1, 1)
    return ((logits > 0) * numbers).amax(0)
