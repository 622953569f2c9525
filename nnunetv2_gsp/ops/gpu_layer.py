"""One layer as one operator of PyTorch: norm, nonlinearity, shift and pooling, then a product, on a GPU by Triton."""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from operator import floordiv
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nnunetv2_gsp.ops.instance_norm import least_deviation

LEAST_TRITON = (3, 6)  # with older ones the kernels were never compiled
Gradients = tuple[Tensor, Tensor, Tensor, Tensor]


class Access(NamedTuple):
    """How a product reads a map of (N, C, D, H, W), D being 1 in 2D: what is shifted, then what is pooled.

    Attributes:
        g_d, g_h, g_w: spatial groups of the group shift.
        shift_channels: how many channels it moves; 0: none.
        first_local: where the channels of the local shift begin, not before those of the group shift end.
        local_channels: how many it moves; 0: none.
        pool_d, pool_h, pool_w: edges of the max-pooling's windows in voxels, divisors of the map.
    """

    g_d: int = 1
    g_h: int = 1
    g_w: int = 1
    shift_channels: int = 0
    first_local: int = 0
    local_channels: int = 0
    pool_d: int = 1
    pool_h: int = 1
    pool_w: int = 1

    @property
    def is_pooled(self) -> bool:
        """Whether a voxel of the product reads more than one of the map."""
        return self.pool_d * self.pool_h * self.pool_w > 1


class Affine(NamedTuple):
    """A norm: (y - mean) · scale + offset, each (N, C) in fp32."""

    mean: Tensor
    scale: Tensor
    offset: Tensor


class Through(NamedTuple):
    """How z counts through its moments: to its gradient comes (dmean + 2 · dvariance · (z - mean)) / voxels."""

    z: Tensor
    mean: Tensor
    dmean: Tensor
    dvariance: Tensor


def pooled(size: Sequence[int], access: Access) -> list[int]:
    """Return the size of a map (*spatial) after the pooling.

    >>> pooled((8, 6, 4), Access(pool_h=2, pool_w=2))
    [8, 3, 2]
    """
    return [voxels // step for voxels, step in zip(size, access[-len(size) :], strict=True)]


def interpolation_factors(low: Sequence[int], size: Sequence[int]) -> list[int]:
    """Return by which factors a map (*low) is interpolated to (*size), its multiple.

    >>> interpolation_factors((4, 4), (8, 4))
    [2, 1]
    """
    return [voxels // few for voxels, few in zip(size, low, strict=True)]


def find_obstacle() -> str:
    """Say why the kernels run on no GPU here; an empty string if they do."""
    try:
        found = version("triton")
    except PackageNotFoundError:
        return "Triton is not installed"
    is_old = tuple(map(int, found.split(".")[:2])) < LEAST_TRITON
    return f"Triton {found} is older than {'.'.join(map(str, LEAST_TRITON))}" if is_old else ""


_INPUTS = "Tensor y, Tensor? mean, Tensor? scale, Tensor? offset, Tensor weight, "


def compute_layer(
    y: Tensor,
    mean: Tensor | None,
    scale: Tensor | None,
    offset: Tensor | None,
    weight: Tensor,
    low: Tensor | None,
    slope: float,
    access: Sequence[int],
    dtype: torch.dtype,
    has_moments: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute z = W · maxpool(shift(leaky_relu((y - mean) · scale + offset))) + up(low), and the moments of z.

    Nothing is kept for the backward pass but the arguments and, with moments, z and its mean.

    Args:
        y: (N, C, *spatial), two or three spatial axes.
        mean: (N, C) in fp32, as `scale` and `offset`; all three are None where `y` is taken as it is.
        scale: of the norm.
        offset: of the norm.
        weight: (channels out, C) in fp32.
        low: (N, channels out, *low), interpolated linearly to the size of z, which is its multiple; or None.
        slope: of leaky ReLU; 0: ReLU, 1: no nonlinearity.
        access: the fields of `Access`.
        dtype: of z; the product's factors are rounded to it, sums are in fp32.
        has_moments: whether mean and variance of z are computed.

    Returns:
        z, (N, channels out, *pooled), and its mean and variance over space, (N, channels out) in fp32; (N, 0) without
        moments.
    """
    from nnunetv2_gsp.ops import layer_kernels

    with torch.cuda.device_of(y):
        return layer_kernels.product(
            y.contiguous(),
            _affine(mean, scale, offset),
            weight.contiguous(),
            low if low is None else low.contiguous(),
            slope,
            Access(*access),
            dtype,
            has_moments,
        )


# for whoever differentiates, compiles or transforms it; where nobody does, the function itself is the shorter way
layer = torch.library.custom_op(
    "nnunetv2_gsp::layer",
    compute_layer,
    mutates_args=(),
    schema=f"({_INPUTS}Tensor? low, float slope, int[] access, ScalarType dtype, bool has_moments) -> "
    f"(Tensor, Tensor, Tensor)",
)


@layer.register_fake
def _(
    y: Tensor,
    mean: Tensor | None,
    scale: Tensor | None,
    offset: Tensor | None,
    weight: Tensor,
    low: Tensor | None,
    slope: float,
    access: Sequence[int],
    dtype: torch.dtype,
    has_moments: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    size = pooled(y.shape[2:], Access(*access))
    channels = weight.shape[0] if has_moments else 0
    mean, variance = (y.new_empty(y.shape[0], channels, dtype=torch.float32) for _ in range(2))
    return y.new_empty(y.shape[0], weight.shape[0], *size, dtype=dtype), mean, variance


@torch.library.custom_op(
    "nnunetv2_gsp::layer_gradients",
    mutates_args=(),
    schema=f"(Tensor dz, Tensor? z, Tensor? z_mean, Tensor? dmean, Tensor? dvariance, {_INPUTS}float slope, "
    f"int[] access, int[] factors, bool needs_weight_only) -> (Tensor, Tensor, Tensor, Tensor)",
)
def layer_gradients(
    dz: Tensor,
    z: Tensor | None,
    z_mean: Tensor | None,
    dmean: Tensor | None,
    dvariance: Tensor | None,
    y: Tensor,
    mean: Tensor | None,
    scale: Tensor | None,
    offset: Tensor | None,
    weight: Tensor,
    slope: float,
    access: Sequence[int],
    factors: Sequence[int],
    needs_weight_only: bool,
) -> Gradients:
    """Return the gradients of y, of scale and offset, of weight and of `low`; empty ones where nobody asks.

    Args:
        dz: of `z` itself.
        z: the product, or None where its moments do not count.
        z_mean: (N, channels out), of z.
        dmean: (N, channels out), of z's mean.
        dvariance: (N, channels out), of z's variance.
        y, mean, scale, offset, weight, slope, access: as in `layer`.
        factors: by which `low` was interpolated, one an axis; none: there was none.
        needs_weight_only: whether no other gradient is asked for.
    """
    from nnunetv2_gsp.ops import layer_kernels

    through = None
    if z is not None:
        assert z_mean is not None and dmean is not None and dvariance is not None  # noqa: PT018
        through = Through(z, z_mean.contiguous(), dmean.contiguous(), dvariance.contiguous())
    inputs = dz.contiguous(), through, y.contiguous(), _affine(mean, scale, offset), weight.contiguous()
    with torch.cuda.device_of(y):
        if needs_weight_only:
            dweight = layer_kernels.gradient_of_weight(*inputs, slope, Access(*access))
            return y.new_empty(0), weight.new_empty(0), dweight, dz.new_empty(0)
        return layer_kernels.gradients(*inputs, slope, Access(*access), factors)


@layer_gradients.register_fake
def _(
    dz: Tensor,
    z: Tensor | None,
    z_mean: Tensor | None,
    dmean: Tensor | None,
    dvariance: Tensor | None,
    y: Tensor,
    mean: Tensor | None,
    scale: Tensor | None,
    offset: Tensor | None,
    weight: Tensor,
    slope: float,
    access: Sequence[int],
    factors: Sequence[int],
    needs_weight_only: bool,
) -> Gradients:
    dweight = torch.empty_like(weight, memory_format=torch.contiguous_format)
    if needs_weight_only:
        return y.new_empty(0), weight.new_empty(0), dweight, dz.new_empty(0)
    return (
        torch.empty_like(y, memory_format=torch.contiguous_format),
        weight.new_empty(2, *y.shape[:2]),
        dweight,
        dz.new_empty(*dz.shape[:2], *map(floordiv, dz.shape[2:], factors)) if factors else dz.new_empty(0),
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    y, mean, scale, offset, weight, low, ctx.slope, ctx.access, _, ctx.has_moments = inputs
    z, z_mean, _ = output
    ctx.factors = [] if low is None else interpolation_factors(low.shape[2:], z.shape[2:])
    ctx.save_for_backward(y, mean, scale, offset, weight, *((z, z_mean) if ctx.has_moments else (None, None)))


def _backward(ctx: Any, dz: Tensor, dmean: Tensor, dvariance: Tensor) -> tuple[Tensor | None, ...]:
    y, mean, scale, offset, weight, z, z_mean = ctx.saved_tensors
    needs_weight_only = not (any(ctx.needs_input_grad[:4]) or ctx.needs_input_grad[5])
    dy, daffine, dweight, dlow = layer_gradients(
        dz,
        z,
        z_mean,
        *((dmean, dvariance) if ctx.has_moments else (None, None)),
        y,
        mean,
        scale,
        offset,
        weight,
        ctx.slope,
        ctx.access,
        ctx.factors,
        needs_weight_only,
    )
    if needs_weight_only:
        return *[None] * 4, dweight, *[None] * 5
    dnorm = [None] * 3 if mean is None else [-scale * daffine[1], *daffine]
    return dy, *dnorm, dweight, dlow if ctx.factors else None, *[None] * 4


layer.register_autograd(_backward, setup_context=_keep)


def norm(
    mean: Tensor,
    variance: Tensor,
    bias: Tensor | None,
    gamma: Tensor | None,
    beta: Tensor | None,
    eps: float,
    dtype: torch.dtype,
) -> Affine:
    """Return `instance_norm` of z + bias as an affine map of z, without a gradient.

    Args:
        mean: of z, (N, C) in fp32.
        variance: of z, (N, C) in fp32.
        bias: of the convolution that made z, (C,); None stands for zeros.
        gamma: scale of each channel, (C,); None stands for ones.
        beta: offset of each channel, (C,); None stands for zeros.
        eps: number added to the variance.
        dtype: of z, which determines the size of rounding errors.
    """
    from nnunetv2_gsp.ops import layer_kernels

    bias, gamma, beta = (each if each is None else each.contiguous() for each in (bias, gamma, beta))
    with torch.cuda.device_of(mean):
        return layer_kernels.norm(
            mean.contiguous(), variance.contiguous(), bias, gamma, beta, eps, least_deviation(dtype) ** 2
        )


def _affine(mean: Tensor | None, scale: Tensor | None, offset: Tensor | None) -> Affine | None:
    if mean is None or scale is None or offset is None:
        return None
    return Affine(mean.contiguous(), scale.contiguous(), offset.contiguous())
