"""What the engines that compute layers themselves know of a network's modules; the rest is for the others."""

import logging
import math
from collections.abc import Sequence
from typing import Any

from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from nnunetv2_gsp.engines.engine import NotApplicable
from nnunetv2_gsp.engines.part import own_code
from nnunetv2_gsp.ops import (
    GroupShift,
    LinearUpsampling,
    LocalShift,
    PointwiseConv2d,
    PointwiseConv3d,
    SteadyInstanceNorm2d,
    SteadyInstanceNorm3d,
)
from nnunetv2_gsp.ops.recording import has_hooks, has_hooks_of_all_modules

# whose `forward` is known here; a module from elsewhere may compute anything
_CODE = ("torch.nn.modules.", "nnunetv2_gsp.", "dynamic_network_architectures.")
_CONVOLUTIONS = {2: (nn.Conv2d, PointwiseConv2d), 3: (nn.Conv3d, PointwiseConv3d)}
_NORMS = {2: SteadyInstanceNorm2d, 3: SteadyInstanceNorm3d}
_POOLS = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
_INTERPOLATIONS = {2: "bilinear", 3: "trilinear"}


def check(is_known: bool, what: object) -> None:
    """Raise NotApplicable, which names a module or what else is not known."""
    if not is_known:
        raise NotApplicable(f"{what}, which it does not know", logging.INFO)  # plans may well ask for it


def check_modules(network: Any) -> None:
    """Raise NotApplicable if somebody wants to see each module run, or code would run that is not known here.

    Args:
        network: network to compute, a `Part`. Hooks of its own see one call, whoever computes it.
    """
    for part in network.parts():
        name = own_code(part)
        if name is not None:
            raise NotApplicable(f"a forward of its own in {name}")
    has_hooks_of_all = has_hooks_of_all_modules()
    # in every call, for hooks may come at any time: so not by `modules()`, which takes three times as long
    modules = [*network._modules.values()]
    for module in modules:
        if module is not None:
            name = type(module).__name__
            if has_hooks_of_all or "forward" in vars(module) or has_hooks(module):
                raise NotApplicable(f"hooks or a forward of its own in {name}")
            if not type(module).__module__.startswith(_CODE):
                raise NotApplicable(f"code that is not known here: {name}")
            modules += module._modules.values()


def check_pointwise(convolution: Any, channels: int, n_axes: int) -> None:
    """Raise NotApplicable unless the convolution is a plain 1×1×1 one of a map of so many channels."""
    check(
        type(convolution) in _CONVOLUTIONS[n_axes]
        and convolution.groups == 1
        and {*convolution.kernel_size, *convolution.stride} == {1}
        and set(convolution.padding) == {0},
        convolution,
    )
    n_read = convolution.in_channels
    check(n_read == channels, f"a convolution of {n_read} channels for a map of {channels}")


def norm_and_nonlinearity(layer: ConvDropoutNormReLU, n_axes: int) -> tuple[Any | None, Any | None]:
    """Return what follows the convolution, None where there is none; dropout must drop nothing.

    Args:
        layer: convolution, dropout, instance norm, and leaky ReLU or ReLU, in this order.
        n_axes: number of spatial axes, 2 or 3.

    Raises:
        NotApplicable: there is anything else in the layer, or in another order.
    """
    modules: Any = layer.all_modules
    rest = [module for module in modules if not _drops_nothing(module)]
    convolution = rest.pop(0)  # not by a starred target, which the compiler of torch 2.11 takes for a tuple
    nonlinearity = rest.pop() if rest and type(rest[-1]) in (nn.LeakyReLU, nn.ReLU) else None
    norm = rest.pop() if rest and type(rest[-1]) is _NORMS[n_axes] and not rest[-1].track_running_stats else None
    check(convolution is layer.conv and not rest, rest[-1] if rest else layer)
    return norm, nonlinearity


def pooling_stride(pool: Any, size: Sequence[int]) -> tuple[int, ...]:
    """Return the stride of a max-pooling, in voxels along each axis.

    Raises:
        NotApplicable: windows overlap, leave out voxels of a map of this size, or are anything but maxima.
    """
    n_axes = len(size)
    check(
        type(pool) is _POOLS[n_axes]
        and pool.kernel_size == pool.stride
        and not pool.ceil_mode
        and not pool.return_indices
        and _each(pool.padding, n_axes) == (0,) * n_axes
        and _each(pool.dilation, n_axes) == (1,) * n_axes,
        pool,
    )
    stride = _each(pool.stride, n_axes)
    check(
        all(n % step == 0 for n, step in zip(size, stride, strict=True)), f"pooling by {stride} of {tuple(size)} voxels"
    )
    return stride


def whole_factors(interpolation: Any, n_axes: int) -> tuple[int, ...]:
    """Return the factors of a linear interpolation along each axis.

    Raises:
        NotApplicable: it is another one, or a factor is no whole number.
    """
    check(
        type(interpolation) is LinearUpsampling
        and interpolation.mode == _INTERPOLATIONS[n_axes]
        and not interpolation.align_corners
        and isinstance(interpolation.scale_factor, tuple)
        and len(interpolation.scale_factor) == n_axes
        and all(factor == int(factor) for factor in interpolation.scale_factor),
        interpolation,
    )
    return tuple(map(int, interpolation.scale_factor))


def shifts_in(shift: nn.Module, channels: int, size: Sequence[int]) -> tuple[GroupShift | None, LocalShift | None]:
    """Return the shifts behind a layer, whose order is of no matter where they move different channels.

    Args:
        shift: a shift, the identity, or an nn.Sequential of them.
        channels: channels of the map that is shifted.
        size: its size in voxels along each axis.

    Raises:
        NotApplicable: there are two of a kind, they move the same channels, or do not fit the map.
    """
    group_shift = local_shift = None
    for part in shift if isinstance(shift, nn.Sequential) else [shift]:
        if type(part) is GroupShift and group_shift is None:
            group_shift = part
        elif type(part) is LocalShift and local_shift is None:
            local_shift = part
        else:
            check(isinstance(part, nn.Identity), part)
    n_shifted = 0
    if group_shift is not None:
        groups, n_shifted = group_shift.spatial_groups, group_shift.shift_channels
        check(
            len(groups) == len(size)
            and min(groups) > 0
            and 0 < n_shifted <= channels
            and n_shifted % math.prod(groups) == 0
            and all(n % count == 0 for n, count in zip(size, groups, strict=True)),
            group_shift,
        )
    if local_shift is not None:
        first, n_local = local_shift.first_channel, local_shift.shift_channels
        check(n_shifted <= first and 0 < n_local <= channels - first and n_local % (2 * len(size)) == 0, local_shift)
    return group_shift, local_shift


def _drops_nothing(module: nn.Module) -> bool:
    return isinstance(module, _DropoutNd) and (module.p == 0 or not module.training)


def _each(value: int | tuple[int, ...], n_axes: int) -> tuple[int, ...]:
    return (value,) * n_axes if isinstance(value, int) else tuple(value)
