"""Linear interpolation by whole factors, like `torch.nn.Upsample`, without its atomics and casts on a GPU."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from nnunetv2_gsp.ops.recording import is_watched


class LinearUpsampling(nn.Upsample):
    """`nn.Upsample` with mode bilinear or trilinear that keeps the dtype of its input, also under autocast.

    Autocast would interpolate in fp32, and then concatenate in fp32, too. The backward pass of `nn.Upsample` uses
    atomics on a GPU and under the compiler: slow, and not repeatable to the last bit; here each voxel gathers its sum.

    Example:
        >>> LinearUpsampling(scale_factor=(2, 2, 2), mode="trilinear")(torch.zeros(1, 8, 4, 4, 4)).shape
        torch.Size([1, 8, 8, 8, 8])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Interpolate (N, C, *low) to (N, C, *(low · scale_factor))."""
        scale: Any = self.scale_factor
        if torch.compiler.is_dynamo_compiling():
            return linear_upsampling(x, [int(factor) for factor in scale])
        if x.device.type == "cuda" and not is_watched():  # exporters know nn.Upsample
            with torch.autocast("cuda", enabled=False):
                return _by_products(x, [int(factor) for factor in scale])
        return super().forward(x).to(x.dtype)


def linear_upsampling(x: Tensor, factors: Sequence[int]) -> Tensor:
    """Interpolate by whole factors, pixels being areas (align_corners=False).

    Written as slices that the compiler makes one loop of, forward and backward. Each value is a + t·(b - a), which is a
    where a equals b: a constant map stays constant to the last bit.

    Args:
        x: (N, C, *low), floating point.
        factors: a whole number, at least 1, for each spatial axis.

    Returns:
        (N, C, *(low · factors)) in the dtype of `x`.

    Example:
        >>> linear_upsampling(torch.tensor([[[[0.0, 4.0]]]]), factors=(1, 2))
        tensor([[[[0., 1., 3., 4.]]]])
    """
    for axis, factor in enumerate(factors, start=2):
        if factor > 1:
            x = _along(x, axis, factor)
    return x


def _along(x: Tensor, axis: int, factor: int) -> Tensor:
    size = x.shape[axis]
    before = torch.cat((x.narrow(axis, 0, 1), x.narrow(axis, 0, size - 1)), axis)
    behind = torch.cat((x.narrow(axis, 1, size - 1), x.narrow(axis, size - 1, 1)), axis)
    offsets = [(phase + 0.5) / factor - 0.5 for phase in range(factor)]
    phases = [torch.lerp(x, before if offset < 0 else behind, abs(offset)) for offset in offsets]
    return torch.stack(phases, axis + 1).flatten(axis, axis + 1)


def _by_products(x: Tensor, factors: Sequence[int]) -> Tensor:
    """Multiply each axis by a matrix: outside of the compiler, every slice would be a pass over the map."""
    for axis, factor in enumerate(factors, start=2):
        if factor > 1:
            x = _multiplied(x, axis, _matrix(x.shape[axis], factor, x.dtype, x.device))
    return x


def _multiplied(x: Tensor, axis: int, matrix: Tensor) -> Tensor:
    behind = x.shape[axis + 1 :]
    return (matrix @ x.flatten(axis + 1)).unflatten(-1, behind) if behind else x @ matrix.T


@lru_cache(maxsize=64)
def _matrix(size: int, factor: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return (factor · size, size): the weight of each low-resolution voxel in each high-resolution one."""
    with torch.inference_mode(False), torch.no_grad():
        return _along(torch.eye(size, dtype=torch.float64), 0, factor).to(device, dtype)
