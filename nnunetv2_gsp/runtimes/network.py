"""Prepares trained networks for export: one module for all folds, of modules that other runtimes compute well."""

import math
from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from nnunetv2_gsp.architectures import GSPUNet
from nnunetv2_gsp.ops import GroupShift
from nnunetv2_gsp.ops.instance_norm import SteadyInstanceNorm2d, SteadyInstanceNorm3d, kept
from nnunetv2_gsp.sharing.model import with_aliases
from nnunetv2_gsp.sharing.model_folder import TrainedModel


class MeanOfFolds(nn.Module):
    """Averages the logits of several networks, as nnU-Net does."""

    def __init__(self, networks: Sequence[nn.Module]):
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, image: Tensor) -> Tensor:
        """Map an image (N, C, *patch) to logits (N, outputs, *patch)."""
        first, *others = (network(image) for network in self.networks)
        for logits in others:
            first = first + logits
        return first / len(self.networks) if others else first  # type: ignore[no-any-return]


class TabulatedShift(nn.Module):
    """Computes `GroupShift` from two small tables, where a file would otherwise hold the number of every row.

    A row is a run of voxels along the last axis that stay together. Its source is the first row of a block (Eq. 2-8 of
    the paper) plus its own place in the block.

    Args:
        shift: shift that is to be computed.
        map_shape: (C, *spatial), channels and voxels of the feature map.

    Examples:
        >>> shift, x = GroupShift((2, 2), 8), torch.rand(3, 8, 4, 6)
        >>> torch.equal(TabulatedShift(shift, (8, 4, 6))(x), shift(x))
        True
    """

    first_rows: Tensor
    rows_in_block: Tensor

    def __init__(self, shift: GroupShift, map_shape: Sequence[int]):
        super().__init__()
        channels, *spatial = self.map_shape = tuple(map_shape)
        groups = shift.spatial_groups
        blocks = [size // count for size, count in zip(spatial, groups, strict=True)]
        self.row_length, n_rows = blocks[-1], [*spatial[:-1], groups[-1]]
        strides = [math.prod(n_rows[axis + 1 :]) for axis in range(len(n_rows))]

        def along(axis: int, size: int) -> Tensor:
            """Count from 0 along one axis of (channels, blocks of axis 0, rows in them, blocks of axis 1, ...)."""
            shape = [1] * (2 * len(groups))
            shape[axis] = size
            return torch.arange(size).view(shape)

        # a map of one voxel a block shows where each block comes from
        voxels = torch.arange(channels * math.prod(groups)).view(1, channels, *groups)
        channel, *block = torch.unravel_index(shift(voxels)[0], (channels, *groups))
        first_rows = channel * math.prod(n_rows)
        for of_axis, size, stride in zip(block, [*blocks[:-1], 1], strides, strict=True):
            first_rows = first_rows + of_axis * size * stride
        apart = [size for count in groups[:-1] for size in (count, 1)]  # room for the rows in a block
        rows_in_block = sum(
            (along(2 + 2 * axis, size) * strides[axis] for axis, size in enumerate(blocks[:-1])), start=along(0, 1)
        )
        self.register_buffer("first_rows", first_rows.view(channels, *apart, groups[-1]).int())
        self.register_buffer("rows_in_block", rows_in_block.int())

    def forward(self, x: Tensor) -> Tensor:
        """Shift a map (N, C, *spatial)."""
        sources = (self.first_rows + self.rows_in_block).flatten()
        rows = x.reshape(-1, len(sources), self.row_length)
        return rows.index_select(1, sources).reshape(-1, *self.map_shape)


class CentredNorm(nn.Module):
    """Computes a steady InstanceNorm with a mean that is right however a runtime adds up.

    Some add up a map's values one after the other, so that a constant one has a mean that is off by a thousandth, and
    varies. The mean of what is left corrects it.

    Args:
        norm: norm that is to be computed, without running statistics.

    Examples:
        >>> norm, x = SteadyInstanceNorm2d(3), torch.rand(2, 3, 4, 4)
        >>> torch.allclose(CentredNorm(norm)(x), norm(x), atol=1e-5)
        True
    """

    def __init__(self, norm: SteadyInstanceNorm2d | SteadyInstanceNorm3d):
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise a map (N, C, *spatial)."""
        per_channel = (1, -1, *[1] * (x.ndim - 2))
        mean = _mean(x)
        deviation = x - mean
        rest = _mean(deviation)
        deviation = deviation - rest
        variance = _mean(deviation * deviation)
        scale = kept(mean + rest, variance, x.dtype) * torch.rsqrt(variance + self.eps)
        if self.weight is None:
            return deviation * scale
        return deviation * (scale * self.weight.view(per_channel)) + self.bias.view(per_channel)


def _mean(x: Tensor) -> Tensor:
    """Return each channel's mean over its voxels, axis by axis, which rounds less where a runtime adds up in order."""
    for axis in range(x.ndim - 1, 1, -1):
        x = x.mean(axis, keepdim=True)
    return x


def network_of(trained: TrainedModel, folds: Sequence[str]) -> nn.Module:
    """Return one network on the CPU that predicts the mean logits of folds, computed by PyTorch's own operators.

    Args:
        trained: trained model.
        folds: names of its folds, one at least.
    """
    return MeanOfFolds([_network_of_fold(trained, fold) for fold in folds]).eval()


def prepare(network: nn.Module, image_shape: Sequence[int]) -> None:
    """Replace shifts and norms of a network in place; it computes the same, but for this size of patch alone.

    Args:
        network: network whose modules are replaced.
        image_shape: (C, *patch), channels and voxels of its input.
    """
    shapes = _map_shapes(network, image_shape)
    for parent_name, parent in list(network.named_modules()):
        for name, module in parent.named_children():
            if isinstance(module, GroupShift):
                setattr(parent, name, TabulatedShift(module, shapes[f"{parent_name}.{name}"]))
            elif isinstance(module, SteadyInstanceNorm2d | SteadyInstanceNorm3d) and not module.track_running_stats:
                setattr(parent, name, CentredNorm(module))


def _map_shapes(network: nn.Module, image_shape: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Return the shape (C, *spatial) of what each group shift gets, by the shift's name; nothing is computed."""
    shapes = {}
    without_memory = deepcopy(network).to("meta")
    for name, module in without_memory.named_modules():
        if isinstance(module, GroupShift):

            def note_shape(_: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
                shapes[name] = tuple(inputs[0].shape[1:])

            module.register_forward_pre_hook(note_shape)
    without_memory(torch.zeros(1, *image_shape, device="meta"))
    return shapes


def _network_of_fold(trained: TrainedModel, fold: str) -> GSPUNet:
    network = trained.model.network()  # without memory
    network.load_state_dict(with_aliases(network, trained.folds[fold].weights), assign=True)
    network.engine = "plain"
    return network
