"""The settings that a GSP network's weights depend on without showing it, and the guard against mixing them up.

A shift has no weights, so weights trained with other groups would load without an error and predict nonsense. The
network therefore carries its settings in its state_dict, as a buffer of integers.
"""
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

SHIFT_POSITIONS = ("none", "CSC", "CCS", "CSCS", "CSCSUpShift")
SHIFT_LOCATIONS = ("encoder", "decoder", "both")
KERNELS = (1, 3)
# the paper's choices where it says no more
DEFAULT_POSITION, DEFAULT_LOCATION = "CSC", "both"
# of the buffer: a network without local shifts writes the first, so that weights from before there were any still load
_FORMAT_GROUP_SHIFT, _FORMAT_LOCAL_SHIFT = 1, 2


@dataclass(frozen=True)
class ShiftSettings:
    """Which channels move where.

    Attributes:
        spatial_groups: (g_d, g_h[, g_w]) of every stage, highest resolution first.
        shift_channels: C_s of every stage; 0 shifts nothing there.
        shift_position: where in a block of convolutions the shifts come (Fig. 2 of the paper).
        shift_location: in the encoder, the decoder or both.
        local_shift_channels: of every stage, how many channels behind the first C_s move by single voxels.
    """

    spatial_groups: tuple[tuple[int, ...], ...]
    shift_channels: tuple[int, ...]
    shift_position: str
    shift_location: str
    local_shift_channels: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse unknown positions and locations."""
        _check_choice("shift_position", self.shift_position, SHIFT_POSITIONS)
        _check_choice("shift_location", self.shift_location, SHIFT_LOCATIONS)

    def check_against(self, features_per_stage: Sequence[int], n_axes: int) -> None:
        """Raise ValueError unless there is one fitting entry a stage."""
        for name in ("spatial_groups", "shift_channels", "local_shift_channels"):
            if len(getattr(self, name)) != len(features_per_stage):
                raise ValueError(f"One entry a stage is expected in {name}, {len(features_per_stage)} here; got "
                                 f"{len(getattr(self, name))}.")
        for stage, (groups, shifted, local, channels) in enumerate(zip(
                self.spatial_groups, self.shift_channels, self.local_shift_channels, features_per_stage, strict=True)):
            if len(groups) != n_axes or min(groups) < 1:
                raise ValueError(f"spatial_groups of stage {stage} must be {n_axes} positive counts, one an axis, "
                                 f"got {groups}.")
            if not 0 <= shifted <= channels or shifted % math.prod(groups):
                raise ValueError(f"shift_channels of stage {stage} must be a multiple of {math.prod(groups)} (the "
                                 f"product of its spatial groups {groups}) from 0 to {channels}, got {shifted}.")
            if not 0 <= local <= channels - shifted or local % (2 * n_axes):
                raise ValueError(f"local_shift_channels of stage {stage} must be a multiple of {2 * n_axes} (the "
                                 f"directions) from 0 to {channels - shifted} (the channels behind shift_channels), "
                                 f"got {local}.")

    def to_tensor(self) -> torch.Tensor:
        """Encode as a flat int64 tensor for a state_dict."""
        has_local_shift = any(self.local_shift_channels)
        stages = [value for groups, shifted, local in zip(self.spatial_groups, self.shift_channels,
                                                          self.local_shift_channels, strict=True)
                  for value in (*groups, shifted, *([local] if has_local_shift else []))]
        return torch.tensor([_FORMAT_LOCAL_SHIFT if has_local_shift else _FORMAT_GROUP_SHIFT,
                             SHIFT_POSITIONS.index(self.shift_position), SHIFT_LOCATIONS.index(self.shift_location),
                             len(self.spatial_groups[0]), *stages])

    @classmethod
    def from_tensor(cls, encoded: torch.Tensor) -> "ShiftSettings":
        """Decode `to_tensor`; raises ValueError for a format that this version does not know."""
        version, position, location, n_axes, *stages = encoded.tolist()
        if version not in (_FORMAT_GROUP_SHIFT, _FORMAT_LOCAL_SHIFT):
            raise ValueError(f"These weights carry their GSP settings in format {version}, this version of "
                             f"nnunetv2_gsp knows the formats up to {_FORMAT_LOCAL_SHIFT}: install the version that "
                             f"wrote them.")
        length = n_axes + version  # the groups, C_s, and in the second format the locally shifted channels
        per_stage = [stages[start:start + length] for start in range(0, len(stages), length)]
        return cls(tuple(tuple(stage[:n_axes]) for stage in per_stage), tuple(stage[n_axes] for stage in per_stage),
                   SHIFT_POSITIONS[position], SHIFT_LOCATIONS[location],
                   tuple(sum(stage[n_axes + 1:]) for stage in per_stage))

    def __str__(self) -> str:
        """Say it in one line, for logs and errors."""
        stages = ", ".join(f"{groups} on {shifted} channels{f' and locally on {local}' if local else ''}"
                           for groups, shifted, local in zip(self.spatial_groups, self.shift_channels,
                                                             self.local_shift_channels, strict=True))
        return f"{self.shift_position} in {self.shift_location}: {stages}"


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}.")
