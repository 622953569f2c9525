"""InstanceNorm that returns β where a map is constant up to rounding, instead of amplifying the rounding errors."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from nnunetv2_gsp.ops.recording import is_watched

# A channel that varies by less than this part of its map's values is constant. In fp32 rounding makes 2^-24 of them, so
# what a norm lets pass is known to three digits at least.
LEAST_DEVIATION = 2.0**-14

_moments_of = torch.ops.aten.batch_norm_update_stats
_backward_of = torch.ops.aten.native_batch_norm_backward


def least_deviation(dtype: torch.dtype) -> float:
    """Return the smallest deviation, as a fraction of the map's values, that exceeds rounding errors.

    In half precision a rounding error alone exceeds `LEAST_DEVIATION`: 2^-11 in fp16, 2^-8 in bf16.

    Example:
        >>> least_deviation(torch.float32) == 2**-14, least_deviation(torch.bfloat16) == 2**-8
        (True, True)
    """
    return max(LEAST_DEVIATION, torch.finfo(dtype).eps / 2)


def instance_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Normalise each channel of each sample: keep · γ · (x - mean) / √(variance + eps) + β.

    `torch.nn.functional.instance_norm` divides by √eps where nothing but rounding varies, which multiplies it by 316.
    Cyclic shifts leave no border that would make a map vary, so three such layers fill a patch of air with noise as
    large as any signal. Here

        keep = variance / T - 1 within 0 and 1,   T = (least_deviation · M)²,   M² = mean over the channels of mean²

    which is 1 for every channel that varies by more than a ten-thousandth of the map's values (in fp16 by 0.07 %, in
    bf16 by 0.6 %), and there nothing changes. keep counts as a constant in derivatives.

    Args:
        x: (N, C, *spatial), floating point, more than one voxel.
        weight: scale γ of each channel, (C,); None stands for ones.
        bias: offset β of each channel, (C,); None stands for zeros.
        eps: number added to the variance, greater than 0.

    Returns:
        (N, C, *spatial) in the dtype of `x`; statistics are taken in fp32 at least.

    Raises:
        ValueError: a map of one voxel has no variance.

    Example:
        >>> x = torch.tensor([[1.0, 3.0], [7.0, 7.0]]).reshape(1, 2, 1, 2)  # the second channel is constant
        >>> instance_norm(x, weight=None, bias=torch.tensor([0.0, 0.5]), eps=1e-5).squeeze()
        tensor([[-1.0000,  1.0000],
                [ 0.5000,  0.5000]])
    """
    if math.prod(x.shape[2:]) == 1:
        raise ValueError(
            f"InstanceNorm expects maps of more than one voxel, got {tuple(x.shape)}: choose a larger "
            f"patch, or fewer stages."
        )
    ones = x.new_ones(x.shape[1], dtype=_accurate(x.dtype))
    weight, bias = ones if weight is None else weight, torch.zeros_like(ones) if bias is None else bias
    if type(x) is not Tensor or torch.compiler.is_compiling() or is_watched():
        return _by_its_formula(x, weight, bias, eps)
    is_half = x.dtype is not ones.dtype
    if x.device.type == "cpu" and not is_half:  # there batch norm's moments of half precision are in half precision
        normalised: Tensor = _InstanceNorm.apply(x.reshape(1, -1, *x.shape[2:]), weight, bias, eps)
        return normalised.view(x.shape)
    if is_half and x.is_cuda and not torch.is_grad_enabled():
        return _predicted_in_half_precision(x, weight, bias, eps)
    return _by_its_formula(x, weight, bias, eps)


def kept(mean: Tensor, variance: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the factor keep of each channel: 0 for a channel that is constant up to rounding, 1 on ordinary images.

    Args:
        mean: (N, C, ...), each channel's mean over its voxels, fp32 or fp64.
        variance: (N, C, ...), each channel's variance over its voxels, in the dtype of `mean`.
        dtype: dtype of the map, which determines the size of rounding errors.

    Returns:
        Factors from 0 to 1 in the shape and dtype of `mean`, without a gradient.

    Example:
        >>> mean, variance = torch.tensor([[1.0, 7.0]]), torch.tensor([[1.0, 0.0]])  # the second channel is constant
        >>> kept(mean, variance, torch.float32)
        tensor([[1., 0.]])
    """
    threshold = least_deviation(dtype) ** 2 * mean.square().mean(1, keepdim=True)
    # a map of zeros alone is constant too
    return ((variance - threshold) / (threshold + torch.finfo(mean.dtype).tiny)).clamp(0, 1).detach()


class _InstanceNorm(torch.autograd.Function):
    """`instance_norm` by the operators of PyTorch's batch norm: one pass for the moments, one for the map.

    It takes and returns (1, N·C, *spatial), as a batch norm needs it, since a view returned by a Function could not be
    changed in place.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        mean, variance = _moments_of(maps, None, None, 0.0)
        samples = (-1, len(weight))
        keep = kept(mean.view(samples), variance.view(samples), maps.dtype)
        ctx.save_for_backward(maps, weight, keep, mean, torch.rsqrt(variance + eps))
        ctx.eps = eps
        weights, biases = (keep * weight).flatten(), bias.repeat(len(keep))
        return nn.functional.batch_norm(maps, mean, variance, weights, biases, eps=eps)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        maps, weight, keep, mean, inverse_deviation = ctx.saved_tensors
        of_maps, of_weights, of_biases = _backward_of(
            gradient.contiguous(),
            maps,
            (keep * weight).flatten(),
            None,
            None,
            mean,
            inverse_deviation,
            True,
            ctx.eps,
            [True, True, True],
        )
        return of_maps, (keep * of_weights.view(keep.shape)).sum(0), of_biases.view(keep.shape).sum(0), None


def _by_its_formula(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Compute `instance_norm` by elementary operators, for exporters, transforms and the compiler."""
    values, per_channel = x.to(_accurate(x.dtype)), (1, -1, *[1] * (x.ndim - 2))
    variance, mean = torch.var_mean(values, tuple(range(2, x.ndim)), correction=0, keepdim=True)
    scale = kept(mean, variance, x.dtype) * weight.view(per_channel) * torch.rsqrt(variance + eps)
    # not (values - mean) · scale: the backward pass would keep the difference beside the values
    y = values * scale + (bias.view(per_channel) - mean * scale)
    # what `to` gives may be the map itself, which torch.export then lets no nonlinearity change in place
    return y if y.dtype is x.dtype else y.to(x.dtype)


def _predicted_in_half_precision(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Compute `instance_norm` without a copy of the map in fp32."""
    axes, per_channel, dtype = tuple(range(2, x.ndim)), (1, -1, *[1] * (x.ndim - 2)), _accurate(x.dtype)
    mean = x.mean(axes, keepdim=True, dtype=dtype)
    # centred in fp32, then rounded, which keeps its digits; what E(x²) - E(x)² leaves of a constant map is not 0
    variance = torch.std(x, axes, correction=0, keepdim=True).to(dtype).square()
    scale = (kept(mean, variance, x.dtype) * weight.view(per_channel) * torch.rsqrt(variance + eps)).to(x.dtype)
    offset = bias.view(per_channel) - mean * scale  # with the scale as rounded, or part of the mean would remain
    return torch.addcmul(offset.to(x.dtype), x, scale)


def _accurate(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


class SteadyInstanceNorm2d(nn.InstanceNorm2d):
    """`instance_norm` as a module; parameters and arguments are those of `nn.InstanceNorm2d`.

    Example:
        >>> SteadyInstanceNorm2d(8)(torch.full((1, 8, 4, 4), 0.1)).abs().max()
        tensor(0.)
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W)."""
        return _forward(self, super().forward, x)


class SteadyInstanceNorm3d(nn.InstanceNorm3d):
    """`instance_norm` as a module; parameters and arguments are those of `nn.InstanceNorm3d`.

    Example:
        >>> SteadyInstanceNorm3d(8)(torch.full((1, 8, 4, 4, 4), 0.1)).abs().max()
        tensor(0.)
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, D, H, W)."""
        return _forward(self, super().forward, x)


def steady(norm_op: type[nn.Module] | None) -> type[nn.Module] | None:
    """Return the class that replaces `norm_op` in a GSP network: a steady InstanceNorm for an InstanceNorm.

    Example:
        >>> steady(nn.InstanceNorm3d).__name__, steady(nn.BatchNorm3d).__name__
        ('SteadyInstanceNorm3d', 'BatchNorm3d')
    """
    steady_norms: dict[Any, type[nn.Module]] = {
        nn.InstanceNorm2d: SteadyInstanceNorm2d,
        nn.InstanceNorm3d: SteadyInstanceNorm3d,
    }
    return steady_norms.get(norm_op, norm_op)


def _forward(norm: Any, of_torch: Any, x: Tensor) -> Tensor:
    # running statistics are of other images, which do vary
    return of_torch(x) if norm.track_running_stats else instance_norm(x, norm.weight, norm.bias, norm.eps)
