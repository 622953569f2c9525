"""Computes feature-map sizes, spatial groups and shifted channels of every stage."""

import itertools
import math
from collections.abc import Iterable, Sequence
from fractions import Fraction

from nnunetv2_gsp.wording import times


def feature_map_sizes(patch_size: Sequence[int], strides: Sequence[int | Sequence[int]]) -> list[tuple[int, ...]]:
    """Return the size in voxels of every stage's feature map: the patch divided by the cumulative strides.

    Args:
        patch_size: size of the network's input in voxels along each axis, 2D or 3D.
        strides: one entry for each stage, the first included: one whole number an axis from 1 on, or one for all.

    Raises:
        ValueError: if the strides do not divide the patch.

    Examples:
        >>> feature_map_sizes((16, 128, 128), strides=[1, 2, 2, 2, 2])[-1]
        (1, 8, 8)
    """
    sizes = []
    size = tuple(patch_size)
    steps = [(stride,) * len(size) if isinstance(stride, int) else tuple(stride) for stride in strides]
    for stage, step in enumerate(steps):
        if len(step) != len(size) or any(voxels % edge for voxels, edge in zip(size, step, strict=True)):
            raise ValueError(
                f"The strides must divide the patch: stage {stage} strides a map of {times(size)} voxels by "
                f"{times(step)} (patch {times(patch_size)}); take a patch whose axes are multiples of "
                f"{times(map(math.prod, zip(*steps, strict=False)))}, the product of the strides."
            )
        size = tuple(voxels // edge for voxels, edge in zip(size, step, strict=True))
        sizes.append(size)
    return sizes


def spatial_groups_of(map_size: Sequence[int], max_groups: int) -> tuple[int, ...]:
    """Choose the spatial groups (g_d, g_h[, g_w]) of a feature map; the paper says only that its size determines them.

    Every count divides its axis, equal axes get equal counts, and the product G is at most `max_groups`. Of these: the
    largest G, then the blocks nearest to a cube, then the smallest largest count, then the lexicographically smallest.
    Where equal counts on equal axes leave a map of more than one voxel in one block, that condition is dropped (see
    `has_equal_groups_on_equal_axes`).

    Args:
        map_size: size of the feature map in voxels along each axis, 2D or 3D.
        max_groups: largest product G: the number ⌊ratio·C⌋ of channels that may move, since each group needs one.

    Examples:
        The paper's PROMISE12 patch and widths give groups that stand in its Table 2:

        >>> maps = feature_map_sizes((16, 128, 128), strides=[1, 2, 2, 2, 2])
        >>> [spatial_groups_of(size, channels // 2) for size, channels in zip(maps, (16, 32, 64, 128, 256))]
        [(2, 2, 2), (1, 4, 4), (2, 4, 4), (1, 8, 8), (1, 8, 8)]
    """
    candidates = list(_divisor_tuples(map_size, max_groups))
    even = [groups for groups in candidates if has_equal_groups_on_equal_axes(map_size, groups)]
    best = max(even, key=math.prod)
    if math.prod(best) == 1:
        even = candidates
    return min(even, key=lambda groups: (-math.prod(groups), _block_elongation(map_size, groups), max(groups), groups))


def has_equal_groups_on_equal_axes(map_size: Sequence[int], groups: Sequence[int]) -> bool:
    """Tell whether axes of the same size have the same count of groups.

    Examples:
        >>> [has_equal_groups_on_equal_axes((16, 128, 128), groups) for groups in ((2, 4, 4), (2, 2, 8))]
        [True, False]
    """
    return len(set(zip(map_size, groups, strict=True))) == len(set(map_size))


def snapped_groups(groups: Sequence[int], map_size: Sequence[int]) -> tuple[int, ...]:
    """Return, per axis, the largest divisor of the map that is not above the count asked for.

    The paper asks for (5, 5, 5) on a map that 5 does not divide (Sec. 3.2), and does not say how.

    Args:
        groups: number of groups along each axis, from 1 on.
        map_size: size of the feature map in voxels along each axis.

    Examples:
        >>> snapped_groups((5, 5, 5), map_size=(4, 8, 8))
        (4, 4, 4)
    """
    return tuple(_divisors(size, count)[-1] for count, size in zip(groups, map_size, strict=True))


def check_groups_divide(spatial_groups: Sequence[Sequence[int]], maps: Sequence[Sequence[int]]) -> None:
    """Check that every stage's groups divide its feature map.

    Args:
        spatial_groups: number of groups along each axis, one entry for each stage.
        maps: size of the feature map in voxels along each axis, one entry for each stage.

    Raises:
        ValueError: a count does not divide its axis.

    Examples:
        >>> check_groups_divide([(5, 5)], maps=[(16, 20)])
        Traceback (most recent call last):
        ValueError: spatial_groups of stage 0 must divide its feature map of 16×20 voxels, got 5×5: 4×5 would.
    """
    for stage, (groups, size) in enumerate(zip(spatial_groups, maps, strict=True)):
        fitting = snapped_groups(groups, size)
        if fitting != tuple(groups):
            raise ValueError(
                f"spatial_groups of stage {stage} must divide its feature map of {times(size)} voxels, "
                f"got {times(groups)}: {times(fitting)} would."
            )


def shift_channels_of(groups: Sequence[int], max_channels: int) -> int:
    """Return C_s: the largest multiple of G up to `max_channels`, so that all groups have equally many channels.

    Args:
        groups: number of groups along each axis; their product is G.
        max_channels: largest number of channels that may move, such as half of them; below G the result is 0.

    Examples:
        >>> shift_channels_of((1, 7, 7), max_channels=50)
        49
    """
    n_groups = math.prod(groups)
    return n_groups * (max_channels // n_groups)


def _divisor_tuples(map_size: Sequence[int], max_groups: int) -> Iterable[tuple[int, ...]]:
    """Yield tuples of divisors of the axes with a product of at most `max_groups`, at least the single block."""
    divisors = [_divisors(size, max(max_groups, 1)) for size in map_size]
    return (groups for groups in itertools.product(*divisors) if math.prod(groups) <= max(max_groups, 1))


def _divisors(size: int, largest: int) -> list[int]:
    """Return the divisors of a size up to `largest`, in ascending order."""
    return [count for count in range(1, min(size, largest) + 1) if size % count == 0]


def _block_elongation(map_size: Sequence[int], groups: Sequence[int]) -> Fraction:
    """Return the ratio of a block's longest to its shortest edge, exactly."""
    edges = [size // count for size, count in zip(map_size, groups, strict=True)]
    return Fraction(max(edges), min(edges))
