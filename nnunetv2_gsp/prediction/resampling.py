"""Says which voxels of the network's resolution each voxel of an image lies between, as nnU-Net's resampling does."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from nnunetv2.configuration import ANISO_THRESHOLD
from nnunetv2.preprocessing.resampling.default_resampling import (
    determine_do_sep_z_and_axis,
    resample_data_or_seg_to_shape,
)
from numpy.typing import NDArray

from nnunetv2_gsp.cpu.library import Taps

TAPS = np.dtype(Taps)
_ORDERS = (0, 1)  # of splines: nearest neighbour and linear
_DEFAULTS = {  # of nnU-Net's function
    "is_seg": False,
    "order": 3,
    "order_z": 0,
    "force_separate_z": False,
    "separate_z_anisotropy_threshold": ANISO_THRESHOLD,
}


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
    separate_z, axis = determine_do_sep_z_and_axis(
        settings["force_separate_z"], spacing_mm, image_spacing_mm, settings["separate_z_anisotropy_threshold"]
    )
    orders = [settings["order"]] * len(low)
    if separate_z:
        orders[axis] = settings["order_z"]
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
    """Return the arguments of nnU-Net's default function; None if it is another, or is called in an unknown way."""
    if not (isinstance(resample, partial) and resample.func is resample_data_or_seg_to_shape) or resample.args:
        return None
    settings = {**_DEFAULTS, **resample.keywords}
    return None if settings["is_seg"] or set(settings) != set(_DEFAULTS) else settings
