"""Milliseconds of a group shift, beside `clone()`, which moves the same data once."""

from collections.abc import Sequence

import torch

from benchmarks.measuring import check, ratios
from benchmarks.page import Row, Table
from nnunetv2_gsp.ops import group_shift
from nnunetv2_gsp.ops.reference import group_shift_reference
from nnunetv2_gsp.timing import interleaved
from nnunetv2_gsp.wording import times


def tables(
    channels: int = 32,
    size: Sequence[int] = (128, 128, 128),
    spatial_groups: Sequence[int] = (2, 2, 2),
    rounds: int = 25,
) -> list[Table]:
    """Time the shift of half of the channels and `clone()`, forward and backward."""
    shift_channels = channels // 2
    x = torch.randn(1, channels, *size)
    # the reference takes eight times the memory of its input
    small = x[:, :, :8, :8, :8].contiguous()
    check(
        "group_shift",
        group_shift(small, spatial_groups, shift_channels),
        group_shift_reference(small, spatial_groups, shift_channels),
        tolerance=0,
    )
    shifted = group_shift(x.requires_grad_(), spatial_groups, shift_channels)
    cloned = x.clone()
    upstream = torch.randn_like(x)
    timings = interleaved(
        {
            "clone, forward": lambda: x.clone(),
            "shift, forward": lambda: group_shift(x, spatial_groups, shift_channels),
            # the gradient of a clone is passed on as it is, so a copy of it is the price to compare with
            "clone, backward": lambda: torch.autograd.grad(cloned, x, upstream, retain_graph=True)[0].clone(),
            "shift, backward": lambda: torch.autograd.grad(shifted, x, upstream, retain_graph=True),
        },
        rounds,
    )
    rows: list[Row] = [
        {
            "": way,
            "shift / clone": 1 / ratios(timings, f"clone, {way}")[f"shift, {way}"],
            "shift, ms": timings[f"shift, {way}"],
            "clone, ms": timings[f"clone, {way}"],
        }
        for way in ("forward", "backward")
    ]
    return [
        Table(
            f"Group shift, {channels} channels at {times(size)}",
            rows,
            f"Spatial groups {tuple(spatial_groups)}, {shift_channels} channels moved, {rounds} rounds.",
        )
    ]
