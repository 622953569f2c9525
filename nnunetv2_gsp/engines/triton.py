"""The engine of GPUs: a layer is one kernel forward, and for backward passes only the products are kept.

A norm, nonlinearity, shift or pooling stays pending until the next convolution reads the map: then it is part of the
load, forward and backward.
"""

import math
from collections.abc import Sequence
from functools import partial
from operator import mul
from typing import Any, NamedTuple

import torch
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nnunetv2_gsp.engines.engine import Engine, NotApplicable, NotMeant
from nnunetv2_gsp.engines.known import (
    check,
    check_modules,
    check_pointwise,
    norm_and_nonlinearity,
    pooling_stride,
    shifts_in,
    whole_factors,
)
from nnunetv2_gsp.ops import gpu_layer
from nnunetv2_gsp.ops.gpu_layer import Access, Affine
from nnunetv2_gsp.ops.instance_norm import kept
from nnunetv2_gsp.ops.recording import is_watched

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
    factors: tuple[int, ...]


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
        check(0 < image.shape[0] <= _MOST_SAMPLES, f"{image.shape[0]} samples")
        return Read(image)

    def convolve(self, x: Pending, layer: ConvDropoutNormReLU, shift: nn.Module) -> Read:
        """Compute the product and its moments, and leave norm, nonlinearity and shift pending."""
        norm, nonlinearity = norm_and_nonlinearity(layer, _n_axes(x))
        z, mean, variance = _convolved(x, layer.conv, norm is not None)
        affine = _offset_by(layer.conv.bias, z) if norm is None else _normed(norm, mean, variance, layer.conv.bias, z)
        return Read(z, affine, _slope(nonlinearity), _access_of(shift, z))

    def pool(self, x: Pending, pool: nn.Module) -> Read:
        """Leave the pooling pending."""
        read = _read(x)
        if isinstance(pool, nn.Identity):
            return read
        stride = pooling_stride(pool, read.y.shape[2:])
        check(not read.access.is_pooled, "two poolings in a row")
        pooled = dict(zip(("pool_d", "pool_h", "pool_w"), _three(stride), strict=True))
        return read._replace(access=read.access._replace(**pooled))

    def interpolate(self, x: Pending, interpolation: nn.Module, shift: nn.Module) -> Read | Interpolated:
        """Leave the interpolation pending; where a shift follows, compute it: that needs the interpolated map."""
        low = _read(x)
        factors = whole_factors(interpolation, _n_axes(low))
        if isinstance(shift, nn.Identity):
            return Interpolated(low, factors)
        check(low.access == Access(), "a shift in front of an interpolation")
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
        check(not isinstance(x, Joined), "a concatenation of three maps")
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
        NotMeant: somebody watches operators, or there is no content to compute.
        NotApplicable: there is no Triton, the image is on no GPU that it knows, somebody watches modules, or the
            network has parts with a `forward` of their own; also raised while the network walks through it.
    """
    is_on_gpu = _is_on_gpu(image)
    if image.is_meta and not is_on_gpu:
        raise NotMeant("tensors without content")
    if _OBSTACLE:
        raise NotApplicable(_OBSTACLE)
    if not is_on_gpu:
        raise NotApplicable(
            f"an image on the {image.device.type}, not on an NVIDIA GPU of compute capability "
            f"{'.'.join(map(str, _LEAST_CAPABILITY))} or higher"
        )
    if image.dtype not in _DTYPES:
        raise NotApplicable(f"an image of {image.dtype}")
    if not torch.compiler.is_compiling():
        if is_watched():
            raise NotMeant("operators are recorded, counted or transformed")
        check_modules(network)
    return TRITON


def _is_on_gpu(image: Tensor) -> bool:
    if torch.compiler.is_compiling():  # it does not know how to ask a card
        return image.is_cuda
    return image.is_cuda and torch.cuda.get_device_capability(image.device) >= _LEAST_CAPABILITY


def _convolved(x: Pending, convolution: Any, has_moments: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return the product of a map with a convolution's weight, and its mean and variance, (N, channels out)."""
    if not isinstance(x, Joined):
        read = _read(x)
        check_pointwise(convolution, read.y.shape[1], _n_axes(x))
        return _product(read, convolution.weight.flatten(1), None, has_moments)
    # W·cat(up(u), s) = up(W_u·u) + W_s·s: what belongs to u is computed at the low resolution
    first, factors = x.first if isinstance(x.first, Interpolated) else (x.first, (1,) * _n_axes(x))
    channels, weight = first.y.shape[1], convolution.weight.flatten(1)
    check_pointwise(convolution, channels + x.skip.y.shape[1], _n_axes(x))
    low = _product(first, weight[:, :channels], None, False)[0]
    check(
        list(map(mul, low.shape[2:], factors)) == gpu_layer.pooled(x.skip.y.shape[2:], x.skip.access),
        f"maps of {tuple(low.shape[2:])} times {factors} and {tuple(x.skip.y.shape[2:])} voxels",
    )
    return _product(x.skip, weight[:, channels:], low, has_moments)


def _product(x: Read, weight: Tensor, low: Tensor | None, has_moments: bool) -> tuple[Tensor, Tensor, Tensor]:
    check(x.y.shape[1] == weight.shape[1], f"a weight of {weight.shape[1]} channels for a map of {x.y.shape[1]}")
    size = gpu_layer.pooled(x.y.shape[2:], x.access)
    check(max(math.prod(x.y.shape[1:]), weight.shape[0] * math.prod(size)) < _MOST_ELEMENTS, f"a map of {size} voxels")
    check(not has_moments or math.prod(size) > 1, "InstanceNorm of a single voxel")
    compute: Any = gpu_layer.compute_layer if _is_plain(x.y, weight) else gpu_layer.layer
    return compute(  # type: ignore[no-any-return]
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
    check(weight.dtype == y.dtype, f"weights of {weight.dtype} for a map of {y.dtype}")
    return y.dtype


def _normed(norm: Any, mean: Tensor, variance: Tensor, bias: Tensor | None, z: Tensor) -> Affine:
    """Return `ops.instance_norm` of z + bias as an affine map of z."""
    if _is_plain(mean, norm.weight, norm.bias, bias):
        return gpu_layer.norm(mean, variance, bias, norm.weight, norm.bias, norm.eps, z.dtype)
    scale = kept(mean if bias is None else mean + bias, variance, z.dtype) * torch.rsqrt(variance + norm.eps)
    offset = torch.zeros_like(mean)
    if norm.affine:
        scale, offset = scale * norm.weight, offset + norm.bias
    if bias is not None:
        offset = offset + 0 * bias  # a gradient of 0, not none: whoever trains or averages it asks for one
    return Affine(mean, scale, offset)


def _is_plain(*tensors: Tensor | None) -> bool:
    """Return whether nobody looks at what is computed with these tensors: no gradient, no compiler, no subclass."""
    return (
        not torch.compiler.is_compiling()
        and not torch.is_grad_enabled()
        and all(type(each) in (Tensor, nn.Parameter) for each in tensors if each is not None)
    )


def _offset_by(bias: Tensor | None, z: Tensor) -> Affine | None:
    if bias is None:
        return None
    offset = bias.float().expand(len(z), -1)
    return Affine(torch.zeros_like(offset), torch.ones_like(offset), offset)


def _slope(nonlinearity: Any) -> float:
    """Return the slope below zero of a leaky ReLU, a ReLU or None."""
    if nonlinearity is None:
        return 1.0
    return nonlinearity.negative_slope if type(nonlinearity) is nn.LeakyReLU else 0.0


def _access_of(shift: nn.Module, z: Tensor) -> Access:
    """Return how the shifts behind a layer are read."""
    group_shift, local_shift = shifts_in(shift, z.shape[1], z.shape[2:])
    access = Access()
    if group_shift is not None:
        groups = dict(zip(("g_d", "g_h", "g_w"), _three(group_shift.spatial_groups), strict=True))
        access = access._replace(**groups, shift_channels=group_shift.shift_channels)
    if local_shift is not None:
        access = access._replace(first_local=local_shift.first_channel, local_channels=local_shift.shift_channels)
    return access


def _interpolated(interpolation: nn.Module, slope: float, y: Tensor, *affine: Tensor) -> Tensor:
    return interpolation(Read(y, Affine(*affine) if affine else None, slope).finished())  # type: ignore[no-any-return]


def _read(x: Pending) -> Read:
    check(isinstance(x, Read), "maps in another order than this package has them")
    return x  # type: ignore[return-value]


def _n_axes(x: Pending) -> int:
    """Return the number of spatial axes of a map."""
    return (x.skip if isinstance(x, Joined) else _read(x)).y.ndim - 2


def _three(values: Sequence[int]) -> tuple[int, ...]:
    return (1,) * (3 - len(values)) + tuple(values)
