"""The definitions of the shifts against maps written out by hand, convolutions, and what the paper says of them."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import conv2d, conv3d

from nnunetv2_gsp.ops.reference import group_shift_reference, local_shift_reference


def test_group_shift_of_a_plane_written_out():
    """Blocks of 1×2 voxels have the indices 0 2 above 1 3 (Eq. 2: the first axis runs fastest).

    The channels 0 and 1 are group 0 and stay (Eq. 3), 2 and 3 move by one block, 4 and 5 by two, 6 and 7 by three, and
    what leaves block 3 enters block 0 (Eq. 4); channel 8 is behind C_s = 8. Voxels keep their place in a block.
    """
    plane = torch.tensor([[0, 1, 4, 5], [2, 3, 6, 7]])
    stays = [[0, 1, 4, 5], [2, 3, 6, 7]]
    by_one = [[6, 7, 2, 3], [0, 1, 4, 5]]  # 0 -> 1 -> 2 -> 3 -> 0
    by_two = [[4, 5, 0, 1], [6, 7, 2, 3]]
    by_three = [[2, 3, 6, 7], [4, 5, 0, 1]]
    shifted = group_shift_reference(plane.expand(1, 9, 2, 4), (2, 2), 8)
    assert shifted[0].tolist() == [*[stays] * 2, *[by_one] * 2, *[by_two] * 2, *[by_three] * 2, stays]


def test_group_shift_of_a_volume_written_out():
    """Each voxel of 2×2×2 is a block and holds its index x + 2·y + 4·z (Eq. 2); channel c moves it by c (Eq. 3)."""
    volume = torch.tensor([[[0, 4], [2, 6]], [[1, 5], [3, 7]]])
    shifted = group_shift_reference(volume.expand(1, 8, 2, 2, 2), (2, 2, 2), 8)
    assert shifted[0, 0].tolist() == [[[0, 4], [2, 6]], [[1, 5], [3, 7]]]
    assert shifted[0, 1].tolist() == [[[7, 3], [1, 5]], [[0, 4], [2, 6]]]
    assert shifted[0, 3].tolist() == [[[5, 1], [7, 3]], [[6, 2], [0, 4]]]
    assert shifted[0, 7].tolist() == [[[1, 5], [3, 7]], [[2, 6], [4, 0]]]


@st.composite
def group_shifts(draw):
    """Draw a map whose voxels are numbered in every channel, its groups, and C_s."""
    n_axes = draw(st.integers(2, 3))
    groups = tuple(draw(st.integers(1, 3)) for _ in range(n_axes))
    spatial = [count * draw(st.integers(1, 3)) for count in groups]
    shift_channels = math.prod(groups) * draw(st.integers(1, 2))
    channels = shift_channels + draw(st.integers(0, 2))
    x = torch.arange(channels * math.prod(spatial)).reshape(1, channels, *spatial)
    return x, groups, shift_channels


@settings(max_examples=25)
@given(group_shifts())
def test_voxels_stay_in_their_channel_and_keep_their_place_in_a_block(shift):
    x, groups, shift_channels = shift
    shifted = group_shift_reference(x, groups, shift_channels)
    assert torch.equal(shifted.flatten(2).sort().values, x.flatten(2))
    assert torch.equal(shifted[:, shift_channels:], x[:, shift_channels:])
    block = [size // count for size, count in zip(x.shape[2:], groups, strict=True)]
    for place in itertools.product(*map(range, block)):
        voxels = (0, slice(None), *(slice(first, None, step) for first, step in zip(place, block, strict=True)))
        assert torch.equal(shifted[voxels].flatten(1).sort().values, x[voxels].flatten(1))


@settings(max_examples=25)
@given(group_shifts())
def test_as_many_shifts_as_there_are_groups_lead_back(shift):
    """Eq. 4 adds modulo the number of groups, and no channel is back earlier than its step says."""
    x, groups, shift_channels = shift
    n_groups, shifted = math.prod(groups), x
    for n_shifts in range(1, n_groups + 1):
        shifted = group_shift_reference(shifted, groups, shift_channels)
        for channel in range(shift_channels):
            step = channel // (shift_channels // n_groups)
            assert torch.equal(shifted[:, channel], x[:, channel]) == (n_shifts * step % n_groups == 0)


def test_local_shift_of_a_volume_written_out():
    """Channel 0 stays; the others go by -D, +D, -H, +H, -W, +W; a zero enters where the map ends."""
    volume = torch.tensor([[[1, 2], [3, 4]], [[5, 6], [7, 8]]])
    assert local_shift_reference(volume.expand(1, 8, 2, 2, 2), 1, 6)[0].tolist() == [
        [[[1, 2], [3, 4]], [[5, 6], [7, 8]]],
        [[[5, 6], [7, 8]], [[0, 0], [0, 0]]],
        [[[0, 0], [0, 0]], [[1, 2], [3, 4]]],
        [[[3, 4], [0, 0]], [[7, 8], [0, 0]]],
        [[[0, 0], [1, 2]], [[0, 0], [5, 6]]],
        [[[2, 0], [4, 0]], [[6, 0], [8, 0]]],
        [[[0, 1], [0, 3]], [[0, 5], [0, 7]]],
        [[[1, 2], [3, 4]], [[5, 6], [7, 8]]],
    ]


@pytest.mark.parametrize(("n_axes", "convolve"), [(2, conv2d), (3, conv3d)])
@given(data=st.data())
@settings(max_examples=20)
def test_local_shift_is_a_convolution_with_one_tap_a_channel(n_axes, convolve, data):
    first, a_direction = data.draw(st.integers(0, 2)), data.draw(st.integers(1, 2))
    moved = 2 * n_axes * a_direction
    channels = first + moved + data.draw(st.integers(0, 2))
    spatial = [data.draw(st.integers(1, 4)) for _ in range(n_axes)]
    taps = torch.zeros(channels, 1, *[3] * n_axes, dtype=torch.float64)
    for channel in range(channels):
        tap = [1] * n_axes
        if first <= channel < first + moved:
            axis, is_up = divmod((channel - first) // a_direction, 2)
            tap[axis] = 0 if is_up else 2
        taps[(channel, 0, *tap)] = 1
    x = torch.arange(1.0, 1 + 2 * channels * math.prod(spatial), dtype=torch.float64).reshape(2, channels, *spatial)
    assert torch.equal(local_shift_reference(x, first, moved), convolve(x, taps, padding=1, groups=channels))
