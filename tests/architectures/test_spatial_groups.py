import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunetv2_gsp.architectures.spatial_groups import (
    feature_map_sizes,
    shift_channels_of,
    snapped_groups,
    spatial_groups_of,
)

WIDTHS_TINY = (16, 32, 64, 128, 256)
WIDTHS_NNUNET = (32, 64, 128, 256, 320, 320)


def groups_of_stages(patch_size, strides, widths):
    return [
        spatial_groups_of(size, channels // 2)
        for size, channels in zip(feature_map_sizes(patch_size, strides), widths, strict=True)
    ]


def test_promise12_patch_gives_settings_of_table_2():
    strides = [(1, 1, 1), *[(2, 2, 2)] * 4]
    assert groups_of_stages((16, 128, 128), strides, WIDTHS_TINY) == [
        (2, 2, 2),
        (1, 4, 4),
        (2, 4, 4),
        (1, 8, 8),
        (1, 8, 8),
    ]


def test_cubic_patch_with_nnunets_widths():
    strides = [(1, 1, 1), *[(2, 2, 2)] * 5]
    assert groups_of_stages((128, 128, 128), strides, WIDTHS_NNUNET) == [
        (2, 2, 2),
        (2, 2, 2),
        (4, 4, 4),
        (4, 4, 4),
        (4, 4, 4),
        (4, 4, 4),
    ]


@pytest.mark.parametrize(
    ("map_size", "max_groups", "expected"),
    [
        ((7, 7, 7), 49, (1, 7, 7)),  # nothing equal fits but a single block, so equal axes may differ
        ((7, 7, 7), 48, (1, 1, 7)),
        ((16, 32, 64), 16, (1, 4, 4)),  # blocks of 16×8×16
        ((1, 1, 1), 16, (1, 1, 1)),
        ((8, 8), 4, (2, 2)),
        ((8, 8), 0, (1, 1)),
    ],
)
def test_hand_computed(map_size, max_groups, expected):
    assert spatial_groups_of(map_size, max_groups) == expected


@settings(max_examples=150)
@given(st.lists(st.integers(1, 24), min_size=2, max_size=3), st.integers(0, 40))
def test_rule_as_written(map_size, max_groups):
    """The rule's words, applied one after the other to every tuple there is."""
    groups = spatial_groups_of(map_size, max_groups)
    axes = range(len(map_size))
    fitting = [
        t
        for t in itertools.product(*(range(1, size + 1) for size in map_size))
        if all(map_size[a] % t[a] == 0 for a in axes) and (math.prod(t) <= max_groups or math.prod(t) == 1)
    ]
    equal = [t for t in fitting if all(t[a] == t[b] for a in axes for b in axes if map_size[a] == map_size[b])]
    left = equal if max(map(math.prod, equal)) > 1 else fitting
    for preference in (
        lambda t: -math.prod(t),
        lambda t: max(map_size[a] / t[a] for a in axes) / min(map_size[a] / t[a] for a in axes),
        max,
    ):
        best = min(map(preference, left))
        left = [t for t in left if preference(t) == pytest.approx(best)]
    assert groups == min(left)


@given(st.integers(1, 64), st.integers(1, 512))
def test_shifted_channels_are_the_largest_multiple(n_groups, max_channels):
    shifted = shift_channels_of((n_groups,), max_channels)
    assert shifted % n_groups == 0
    assert shifted <= max_channels < shifted + n_groups


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 48)), min_size=2, max_size=3))
def test_snapped_to_the_largest_divisor_not_above(axes):
    asked, size = zip(*axes, strict=True)
    for count, voxels, snapped in zip(asked, size, snapped_groups(asked, size), strict=True):
        assert snapped <= count
        assert voxels % snapped == 0
        assert all(voxels % other for other in range(snapped + 1, count + 1))


def test_the_papers_brats_groups_on_its_patch():
    """(5, 5, 5) of the fifth stage fits neither its 4×8×8 map nor an 8×8×8 one."""
    maps = feature_map_sizes((64, 128, 128), [(1, 1, 1), *[(2, 2, 2)] * 4])
    asked = [(2, 2, 2), (2, 2, 2), (2, 2, 2), (4, 4, 4), (5, 5, 5)]
    assert [snapped_groups(groups, size) for groups, size in zip(asked, maps, strict=True)] == [*asked[:4], (4, 4, 4)]
    assert snapped_groups((5, 5, 5), (8, 8, 8)) == (4, 4, 4)


def test_sizes_of_anisotropic_stages():
    assert feature_map_sizes((16, 256, 192), [(1, 1, 1), (1, 2, 2), (2, 2, 2)]) == [
        (16, 256, 192),
        (16, 128, 96),
        (8, 64, 48),
    ]


def test_a_patch_that_strides_do_not_divide_is_named():
    with pytest.raises(ValueError, match=r"stage 2 strides a map of 10×6 voxels by 4×2 \(patch 20×12\)"):
        feature_map_sizes((20, 12), [(1, 1), (2, 2), (4, 2)])
