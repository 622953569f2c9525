"""The shift settings of a GSP network, and the check that weights are only loaded with the settings of their training.

A shift has no weights, so weights trained with other groups would load without an error and predict nonsense. The
network therefore carries its settings in its state_dict, as a buffer of integers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import torch

from nnunetv2_gsp.architectures.entries import SPATIAL_GROUPS, WHOLE, Schema, described, each
from nnunetv2_gsp.architectures.rules import check_choice, count_per_axis, multiple, one_entry_a_stage
from nnunetv2_gsp.architectures.spatial_groups import shift_channels_of

SHIFT_POSITIONS = ("none", "CSC", "CCS", "CSCS", "CSCSUpShift")
SHIFT_LOCATIONS = ("encoder", "decoder", "both")
# the paper's choices where it says no more
DEFAULT_POSITION, DEFAULT_LOCATION = "CSC", "both"
SHIFT_POSITION: Schema = described(
    {"type": "string", "enum": list(SHIFT_POSITIONS)},
    "where the shifts come in a block of convolutions, Fig. 2 of the paper (default CSC)",
)
SHIFT_LOCATION: Schema = described(
    {"type": "string", "enum": list(SHIFT_LOCATIONS)}, "which half of the network shifts (default both)"
)
_CHANNELS: Schema = each({**WHOLE, "minimum": 0}, minItems=1)
# of the buffer: a network without local shifts writes the first, so that weights from before there were any still load
_FORMAT_GROUP_SHIFT, _FORMAT_LOCAL_SHIFT = 1, 2


@dataclass(frozen=True)
class ShiftSettings:
    """Spatial groups, shifted channels and positions of the shifts of a network.

    Attributes:
        spatial_groups: (g_d, g_h[, g_w]) of every stage, highest resolution first; counts from 1 on that divide the
            stage's feature map.
        shift_channels: number C_s of shifted channels of every stage, a multiple of the product of its groups from 0 to
            C; 0 shifts nothing there.
        shift_position: none, CSC, CCS, CSCS or CSCSUpShift: where the shifts come in a block of convolutions (Fig. 2 of
            the paper).
        shift_location: encoder, decoder or both: the half of the network that shifts.
        local_shift_channels: how many channels behind the first C_s move by single voxels in every stage, a multiple of
            the number of directions (6 in 3D, 4 in 2D) from 0 to C - C_s.

    Examples:
        >>> print(ShiftSettings(((2, 2, 2),), (8,), "CCS", "encoder", local_shift_channels=(6,)))
        CCS in encoder: (2, 2, 2) on 8 channels and locally on 6
    """

    spatial_groups: tuple[tuple[int, ...], ...] = field(metadata=SPATIAL_GROUPS)
    shift_channels: tuple[int, ...] = field(metadata=_CHANNELS)
    shift_position: str = field(metadata=SHIFT_POSITION)
    shift_location: str = field(metadata=SHIFT_LOCATION)
    local_shift_channels: tuple[int, ...] = field(metadata=_CHANNELS)

    def __post_init__(self) -> None:
        """Raise ValueError for unknown positions and locations."""
        check_choice("shift_position", self.shift_position, SHIFT_POSITION)
        check_choice("shift_location", self.shift_location, SHIFT_LOCATION)

    @classmethod
    def checked(
        cls,
        features_per_stage: Sequence[int],
        n_axes: int,
        *,
        spatial_groups: Any,
        shift_channels: Any = None,
        shift_position: Any = None,
        shift_location: Any = None,
        local_shift_channels: Any = None,
    ) -> "ShiftSettings":
        """Return settings, checked to fit the stages; what is not given is the paper's choice.

        Args:
            features_per_stage: channels C of every stage, from 1 on.
            n_axes: number of spatial axes of the patch, 2 or 3.
            spatial_groups, shift_channels, shift_position, shift_location, local_shift_channels: by the names of the
                attributes, as a network's arguments or a plans file have them; None for what these leave out.

        Raises:
            ValueError: there is not one fitting entry a stage, or the position or location is unknown.

        Examples:
            >>> print(ShiftSettings.checked((16, 32), n_axes=3, spatial_groups=[(2, 2, 2), (1, 4, 4)]))
            CSC in both: (2, 2, 2) on 8 channels, (1, 4, 4) on 16 channels
        """
        n_stages = len(features_per_stage)
        groups = [
            tuple(counts)
            for counts in one_entry_a_stage("spatial_groups", spatial_groups, n_stages, repeat(count_per_axis(n_axes)))
        ]
        if shift_channels is None:
            shift_channels = [
                shift_channels_of(counts, channels // 2)
                for counts, channels in zip(groups, features_per_stage, strict=True)
            ]
        shifted = one_entry_a_stage(
            "shift_channels",
            shift_channels,
            n_stages,
            (
                multiple(math.prod(counts), channels, f"product of its spatial groups {counts}")
                for counts, channels in zip(groups, features_per_stage, strict=True)
            ),
        )
        if local_shift_channels is None:
            local_shift_channels = [0] * n_stages
        local = one_entry_a_stage(
            "local_shift_channels",
            local_shift_channels,
            n_stages,
            (
                multiple(2 * n_axes, channels - moved, "directions", " (the channels behind shift_channels)")
                for moved, channels in zip(shifted, features_per_stage, strict=True)
            ),
        )
        return cls(
            tuple(groups),
            tuple(shifted),
            DEFAULT_POSITION if shift_position is None else shift_position,
            DEFAULT_LOCATION if shift_location is None else shift_location,
            tuple(local),
        )

    def to_tensor(self) -> torch.Tensor:
        """Encode the settings as an int64 tensor (n,) for a state_dict.

        Examples:
            >>> settings = ShiftSettings(((2, 2, 2),), (8,), "CSC", "both", local_shift_channels=(0,))
            >>> settings.to_tensor()  # format, position, location and axes, then groups and channels of the one stage
            tensor([1, 1, 2, 3, 2, 2, 2, 8])
        """
        has_local_shift = any(self.local_shift_channels)
        stages = [
            value
            for groups, shifted, local in zip(
                self.spatial_groups, self.shift_channels, self.local_shift_channels, strict=True
            )
            for value in (*groups, shifted, *([local] if has_local_shift else []))
        ]
        return torch.tensor(
            [
                _FORMAT_LOCAL_SHIFT if has_local_shift else _FORMAT_GROUP_SHIFT,
                SHIFT_POSITIONS.index(self.shift_position),
                SHIFT_LOCATIONS.index(self.shift_location),
                len(self.spatial_groups[0]),
                *stages,
            ]
        )

    @classmethod
    def from_tensor(cls, encoded: torch.Tensor) -> "ShiftSettings":
        """Decode `to_tensor`; raises ValueError for a format that this version does not know.

        Examples:
            >>> print(ShiftSettings.from_tensor(torch.tensor([1, 1, 2, 3, 2, 2, 2, 8])))
            CSC in both: (2, 2, 2) on 8 channels
        """
        version, position, location, n_axes, *stages = encoded.tolist()
        if version not in (_FORMAT_GROUP_SHIFT, _FORMAT_LOCAL_SHIFT):
            raise ValueError(
                f"These weights carry their GSP settings in format {version}, this version of "
                f"nnunetv2_gsp knows the formats up to {_FORMAT_LOCAL_SHIFT}: install the version that "
                f"wrote them."
            )
        length = n_axes + version  # the groups, C_s, and in the second format the locally shifted channels
        per_stage = [stages[start : start + length] for start in range(0, len(stages), length)]
        return cls(
            tuple(tuple(stage[:n_axes]) for stage in per_stage),
            tuple(stage[n_axes] for stage in per_stage),
            SHIFT_POSITIONS[position],
            SHIFT_LOCATIONS[location],
            tuple(sum(stage[n_axes + 1 :]) for stage in per_stage),
        )

    def __str__(self) -> str:
        """Return the settings in one line, for logs and errors."""
        stages = ", ".join(
            f"{groups} on {shifted} channels{f' and locally on {local}' if local else ''}"
            for groups, shifted, local in zip(
                self.spatial_groups, self.shift_channels, self.local_shift_channels, strict=True
            )
        )
        return f"{self.shift_position} in {self.shift_location}: {stages}"
