"""Resamples as nnU-Net does: images at once, and for labels by the voxels of the logits that each lies between."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from nnunetv2.preprocessing.resampling.default_resampling import (
    determine_do_sep_z_and_axis,
    resample_data_or_seg_to_shape,
)
from numpy.typing import NDArray
from torch import Tensor

from nnunetv2_gsp.cpu.library import Taps
from nnunetv2_gsp.nnunet import settings_of_resampling

TAPS = np.dtype(Taps)
_ORDERS = (0, 1)  # of splines: nearest neighbour and linear
_BAND = 64  # rows
_NOTHING = 2.0**-48  # beside weights of about 1: what rounding alone leaves there is a tenth of it
_KNOWN = {"is_seg", "order", "order_z", "force_separate_z", "separate_z_anisotropy_threshold"}


def resampled_image(
    data: NDArray[np.float32],
    size: Sequence[int],
    spacing_mm: Sequence[float],
    new_spacing_mm: Sequence[float],
    *,
    resample: Callable[..., Any],
) -> NDArray[np.float32]:
    """Resample an image to nnU-Net's numbers, in less time and with less memory than its function takes.

    A spline is linear in the image and takes the axes one by one. So what nnU-Net's function makes of a unit matrix is
    the matrix that resamples an axis; products of matrices do the rest, in double precision as there, channel by
    channel. The last bit may differ.

    Args:
        data: image (channels, D, H, W).
        size: shape (D, H, W) that it gets.
        spacing_mm: spacing of its voxels in mm, in the same order.
        new_spacing_mm: spacing of the new voxels in mm.
        resample: `resampling_fn_data` of nnU-Net's ConfigurationManager, which is called where it is not nnU-Net's
            default, or takes thick slices one by one.

    Returns:
        Image (channels, *size), fp32; `data` itself where it has this size.

    Examples:
        >>> resample = partial(resample_data_or_seg_to_shape, order=3, force_separate_z=None)
        >>> arguments = np.eye(9, dtype=np.float32)[None, None], (2, 6, 7), (1.0, 1.0, 1.0), (1.0, 1.5, 1.3)
        >>> np.allclose(resampled_image(*arguments, resample=resample), resample(*arguments), atol=1e-6)
        True
    """
    settings = _settings(resample)
    if settings is None or data.dtype != np.float32 or _thick_axis(settings, spacing_mm, new_spacing_mm) is not None:
        left: NDArray[np.float32] = resample(data, size, spacing_mm, new_spacing_mm)
        return left
    if tuple(data.shape[1:]) == tuple(size):
        return data
    sizes = list(zip(data.shape[1:], map(int, size), strict=True))
    matrices = {pair: _along(*pair, resample) for pair in set(sizes)}
    along = [matrices[pair] for pair in sizes]
    resampled = torch.empty((len(data), *map(int, size)))
    for channel, after in zip(torch.from_numpy(data), resampled, strict=True):
        # a spline overshoots at edges; skimage's resize, which nnU-Net calls, clips it to the range of the channel
        after.copy_(_spline(channel, after.shape, *along)).clamp_(channel.amin(), channel.amax())
    return np.asarray(resampled)


class _Band(NamedTuple):
    """Some rows of a matrix, and the columns in which they are not zero: a spline hardly knows voxels far away."""

    rows: slice
    columns: slice
    weights: Tensor


def _spline(
    channel: Tensor,
    size: Sequence[int],
    along_d: Sequence[_Band] | None,
    along_h: Sequence[_Band] | None,
    along_w: Sequence[_Band] | None,
) -> Tensor:
    """Return a channel (D, H, W) resampled to a size along each axis that has a matrix, fp64."""
    slices = torch.empty((len(channel), *size[1:]), dtype=torch.float64)  # at once: memory of single ones is kept
    for before, after in zip(channel, slices, strict=True):
        after.copy_(_times(along_h, _times(along_w, before.double().T).T))
    resampled: Tensor = _times(along_d, slices.flatten(1)).unflatten(1, slices.shape[1:])
    return resampled


def _times(bands: Sequence[_Band] | None, values: Tensor) -> Tensor:
    """Return the product of a matrix and values (columns, n), or the values as they are where there is no matrix."""
    if bands is None:
        return values
    product = torch.empty((bands[-1].rows.stop, values.shape[1]), dtype=values.dtype)
    for rows, columns, weights in bands:
        torch.matmul(weights, values[columns], out=product[rows])
    return product


def _along(low: int, high: int, resample: Callable[..., Any]) -> list[_Band] | None:
    """Return the matrix (high, low) that resamples an axis, fp64, in bands; None for an axis that stays as it is."""
    if low == high:
        return None
    # two more columns keep the range that the result is clipped to beyond the weights of any spline
    unit = np.hstack([np.eye(low), np.full((low, 1), -2.0), np.full((low, 1), 2.0)])
    resampled = resample(unit[None, None], (1, high, low + 2), (1.0,) * 3, (1.0,) * 3)
    matrix = torch.from_numpy(np.ascontiguousarray(resampled[0, 0, :, :low]))
    return [_band(matrix, slice(first, min(first + _BAND, high))) for first in range(0, high, _BAND)]


def _band(matrix: Tensor, rows: slice) -> _Band:
    columns = (matrix[rows].abs() > _NOTHING).any(0).nonzero()
    within = slice(int(columns[0]), int(columns[-1]) + 1)
    return _Band(rows, within, matrix[rows, within])


def taps_of_image(
    resample: Callable[..., Any],
    low: Sequence[int],
    size: Sequence[int],
    spacing_mm: Sequence[float],
    image_spacing_mm: Sequence[float],
) -> list[NDArray[np.void]] | None:
    """Return the taps along each axis with which nnU-Net resamples logits; None if it does so in another way.

    Args:
        resample: `resampling_fn_probabilities` of nnU-Net's ConfigurationManager.
        low: shape (D, H, W) of the logits.
        size: shape (D, H, W) of the cropped image, in the same order of axes.
        spacing_mm: spacing of the logits' voxels in mm, in the same order.
        image_spacing_mm: spacing of the image's voxels in mm, in the same order.

    Examples:
        >>> resample = partial(resample_data_or_seg_to_shape, order=1, force_separate_z=None)
        >>> along_d, *_ = taps_of_image(resample, (2, 8, 8), (4, 8, 8), (2.0, 1.0, 1.0), (1.0, 1.0, 1.0))
        >>> along_d["first"].tolist(), along_d["second"].tolist(), along_d["weight"].tolist()
        ([0, 0, 0, 1], [0, 1, 1, 1], [0.0, 0.25, 0.75, 0.0])
        >>> taps_of_image(partial(resample, order=3), (2, 8, 8), (4, 8, 8), (2.0, 1.0, 1.0), (1.0, 1.0, 1.0))
    """
    settings = _settings(resample)
    if settings is None:
        return None
    thick_axis, orders = _thick_axis(settings, spacing_mm, image_spacing_mm), [settings["order"]] * len(low)
    if thick_axis is not None:
        orders[thick_axis] = settings["order_z"]
    if not set(orders) <= set(_ORDERS):
        return None
    return [taps_along(*one) for one in zip(low, size, orders, strict=True)]


def taps_along(low: int, size: int, order: int) -> NDArray[np.void]:
    """Return the two voxels of `low` that each of `size` voxels lies between, and the weight of the second.

    The outer edges of first and last voxels coincide, and there is nothing beyond: scipy's `grid_mode` with mode
    "nearest", in the same double precision.

    Args:
        low: number of voxels that are interpolated, from 1 on.
        size: number of voxels that they become, from 1 on.
        order: 0 for the nearest voxel, 1 for linear interpolation.

    Examples:
        >>> taps_along(3, 2, order=0).tolist()
        [(0, 0, 0.0), (2, 2, 0.0)]
    """
    position = np.clip((low / size) * (np.arange(size) + 0.5) - 0.5, 0, low - 1)
    taps = np.empty(size, TAPS)
    if order == 0:
        position = np.floor(position + 0.5)
    taps["first"] = np.floor(position)
    taps["weight"] = position - taps["first"]
    taps["second"] = np.minimum(taps["first"] + (taps["weight"] > 0), low - 1)
    return taps


def _settings(resample: Callable[..., Any]) -> dict[str, Any] | None:
    """Return the settings of nnU-Net's default function; None if it is another, or is called in an unknown way."""
    if not (isinstance(resample, partial) and resample.func is resample_data_or_seg_to_shape) or resample.args:
        return None
    settings = settings_of_resampling(resample.keywords)
    return None if settings["is_seg"] or set(settings) != _KNOWN else settings


def _thick_axis(settings: dict[str, Any], spacing_mm: Sequence[float], new_spacing_mm: Sequence[float]) -> int | None:
    """Return the axis along which slices are resampled one by one; None if all axes are resampled at once."""
    separate_z, axis = determine_do_sep_z_and_axis(
        settings["force_separate_z"], spacing_mm, new_spacing_mm, settings["separate_z_anisotropy_threshold"]
    )
    return int(axis) if separate_z else None
