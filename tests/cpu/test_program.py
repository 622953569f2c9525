"""How maps are cut into tiles, from what a tile is for: whole rows, within the cache, whole cache lines."""

import math
from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nnunetv2_gsp.cpu.program import TILE_FLOATS, Buffer, Read, Step, round_up, three

CACHE_LINE = 16  # floats


@st.composite
def buffers(draw):
    """Draw maps as networks have them: planes and volumes, few channels and many, long rows and short ones."""
    n_axes = draw(st.sampled_from([2, 3]))
    size = three([draw(st.integers(1, 300)) for _ in range(n_axes)], 1)
    return Buffer(draw(st.sampled_from([1, 2, 16, 33, 64, 128, 320, 640])), size)


def tile_of(buffer):
    """Return the rows of a tile and the voxels in them."""
    rows = 2**buffer.log2_rows
    return rows, rows * buffer.size[2]


@given(buffers())
@settings(max_examples=150)
def test_a_tile_is_as_long_as_the_cache_allows(buffer):
    rows, voxels = tile_of(buffer)
    all_rows = buffer.size[0] * buffer.size[1]
    assert 1 <= rows <= all_rows
    if rows > 1:  # a single row is not cut
        assert voxels <= 2048
        assert voxels <= 512 or buffer.channels * voxels <= TILE_FLOATS
    # one twice as long would be too long, or leave fewer than four tiles
    too_long = 2 * voxels > min(2048, max(512, TILE_FLOATS // buffer.channels))
    assert too_long or 2 * rows > all_rows or 2 * voxels > max(16, math.prod(buffer.size) // 4)


@given(buffers())
@settings(max_examples=150)
def test_small_maps_still_have_four_tiles(buffer):
    assume(math.prod(buffer.size) >= 64)
    rows, _ = tile_of(buffer)
    assert math.ceil(buffer.size[0] * buffer.size[1] / rows) >= min(4, buffer.size[0] * buffer.size[1])


@given(buffers())
@settings(max_examples=150)
def test_tiles_hold_the_map_and_no_tile_too_many(buffer):
    rows, voxels = tile_of(buffer)
    assert buffer.channel_stride % CACHE_LINE == 0
    assert voxels <= buffer.channel_stride < voxels + CACHE_LINE
    assert buffer.tile_stride == buffer.channels * buffer.channel_stride
    n_tiles, rest = divmod(buffer.sample_stride, buffer.tile_stride)
    assert rest == 0
    assert (n_tiles - 1) * rows < buffer.size[0] * buffer.size[1] <= n_tiles * rows


@given(buffers(), st.sampled_from([(1, 2, 2), (2, 2, 2), (1, 1, 3), (4, 4, 4)]), st.integers(1, 2))
@settings(max_examples=150)
def test_what_is_read_for_rows_behind_a_pooling_fits_the_cache(out, pool, n_reads):
    low = Buffer(out.channels, tuple(voxels * step for voxels, step in zip(out.size, pool, strict=True)))
    step = Step((Read(low, pool=pool),) * n_reads, out)
    rows = 2**step.log2_rows
    floats_of_a_row = n_reads * low.channels * math.prod(pool) * out.size[2]
    assert rows <= 2**out.log2_rows
    assert rows == 1 or rows * floats_of_a_row <= TILE_FLOATS
    assert rows == 2**out.log2_rows or 2 * rows * floats_of_a_row > TILE_FLOATS
    assert replace(step, reads=(Read(low),)).log2_rows == replace(step, reads=()).log2_rows == out.log2_rows


@given(st.integers(0, 10**6), st.integers(1, 64))
def test_round_up_is_the_next_multiple(n, multiple):
    assert round_up(n, multiple) == min(value for value in range(n, n + multiple) if value % multiple == 0)
    assert round_up(n) == round_up(n, CACHE_LINE)


def test_planes_are_volumes_of_one_slice():
    assert three((4, 5), 1) == (1, 4, 5)
    assert three([4, 5], 0) == (0, 4, 5)
    assert three((3, 4, 5), 1) == (3, 4, 5)
    assert three(2, 1) == (2, 2, 2)
