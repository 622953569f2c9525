"""The checked and complete specification of a GSP network: stages, shifts, kernel and operators."""

from dataclasses import asdict, dataclass, field
from itertools import repeat
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd

from nnunetv2_gsp.architectures.entries import COUNT, Schema, described, each, one_or_each, schemas_of
from nnunetv2_gsp.architectures.rules import (
    ONE_COUNT,
    check_choice,
    check_number_of_stages,
    count_or_count_per_axis,
    one_entry_a_stage,
    repeated,
)
from nnunetv2_gsp.architectures.settings import ShiftSettings
from nnunetv2_gsp.ops import pointwise, steady

KERNEL: Schema = described(
    {"type": "integer", "enum": [1, 3]}, "edge of every convolution but the heads, in voxels (default 1)"
)


@dataclass(frozen=True)
class Stages:
    """The stages of a U-Net, the highest resolution first.

    Attributes:
        features_per_stage: channels C of every stage, from 1 on.
        strides: strides of every stage, one whole number an axis from 1 on; the first stage's are 1 in plans.
        n_conv_per_stage: convolutions of every encoder stage, from 1 on.
        n_conv_per_stage_decoder: convolutions of every decoder stage, from 1 on, lowest resolution first; one stage
            fewer than the encoder has.
    """

    features_per_stage: tuple[int, ...] = field(metadata=described(each(COUNT, minItems=1), "channels of every stage"))
    strides: tuple[tuple[int, ...], ...] = field(
        metadata=described(each(one_or_each(COUNT), minItems=1), "of every stage, the first one's included")
    )
    n_conv_per_stage: tuple[int, ...] = field(
        metadata=described(one_or_each(COUNT), "convolutions of every encoder stage")
    )
    n_conv_per_stage_decoder: tuple[int, ...] = field(
        metadata=described(one_or_each(COUNT), "convolutions of every decoder stage, one stage fewer")
    )

    @classmethod
    def checked(
        cls,
        n_axes: int,
        n_stages: Any,
        features_per_stage: Any,
        strides: Any,
        n_conv_per_stage: Any,
        n_conv_per_stage_decoder: Any,
    ) -> "Stages":
        """Check the arguments of a network, given by their names; one number counts for every stage and axis.

        Raises:
            ValueError: the arguments do not make a U-Net.

        Examples:
            >>> Stages.checked(
            ...     2,
            ...     n_stages=2,
            ...     features_per_stage=[16, 32],
            ...     strides=[1, [2, 1]],
            ...     n_conv_per_stage=2,
            ...     n_conv_per_stage_decoder=1,
            ... ).strides
            ((1, 1), (2, 1))
        """
        check_number_of_stages(n_stages)
        steps = one_entry_a_stage(
            "strides", repeated(strides, n_stages), n_stages, repeat(count_or_count_per_axis(n_axes))
        )
        return cls(
            numbers_per_stage("features_per_stage", features_per_stage, n_stages),
            tuple(tuple(repeated(step, n_axes)) for step in steps),
            numbers_per_stage("n_conv_per_stage", n_conv_per_stage, n_stages),
            numbers_per_stage("n_conv_per_stage_decoder", n_conv_per_stage_decoder, n_stages - 1),
        )


@dataclass(frozen=True)
class Architecture:
    """A GSP network as plans specify it, without its operators, which plans name by dotted paths.

    Attributes:
        stages: channels, strides and number of convolutions of every stage.
        shifts: spatial groups, shifted channels and positions of the shifts.
        kernel: edge in voxels of every convolution but the heads, 1 or 3.

    Examples:
        >>> stages = Stages.checked(2, 2, [16, 32], strides=[1, 2], n_conv_per_stage=2, n_conv_per_stage_decoder=2)
        >>> shifts = ShiftSettings.checked(stages.features_per_stage, n_axes=2, spatial_groups=[(2, 2), (4, 4)])
        >>> print(Architecture(stages, shifts).shifts)
        CSC in both: (2, 2) on 8 channels, (4, 4) on 16 channels
    """

    stages: Stages
    shifts: ShiftSettings
    kernel: int = 1

    def __post_init__(self) -> None:
        """Raise ValueError unless the kernel is 1 or 3."""
        check_choice("kernel", self.kernel, KERNEL)

    def check_something_shifts(self) -> None:
        """Raise ValueError if channels are to move between convolutions, and no block has two of them.

        Examples:
            >>> stages = Stages.checked(2, 2, [16, 32], strides=[1, 2], n_conv_per_stage=1, n_conv_per_stage_decoder=1)
            >>> shifts = ShiftSettings.checked(stages.features_per_stage, n_axes=2, spatial_groups=[(2, 2), (4, 4)])
            >>> Architecture(stages, shifts).check_something_shifts()
            Traceback (most recent call last):
            ValueError: CSC shifts between the convolutions of a block, but these plans have one a block, ...
        """
        shifts, stages = self.shifts, self.stages
        blocks = {
            "encoder": stages.n_conv_per_stage,
            "decoder": stages.n_conv_per_stage_decoder,
            "both": stages.n_conv_per_stage + stages.n_conv_per_stage_decoder,
        }[shifts.shift_location]
        is_asked = any(shifts.shift_channels) or any(shifts.local_shift_channels)
        if is_asked and shifts.shift_position == "CSC" and max(blocks) < 2:
            raise ValueError(
                "CSC shifts between the convolutions of a block, but these plans have one a block, so "
                "nothing would move: give n_conv_per_stage 2, or set shift_position to CCS."
            )


@dataclass(frozen=True)
class Operators:
    """The operators of a convolution block, named as `PlainConvUNet` names them."""

    conv_op: type[_ConvNd]
    conv_bias: bool
    norm_op: type[nn.Module] | None
    norm_op_kwargs: dict[str, Any] | None
    dropout_op: type[_DropoutNd] | None
    dropout_op_kwargs: dict[str, Any] | None
    nonlin: type[nn.Module] | None
    nonlin_kwargs: dict[str, Any] | None
    nonlin_first: bool

    def of_convolution(self, kernel: int) -> dict[str, Any]:
        """Return the arguments of dynamic-network-architectures' `ConvDropoutNormReLU`, except the channels.

        Args:
            kernel: edge in voxels, 1 or 3; with 1 a convolution is a matrix product.

        Examples:
            >>> operators = Operators(nn.Conv3d, True, nn.InstanceNorm3d, None, None, None, nn.LeakyReLU, None, False)
            >>> [operators.of_convolution(kernel)["conv_op"].__name__ for kernel in (1, 3)]
            ['PointwiseConv3d', 'Conv3d']
        """
        return {
            **vars(self),
            "conv_op": pointwise(self.conv_op) if kernel == 1 else self.conv_op,
            "norm_op": steady(self.norm_op),
            "kernel_size": kernel,
            "stride": 1,
        }


def entry_schemas() -> dict[str, Schema]:
    """Return the types of all entries that plans have for a GSP network, by name, except the operators.

    Examples:
        >>> entry_schemas()["shift_position"]["enum"]
        ['none', 'CSC', 'CCS', 'CSCS', 'CSCSUpShift']
    """
    return {"n_stages": COUNT, **schemas_of(Stages), **schemas_of(ShiftSettings), "kernel": KERNEL}


def shift_entries(architecture: Architecture) -> dict[str, Any]:
    """Return the entries that a GSP network's plans have and a stock network's lack, as JSON values.

    Examples:
        >>> stages = Stages.checked(2, 2, [16, 32], strides=[1, 2], n_conv_per_stage=2, n_conv_per_stage_decoder=2)
        >>> shifts = ShiftSettings.checked(stages.features_per_stage, n_axes=2, spatial_groups=[(2, 2), (4, 4)])
        >>> shift_entries(Architecture(stages, shifts))["spatial_groups"]
        [[2, 2], [4, 4]]
    """

    def listed(value: Any) -> Any:
        return [listed(entry) for entry in value] if isinstance(value, tuple) else value

    return {
        **{name: listed(value) for name, value in asdict(architecture.shifts).items()},
        "kernel": architecture.kernel,
    }


def numbers_per_stage(name: str, value: Any, n_stages: int) -> tuple[int, ...]:
    """Return a whole number from 1 on for each of `n_stages`; one number counts for every stage.

    Raises:
        ValueError: there are more or fewer entries than stages, or one is not a whole number from 1 on.

    Examples:
        >>> numbers_per_stage("n_conv_per_stage", 2, n_stages=3)
        (2, 2, 2)
    """
    return tuple(one_entry_a_stage(name, repeated(value, n_stages), n_stages, repeat(ONE_COUNT)))
