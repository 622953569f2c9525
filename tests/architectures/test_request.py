import math
from dataclasses import asdict

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nnunetv2_gsp.architectures.request import ShiftRequest
from nnunetv2_gsp.architectures.settings import ShiftSettings


@st.composite
def stages(draw):
    """Draw maps and channels of a network, as any plan might have them."""
    n_axes, n_stages = draw(st.integers(2, 3)), draw(st.integers(1, 5))
    maps = [tuple(draw(st.integers(1, 48)) for _ in range(n_axes)) for _ in range(n_stages)]
    return maps, [draw(st.integers(16, 320)) for _ in range(n_stages)]


@settings(max_examples=100)
@given(stages(), st.sampled_from([0.25, 0.3, 0.5, 0.75, 1.0]), st.sampled_from([0, 0.2, 0.25]))
def test_rule_gives_divisors_and_no_more_groups_than_shifted_channels(network, ratio, local_ratio):
    assume(ratio + local_ratio <= 1)
    maps, channels = network
    assume(local_ratio == 0 or max(channels) * local_ratio >= 6)
    resolved = ShiftRequest(shift_ratio=ratio, local_shift_ratio=local_ratio).resolve(maps, channels)
    assert ShiftSettings.checked(channels, len(maps[0]), **asdict(resolved)) == resolved
    for size, count, groups, shifted, local in zip(
        maps, channels, resolved.spatial_groups, resolved.shift_channels, resolved.local_shift_channels, strict=True
    ):
        assert all(voxels % n == 0 for voxels, n in zip(size, groups, strict=True))
        assert math.prod(groups) <= shifted <= ratio * count
        assert shifted > ratio * count - math.prod(groups) - 1
        assert local <= local_ratio * count < local + 2 * len(size) or local == local_ratio == 0


def test_ratios_are_taken_as_written():
    """0.3 · 10 is 3, and 0.1 + 0.9 is 1, which floating point would not say of 0.7 + 0.1 + 0.2."""
    assert ShiftRequest(shift_ratio=0.3).resolve([(1, 1)], [10]).shift_channels == (3,)
    assert ShiftRequest(shift_ratio=0.58).resolve([(1, 1)], [100]).shift_channels == (58,)
    ShiftRequest(shift_ratio=0.9, local_shift_ratio=0.1)


def test_ratio_zero_moves_nothing():
    resolved = ShiftRequest(shift_ratio=0, spatial_groups=[(2, 2)]).resolve([(8, 8)], [16])
    assert (resolved.spatial_groups, resolved.shift_channels) == (((1, 1),), (0,))


def test_position_none_moves_nothing_whatever_the_ratios():
    resolved = ShiftRequest(shift_position="none", shift_ratio=0.5, local_shift_ratio=0.5).resolve([(8, 8)], [16])
    assert (resolved.spatial_groups, resolved.shift_channels, resolved.local_shift_channels) == (((1, 1),), (0,), (0,))


def test_ratio_one_moves_everything_that_the_groups_divide():
    assert ShiftRequest(shift_ratio=1, spatial_groups=[(2, 3)]).resolve([(8, 9)], [16]).shift_channels == (12,)


def test_groups_are_snapped_unless_strict():
    request = {"spatial_groups": [(5, 5, 5)]}
    assert ShiftRequest(**request).resolve([(4, 8, 8)], [256]).spatial_groups == ((4, 4, 4),)
    with pytest.raises(ValueError, match=r"stage 0 .* 4×8×8 voxels, got 5×5×5: 4×4×4 would"):
        ShiftRequest(**request, strict=True).resolve([(4, 8, 8)], [256])


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"shift_ratio": 0.8, "local_shift_ratio": 0.3}, "at most 1, got 0.8 \\+ 0.3"),
        ({"shift_ratio": -0.1}, "shift_ratio must be from 0 to 1"),
        ({"local_shift_ratio": 1.1}, "local_shift_ratio must be from 0 to 1"),
        ({"shift_ratio": float("nan")}, "shift_ratio must be from 0 to 1"),
        ({"spatial_groups": [(2, 2, 2)] * 3}, "spatial_groups must have one entry a stage, 2 here"),
        ({"spatial_groups": [(2, 2), (2, 2)]}, "stage 0 must be 3 positive counts"),
        ({"spatial_groups": [(2, 2, 2), (4, 4, 4)]}, "no whole channel for each of the 64 groups"),
        ({"shift_ratio": 0.01}, "no whole channel"),
        ({"local_shift_ratio": 0.09}, "no whole channel for each of the 6 directions in any stage, of 64"),
    ],
)
def test_what_does_not_fit_is_named(request_, message):
    with pytest.raises(ValueError, match=message) as refusal:
        ShiftRequest(**request_).resolve([(8, 8, 8), (4, 4, 4)], [32, 64])
    assert "\n" not in str(refusal.value)


def test_a_stage_too_narrow_for_every_direction_has_no_local_shift():
    """A quarter of 16 channels is 4, and there are 6 directions."""
    resolved = ShiftRequest(local_shift_ratio=0.25).resolve([(8, 8, 8), (4, 4, 4)], [16, 32])
    assert resolved.local_shift_channels == (0, 6)
