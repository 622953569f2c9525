"""Feature-map sizes and channels -> spatial groups and shifted channels of every stage."""
import itertools
import math
from collections.abc import Iterable, Sequence
from fractions import Fraction


def feature_map_sizes(patch_size: Sequence[int], strides: Sequence[int | Sequence[int]]) -> list[tuple[int, ...]]:
    """Return the size in voxels of every stage's feature map: the patch divided by the cumulative strides.

    Args:
        patch_size: of the network's input, in voxels, 2D or 3D.
        strides: one a stage, the first stage's included; a number counts for every axis.

    Raises:
        ValueError: if the strides do not divide the patch.
    """
    sizes = []
    size = tuple(patch_size)
    for stage, stride in enumerate(strides):
        per_axis = (stride,) * len(size) if isinstance(stride, int) else tuple(stride)
        if len(per_axis) != len(size) or any(voxels % step for voxels, step in zip(size, per_axis, strict=True)):
            raise ValueError(f"The strides must divide the patch: stage {stage} strides a map of {size} voxels by "
                             f"{per_axis} (patch {tuple(patch_size)}); change patch_size in the plans to a multiple of "
                             f"the product of the strides.")
        size = tuple(voxels // step for voxels, step in zip(size, per_axis, strict=True))
        sizes.append(size)
    return sizes


def spatial_groups_of(map_size: Sequence[int], max_groups: int) -> tuple[int, ...]:
    """Choose the spatial groups (g_d, g_h, g_w) of a feature map; the paper says only that its size determines them.

    Every count divides its axis, equal axes get equal counts, and the product G is at most `max_groups`. Of these: the
    largest G, then the blocks nearest to a cube, then the smallest largest count, then the lexicographically smallest.
    Where equal counts on equal axes leave a map of more than one voxel in one block, that condition is dropped (see
    `has_equal_groups_on_equal_axes`).

    Args:
        map_size: in voxels, 2D or 3D.
        max_groups: C_s, since each group needs a channel.
    """
    candidates = list(_divisor_tuples(map_size, max_groups))
    even = [groups for groups in candidates if has_equal_groups_on_equal_axes(map_size, groups)]
    best = max(even, key=math.prod)
    if math.prod(best) == 1:
        even = candidates
    return min(even, key=lambda groups: (-math.prod(groups), _block_elongation(map_size, groups), max(groups), groups))


def has_equal_groups_on_equal_axes(map_size: Sequence[int], groups: Sequence[int]) -> bool:
    """Tell whether axes of the same size have the same count of groups."""
    return len(set(zip(map_size, groups, strict=True))) == len(set(map_size))


def snapped_groups(groups: Sequence[int], map_size: Sequence[int]) -> tuple[int, ...]:
    """Return, per axis, the largest divisor of the map that is not above the count asked for.

    The paper asks for (5, 5, 5) on a map that 5 does not divide, and does not say how.
    """
    return tuple(max(divisor for divisor in range(1, min(count, size) + 1) if size % divisor == 0)
                 for count, size in zip(groups, map_size, strict=True))


def shift_channels_of(groups: Sequence[int], max_channels: int) -> int:
    """Return C_s: the largest multiple of G in `max_channels`, so that each group has as many; 0 if G does not fit."""
    n_groups = math.prod(groups)
    return n_groups * (max_channels // n_groups)


def _divisor_tuples(map_size: Sequence[int], max_groups: int) -> Iterable[tuple[int, ...]]:
    """Yield tuples of divisors of the axes with a product of at most `max_groups`, at least the single block."""
    divisors = [[count for count in range(1, min(size, max(max_groups, 1)) + 1) if size % count == 0]
                for size in map_size]
    return (groups for groups in itertools.product(*divisors) if math.prod(groups) <= max(max_groups, 1))


def _block_elongation(map_size: Sequence[int], groups: Sequence[int]) -> Fraction:
    """Return the ratio of a block's longest to its shortest edge, exactly."""
    edges = [size // count for size, count in zip(map_size, groups, strict=True)]
    return Fraction(max(edges), min(edges))
