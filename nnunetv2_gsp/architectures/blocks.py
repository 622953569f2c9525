"""Convolution blocks with shifts at their insert positions."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from torch import nn

from nnunetv2_gsp.engines.engine import Engine, Map
from nnunetv2_gsp.engines.part import Part
from nnunetv2_gsp.ops import GroupShift, LocalShift


def shift_or_identity(spatial_groups: Sequence[int], shift_channels: int, local_shift_channels: int) -> nn.Module:
    """Return the module that shifts: a group shift, a local shift of the channels behind it, or both in sequence.

    If the map is a single block or no channel moves, it is the identity, and nothing is copied.

    Examples:
        >>> shift_or_identity((2, 2, 2), shift_channels=16, local_shift_channels=0)
        GroupShift(spatial_groups=(2, 2, 2), shift_channels=16)
        >>> shift_or_identity((1, 1, 1), shift_channels=16, local_shift_channels=0)  # a single block
        Sequential()
    """
    shifts: list[nn.Module] = []
    if shift_channels > 0 and max(spatial_groups) > 1:
        shifts.append(GroupShift(spatial_groups, shift_channels))
    if local_shift_channels > 0:
        shifts.append(LocalShift(shift_channels, local_shift_channels))
    return shifts[0] if len(shifts) == 1 else nn.Sequential(*shifts)


def is_shifted_after(convolution: int, n_convolutions: int, shift_position: str) -> bool:
    """Tell whether a shift follows convolution number `convolution` (from 0) of a block (Fig. 2 of the paper).

    CSC shifts between neighbours, CCS after the last, CSCS (and CSCSUpShift) after each.

    Examples:
        >>> [is_shifted_after(0, n_convolutions=2, shift_position=position) for position in ("CSC", "CCS", "CSCS")]
        [True, False, True]
    """
    is_last = convolution == n_convolutions - 1
    return {"none": False, "CSC": not is_last, "CCS": is_last, "CSCS": True, "CSCSUpShift": True}[shift_position]


class GSPConvBlock(Part):
    """The paper's "Conv Block": n times convolution, norm and nonlinearity, and the shifts between them.

    Args:
        n_convolutions: number of convolutions, from 1 on.
        input_channels: input channels of the first convolution, from 1 on.
        output_channels: output channels of every convolution, from 1 on.
        make_shift: builds the shift for `output_channels`, with the groups of this block's feature map.
        shift_position: which convolutions a shift follows; see `is_shifted_after`.
        convolution: arguments of dynamic-network-architectures' `ConvDropoutNormReLU` (conv_op,
            kernel_size, norm_op, ...).

    Examples:
        >>> convolution = {"conv_op": nn.Conv3d, "kernel_size": 1, "stride": 1}
        >>> block = GSPConvBlock(2, 4, 16, lambda: GroupShift((2, 2, 2), 8), "CSC", convolution)
        >>> [type(shift).__name__ for shift in block.shifts]
        ['GroupShift', 'Identity']
    """

    def __init__(
        self,
        n_convolutions: int,
        input_channels: int,
        output_channels: int,
        make_shift: Callable[[], nn.Module],
        shift_position: str,
        convolution: dict[str, Any],
    ):
        super().__init__()
        self.output_channels = output_channels
        self.convs = nn.ModuleList(
            ConvDropoutNormReLU(
                input_channels=input_channels if index == 0 else output_channels,
                output_channels=output_channels,
                **convolution,
            )
            for index in range(n_convolutions)
        )
        # separate from the convolutions, so that weights have the same names whatever the position
        self.shifts = nn.ModuleList(
            make_shift() if is_shifted_after(index, n_convolutions, shift_position) else nn.Identity()
            for index in range(n_convolutions)
        )

    def walk(self, x: Map, engine: Engine[Map]) -> Map:
        """Map (N, input_channels, *spatial) to (N, output_channels, *spatial)."""
        for layer, shift in zip(self.convs, self.shifts, strict=True):
            x = engine.convolve(x, layer, shift)
        return x

    def compute_conv_feature_map_size(self, map_size: Sequence[int]) -> int:
        """Count the elements of every convolution's output for a map of `map_size` voxels.

        Examples:
            >>> convolution = {"conv_op": nn.Conv3d, "kernel_size": 1, "stride": 1}
            >>> block = GSPConvBlock(2, 4, 16, lambda: GroupShift((2, 2, 2), 8), "CSC", convolution)
            >>> block.compute_conv_feature_map_size((8, 8, 8)) == 2 * 16 * 8**3
            True
        """
        return len(self.convs) * self.output_channels * math.prod(map_size)
