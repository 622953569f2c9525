"""Shifts as requested, in ratios, and their settings once feature maps and channels are known."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import repeat
from typing import Any

from nnunetv2_gsp.architectures.entries import COUNT, WHOLE, Schema, described, each, fits, one_or_each
from nnunetv2_gsp.architectures.rules import count_per_axis, one_entry_a_stage
from nnunetv2_gsp.architectures.settings import (
    DEFAULT_LOCATION,
    DEFAULT_POSITION,
    SHIFT_LOCATION,
    SHIFT_POSITION,
    ShiftSettings,
)
from nnunetv2_gsp.architectures.spatial_groups import (
    check_groups_divide,
    shift_channels_of,
    snapped_groups,
    spatial_groups_of,
)

_RATIO: Schema = {"type": "number", "minimum": 0, "maximum": 1}


@dataclass(frozen=True)
class ShiftRequest:
    """Shifts as requested, in ratios, independent of the patch size.

    Attributes:
        spatial_groups: (g_d, g_h[, g_w]) of every stage, highest resolution first, or one that all stages share; None
            leaves them to the rule (`spatial_groups_of`). Counts that do not divide their map are snapped to the
            largest divisor below.
        strict: True raises ValueError where counts would be snapped.
        shift_ratio: C_s/C, the fraction of shifted channels, from 0 to 1; the paper uses 1/2, and 1 in its ablation.
        local_shift_ratio: fraction of channels that move by single voxels, from 0 to 1 - shift_ratio; a stage in which
            that is less than one channel for each direction has no local shift.
        shift_position: where in a block of convolutions the shifts come (Fig. 2 of the paper); with "none" no channel
            moves, whatever the ratios.
        shift_location: the half of the network that shifts: encoder, decoder or both.

    Examples:
        >>> ShiftRequest(shift_ratio=0.75, local_shift_ratio=0.5)
        Traceback (most recent call last):
        ValueError: shift_ratio + local_shift_ratio must be at most 1, got 0.75 + 0.5: ...
    """

    spatial_groups: Sequence[Sequence[int]] | Sequence[int] | None = field(
        default=None,
        metadata=described(
            each(one_or_each(COUNT)),
            "groups along each axis of the patch, one entry a stage, the highest resolution first, or one for all; "
            "without it the rule decides",
        ),
    )
    strict: bool = field(
        default=False,
        metadata=described(
            {"type": "boolean"},
            "refuse spatial_groups that do not divide a feature map, instead of snapping them to the "
            "largest divisor below",
        ),
    )
    shift_ratio: float = field(
        default=0.5, metadata=described(_RATIO, "C_s/C, the part of the channels that moves by blocks (default 0.5)")
    )
    local_shift_ratio: float = field(
        default=0.0, metadata=described(_RATIO, "the part of the channels that moves by single voxels (default 0)")
    )
    shift_position: str = field(default=DEFAULT_POSITION, metadata=SHIFT_POSITION)
    shift_location: str = field(default=DEFAULT_LOCATION, metadata=SHIFT_LOCATION)

    def __post_init__(self) -> None:
        """Raise ValueError for ratios that ask for more channels than there are."""
        for name in ("shift_ratio", "local_shift_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}.")
        if _exact(self.shift_ratio) + _exact(self.local_shift_ratio) > 1:
            raise ValueError(
                f"shift_ratio + local_shift_ratio must be at most 1, got {self.shift_ratio} + "
                f"{self.local_shift_ratio}: a channel moves by blocks or by voxels, not both."
            )

    def resolve(self, maps: Sequence[Sequence[int]], features_per_stage: Sequence[int]) -> ShiftSettings:
        """Return the spatial groups and shifted channels of every stage.

        Args:
            maps: size of every stage's feature map in voxels, highest resolution first.
            features_per_stage: channels C of every stage, from 1 on.

        Raises:
            ValueError: there is not one entry of spatial_groups a stage, groups do not divide their map and are not to
                be snapped, or a positive ratio leaves a group, or all local shifts, without a channel.

        Examples:
            ProSGv1 of the paper's Table 2, on its PROMISE12 patch:

            >>> request = ShiftRequest(spatial_groups=[(2, 2, 2), (2, 2, 2), (2, 4, 4), (1, 8, 8), (1, 8, 8)])
            >>> maps = [(16, 128, 128), (8, 64, 64), (4, 32, 32), (2, 16, 16), (1, 8, 8)]
            >>> request.resolve(maps, features_per_stage=(16, 32, 64, 128, 256)).shift_channels
            (8, 16, 32, 64, 128)
        """
        is_still = self.shift_position == "none"
        ratio, local_ratio = (0, 0) if is_still else (_exact(self.shift_ratio), _exact(self.local_shift_ratio))
        asked = self.groups_asked(len(maps))
        if asked is not None:
            one_entry_a_stage("spatial_groups", asked, len(maps), repeat(count_per_axis(len(maps[0]))))
            if self.strict and ratio > 0:
                check_groups_divide(asked, maps)
        max_shifted = [math.floor(ratio * channels) for channels in features_per_stage]
        groups = [
            _groups_of(size, limit, None if asked is None else asked[stage]) if ratio > 0 else (1,) * len(size)
            for stage, (size, limit) in enumerate(zip(maps, max_shifted, strict=True))
        ]
        shifted = [shift_channels_of(counts, limit) for counts, limit in zip(groups, max_shifted, strict=True)]
        n_directions = 2 * len(maps[0])
        local = [n_directions * math.floor(local_ratio * channels / n_directions) for channels in features_per_stage]
        for stage, channels in enumerate(features_per_stage):
            if ratio > 0 and shifted[stage] == 0:
                raise ValueError(
                    f"shift_ratio {self.shift_ratio} leaves no whole channel for each of the "
                    f"{math.prod(groups[stage])} groups {groups[stage]} of stage {stage}, which has "
                    f"{channels} channels: raise the ratio, or ask for fewer groups."
                )
        if local_ratio > 0 and not any(local):
            raise ValueError(
                f"local_shift_ratio {self.local_shift_ratio} leaves no whole channel for each of the "
                f"{n_directions} directions in any stage, of {max(features_per_stage)} channels at most: "
                f"raise the ratio, or set it to 0."
            )
        return ShiftSettings(tuple(groups), tuple(shifted), self.shift_position, self.shift_location, tuple(local))

    def groups_asked(self, n_stages: int) -> Sequence[Sequence[int]] | None:
        """Return the groups that are asked for, one entry a stage, or None if they are left to the rule.

        Examples:
            >>> ShiftRequest(spatial_groups=(2, 4, 4)).groups_asked(n_stages=2)
            [(2, 4, 4), (2, 4, 4)]
        """
        groups: Any = self.spatial_groups
        return [groups] * n_stages if groups is not None and fits(groups, each(WHOLE, minItems=1)) else groups


def _groups_of(size: Sequence[int], max_groups: int, asked: Sequence[int] | None) -> tuple[int, ...]:
    return spatial_groups_of(size, max_groups) if asked is None else snapped_groups(asked, size)


def _exact(ratio: float) -> Fraction:
    """Return a ratio as its decimal digits say: 0.3 of 10 channels are three, which floating point would make two."""
    return Fraction(str(ratio))
