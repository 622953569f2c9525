"""The engine of GPUs: a layer is one kernel forward, and for backward passes only the products are kept.

A norm, nonlinearity, shift or pooling stays pending until the next convolution reads the map: then it is part of the
load, forward and backward.
"""

import math
from functools import partial
from operator import mul
from typing import Any, NamedTuple

import torch
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.checkpoint import checkpoint

from nnunetv2_gsp.engines.engine import Engine, NotApplicable, NotMeant
from nnunetv2_gsp.engines.part import own_code
from nnunetv2_gsp.ops import (
    GroupShift,
    LinearUpsampling,
    LocalShift,
    PointwiseConv2d,
    PointwiseConv3d,
    SteadyInstanceNorm2d,
    SteadyInstanceNorm3d,
    gpu_layer,
)
from nnunetv2_gsp.ops.gpu_layer import Access, Affine
from nnunetv2_gsp.ops.instance_norm import kept
from nnunetv2_gsp.ops.recording import has_hooks, has_hooks_of_all_modules, is_watched

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, PointwiseConv2d, PointwiseConv3d)
_NORMS = (SteadyInstanceNorm2d, SteadyInstanceNorm3d)
_POOLS = (nn.MaxPool2d, nn.MaxPool3d)
_OBSTACLE = gpu_layer.find_obstacle()
_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
_LEAST_CAPABILITY = (8, 0)  # of a card, for bfloat16 and for copies that run beside the products
_MOST_ELEMENTS = 1 << 31  # of a sample: addresses within it have 32 bits
_MOST_SAMPLES = 65535  # CUDA counts no further along the second axis of a grid


class Read(NamedTuple):
    """A map as the next convolution reads it: a tensor (N, C, *spatial), and what is pending on it."""

    y: Tensor
    affine: Affine | None = None
    slope: float = 1.0  # of the nonlinearity below zero
    access: Access = Access()

    def finished(self) -> Tensor:
        """Return the map with norm and nonlinearity, in the dtype of `y`; no shift or pooling may be pending."""
        y = self.y
        if self.affine is not None:
            mean, scale, offset = (each.view(*each.shape, *[1] * (y.ndim - 2)) for each in self.affine)
            y = (y - mean) * scale + offset
        return nn.functional.leaky_relu(y, self.slope).to(self.y.dtype)


class Interpolated(NamedTuple):
    """A map of a lower resolution that is still to be interpolated."""

    low: Read
    factors: list[int]


class Joined(NamedTuple):
    """Two maps whose channels are still to be concatenated."""

    first: Read | Interpolated
    skip: Read


Pending = Read | Interpolated | Joined


class Triton(Engine[Pending]):
    """Computes with `gpu_layer.layer`; a convolution's bias is added where its product is read.

    In front of a norm a bias has no effect but on what the norm takes for rounding.
    """

    def begin(self, image: Tensor) -> Read:
        """Take the image, (N, C, *patch)."""
        _check(0 < image.shape[0] <= _MOST_SAMPLES, f"{image.shape[0]} samples")
        return Read(image)

    def convolve(self, x: Pending, layer: ConvDropoutNormReLU, shift: nn.Module) -> Read:
        """Compute the product and its moments, and leave norm, nonlinearity and shift pending."""
        norm, slope = _norm_and_slope(layer)
        z, mean, variance = _convolved(x, layer.conv, norm is not None)
        affine = _offset_by(layer.conv.bias, z) if norm is None else _normed(norm, mean, variance, layer.conv.bias, z)
        return Read(z, affine, slope, _access_of(shift, z))

    def pool(self, x: Pending, pool: nn.Module) -> Read:
        """Leave the pooling pending."""
        read = _read(x)
        if isinstance(pool, nn.Identity):
            return read
        stride = _pooling(pool, read.y.shape[2:])
        _check(not read.access.is_pooled, "two poolings in a row")
        pooled = dict(zip(("pool_d", "pool_h", "pool_w"), _three(stride), strict=True))
        return read._replace(access=read.access._replace(**pooled))

    def interpolate(self, x: Pending, interpolation: nn.Module, shift: nn.Module) -> Read | Interpolated:
        """Leave the interpolation pending; where a shift follows, compute it: that needs the interpolated map."""
        low = _read(x)
        factors = _factors(interpolation, low.y.ndim - 2)
        if isinstance(shift, nn.Identity):
            return Interpolated(low, factors)
        _check(low.access == Access(), "a shift in front of an interpolation")
        y = checkpoint(
            partial(_interpolated, interpolation, low.slope),
            low.y,
            *(low.affine or ()),
            use_reentrant=False,
            preserve_rng_state=False,
        )
        return Read(y, access=_access_of(shift, y))

    def join(self, x: Pending, skip: Pending) -> Joined:
        """Leave the concatenation pending."""
        _check(not isinstance(x, Joined), "a concatenation of three maps")
        return Joined(x, _read(skip))  # type: ignore[arg-type]

    def finish(self, x: Pending) -> Pending:
        """Return the map as it is: what is pending costs nothing when it is read."""
        return x

    def head(self, x: Pending, convolution: nn.Module) -> Read:
        """Convolve to logits."""
        logits, bias = _convolved(x, convolution, False)[0], convolution.bias
        if bias is None:
            return Read(logits)
        return Read(logits + bias.to(logits.dtype).view(1, -1, *[1] * (logits.ndim - 2)))  # type: ignore[operator]

    def end(self, logits: Any) -> Tensor | list[Tensor]:
        """Return the logits as tensors."""
        return [each.y for each in logits] if isinstance(logits, list) else logits.y


TRITON = Triton()


def triton(network: Any, image: Tensor) -> Triton:
    """Return the engine for a call of `network`.

    Args:
        network: network to compute, a `Part`.
        image: input of the network, (N, C, *patch).

    Raises:
        NotMeant: somebody watches operators.
        NotApplicable: there is no Triton, the image is on no GPU that it knows, somebody watches modules, or the
            network has parts with a `forward` of their own; also raised while the network walks through it.
    """
    if _OBSTACLE:
        raise NotApplicable(_OBSTACLE)
    if not _is_on_gpu(image):
        raise NotApplicable(
            f"the image is on the {image.device.type}, not on an NVIDIA GPU of compute capability "
            f"{'.'.join(map(str, _LEAST_CAPABILITY))} or higher"
        )
    if image.dtype not in _DTYPES:
        raise NotApplicable(f"an image of {image.dtype}")
    if not torch.compiler.is_compiling():
        _check_modules(network)
    return TRITON


def _check_modules(network: nn.Module) -> None:
    if is_watched():
        raise NotMeant("operators are recorded, counted or transformed")
    if has_hooks_of_all_modules() or any(has_hooks(module) for module in network.modules() if module is not network):
        raise NotApplicable("modules have hooks, which see each of them run")
    for module in network.modules():
        if "forward" in vars(module):
            raise NotApplicable(f"a forward of its own in {type(module).__name__}")
    for part in network.parts():  # type: ignore[operator]
        name = own_code(part)
        if name is not None:
            raise NotApplicable(f"a forward of its own in {name}")


def _is_on_gpu(image: Tensor) -> bool:
    if torch.compiler.is_compiling():  # it does not know how to ask a card
        return image.is_cuda
    return image.is_cuda and torch.cuda.get_device_capability(image.device) >= _LEAST_CAPABILITY


def _convolved(x: Pending, convolution: Any, has_moments: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return the product of a map with a convolution's weight, and its mean and variance, (N, channels out)."""
    _check(
        type(convolution) in _CONVOLUTIONS
        and convolution.groups == 1
        and set(convolution.padding) == {0}
        and {*convolution.kernel_size, *convolution.stride} == {1},
        convolution,
    )
    weight = convolution.weight.flatten(1)
    if not isinstance(x, Joined):
        return _product(_read(x), weight, None, has_moments)
    # W·cat(up(u), s) = up(W_u·u) + W_s·s: what belongs to u is computed at the low resolution
    first, factors = x.first if isinstance(x.first, Interpolated) else (x.first, [1] * (x.skip.y.ndim - 2))
    channels = first.y.shape[1]
    low = _product(first, weight[:, :channels], None, False)[0]
    _check(
        list(map(mul, low.shape[2:], factors)) == gpu_layer.pooled(x.skip.y.shape[2:], x.skip.access),
        f"maps of {tuple(low.shape[2:])} times {factors} and {tuple(x.skip.y.shape[2:])} voxels",
    )
    return _product(x.skip, weight[:, channels:], low, has_moments)


def _product(x: Read, weight: Tensor, low: Tensor | None, has_moments: bool) -> tuple[Tensor, Tensor, Tensor]:
    _check(x.y.shape[1] == weight.shape[1], f"a convolution of {weight.shape[1]} channels for a map of {x.y.shape[1]}")
    size = gpu_layer.pooled(x.y.shape[2:], x.access)
    _check(max(x.y[0].numel(), weight.shape[0] * math.prod(size)) < _MOST_ELEMENTS, f"a map of {size} voxels")
    _check(not has_moments or math.prod(size) > 1, "InstanceNorm of a single voxel")
    return gpu_layer.layer(  # type: ignore[no-any-return]
        x.y,
        *(x.affine or (None,) * 3),
        weight.float(),
        low,
        x.slope,
        list(x.access),
        _dtype_of(x.y, weight),
        has_moments,
    )


def _dtype_of(y: Tensor, weight: Tensor) -> torch.dtype:
    """Return the dtype of a product, as autocast has it."""
    if torch.is_autocast_enabled(y.device.type):
        return torch.get_autocast_dtype(y.device.type)
    _check(weight.dtype == y.dtype, f"weights of {weight.dtype} for a map of {y.dtype}")
    return y.dtype


def _normed(norm: Any, mean: Tensor, variance: Tensor, bias: Tensor | None, z: Tensor) -> Affine:
    """Return `ops.instance_norm` of z + bias as an affine map of z."""
    scale = kept(mean if bias is None else mean + bias, variance, z.dtype) * torch.rsqrt(variance + norm.eps)
    offset = torch.zeros_like(mean)
    if norm.affine:
        scale, offset = scale * norm.weight, offset + norm.bias
    if bias is not None:
        offset = offset + 0 * bias  # a gradient of 0, not none: whoever trains or averages it asks for one
    return Affine(mean, scale, offset)


def _offset_by(bias: Tensor | None, z: Tensor) -> Affine | None:
    if bias is None:
        return None
    offset = bias.float().expand(len(z), -1)
    return Affine(torch.zeros_like(offset), torch.ones_like(offset), offset)


def _norm_and_slope(layer: Any) -> tuple[Any, float]:
    """Return the norm of a ConvDropoutNormReLU or None, and its nonlinearity's slope, checked to come in this order."""
    convolution, *rest = [module for module in layer.all_modules if not _does_nothing(module)]
    slope = 1.0
    if rest and type(rest[-1]) in (nn.LeakyReLU, nn.ReLU):
        slope = rest[-1].negative_slope if type(rest[-1]) is nn.LeakyReLU else 0.0
        rest = rest[:-1]
    _check(
        convolution is layer.conv
        and len(rest) <= 1
        and all(type(norm) in _NORMS and not norm.track_running_stats for norm in rest),
        layer,
    )
    return rest[0] if rest else None, slope


def _does_nothing(module: nn.Module) -> bool:
    return isinstance(module, _DropoutNd) and (module.p == 0 or not module.training)


def _pooling(pool: Any, size: tuple[int, ...]) -> tuple[int, ...]:
    """Return the stride of a max-pooling that divides the map."""
    n_axes = len(size)
    _check(
        type(pool) in _POOLS
        and pool.kernel_size == pool.stride
        and not pool.ceil_mode
        and not pool.return_indices
        and _each(pool.padding, n_axes) == (0,) * n_axes
        and _each(pool.dilation, n_axes) == (1,) * n_axes,
        pool,
    )
    stride = _each(pool.stride, n_axes)
    _check(all(n % step == 0 for n, step in zip(size, stride, strict=True)), f"{pool} of {tuple(size)} voxels")
    return stride


def _factors(interpolation: Any, n_axes: int) -> list[int]:
    """Return the whole factors of an interpolation."""
    _check(
        type(interpolation) is LinearUpsampling
        and not interpolation.align_corners
        and isinstance(interpolation.scale_factor, tuple)
        and len(interpolation.scale_factor) == n_axes
        and all(factor == int(factor) for factor in interpolation.scale_factor),
        interpolation,
    )
    return [int(factor) for factor in interpolation.scale_factor]


def _access_of(shift: nn.Module, z: Tensor) -> Access:
    """Return how the shifts behind a layer are read; their order is of no matter where they move different channels."""
    size, channels, access = z.shape[2:], z.shape[1], Access()
    for part in shift if isinstance(shift, nn.Sequential) else [shift]:
        if type(part) is GroupShift and access.shift_channels == 0:
            groups, moved = part.spatial_groups, part.shift_channels
            _check(
                len(groups) == len(size)
                and min(groups) > 0
                and 0 < moved <= channels
                and moved % math.prod(groups) == 0
                and all(n % count == 0 for n, count in zip(size, groups, strict=True)),
                part,
            )
            access = access._replace(
                **dict(zip(("g_d", "g_h", "g_w"), _three(groups), strict=True)), shift_channels=moved
            )
        elif type(part) is LocalShift and access.local_channels == 0:
            first, moved = part.first_channel, part.shift_channels
            _check(first >= 0 and 0 < moved <= channels - first and moved % (2 * len(size)) == 0, part)
            access = access._replace(first_local=first, local_channels=moved)
        else:
            _check(isinstance(part, nn.Identity), part)
    _check(access.local_channels == 0 or access.first_local >= access.shift_channels, shift)
    return access


def _interpolated(interpolation: nn.Module, slope: float, y: Tensor, *affine: Tensor) -> Tensor:
    return interpolation(Read(y, Affine(*affine) if affine else None, slope).finished())  # type: ignore[no-any-return]


def _read(x: Pending) -> Read:
    _check(isinstance(x, Read), "maps in another order than this package has them")
    return x  # type: ignore[return-value]


def _three(values: tuple[int, ...]) -> tuple[int, ...]:
    return (1,) * (3 - len(values)) + tuple(values)


def _each(value: int | tuple[int, ...], n_axes: int) -> tuple[int, ...]:
    return (value,) * n_axes if isinstance(value, int) else tuple(value)


def _check(is_known: bool, what: object) -> None:
    if not is_known:
        raise NotApplicable(f"not known to the Triton kernels: {what}")
