"""Maps that are needed at the same time lie apart, and memory is not taken twice."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunetv2_gsp.cpu.library import FusedLayers
from nnunetv2_gsp.cpu.runner import Layout, Runner, _first_gap, spaces_in
from nnunetv2_gsp.engines.fused import Fused
from tests.architectures.networks import gsp_unet, isotropic

NO_LAYERS = FusedLayers("none", lambda *_: 0, lambda *_: None, lambda *_: 0, lambda *_: 0)


def program_of(n_stages, width, shift_position, n_axes=3):
    torch.manual_seed(0)
    patch = (2 ** (n_stages + 1),) * n_axes
    network = gsp_unet(patch, [width] * n_stages, isotropic(n_stages, n_axes), shift_position=shift_position).eval()
    engine = Fused(network, NO_LAYERS)
    logits = network.walk(engine.begin(torch.zeros(1, 2, *patch)), engine)
    return engine.program(logits)


def lives(program):
    """Return, from the definition, the steps in which each map is written or read."""
    steps = {}
    for number, step in enumerate(program.steps):
        for buffer in (step.out, step.low, *(read.buffer for read in step.reads)):
            if buffer not in (None, program.image, *program.logits):
                steps.setdefault(buffer, []).append(number)
    return {buffer: range(numbers[0], numbers[-1] + 1) for buffer, numbers in steps.items()}


@settings(max_examples=20)
@given(
    st.integers(2, 4),
    st.integers(8, 24),
    st.sampled_from(["none", "CSC", "CSCSUpShift"]),
    st.integers(1, 3),
    st.sampled_from([2, 3]),
)
def test_maps_that_live_at_the_same_time_do_not_overlap(n_stages, width, shift_position, n_samples, n_axes):
    program = program_of(n_stages, width, shift_position, n_axes)
    layout = Layout(program.steps, spaces_in(program), n_samples, n_axes)
    places = {
        buffer: range(layout.offsets[buffer], layout.offsets[buffer] + n_samples * buffer.sample_stride)
        for buffer in lives(program)
    }
    for (one, in_one), (other, in_other) in itertools.combinations(lives(program).items(), 2):
        if set(in_one) & set(in_other):
            assert max(places[one].start, places[other].start) >= min(places[one].stop, places[other].stop)
    assert max(place.stop for place in places.values()) <= Runner(program, n_samples).arena_floats
    # deep maps reuse what shallow ones left, so that all together take more than the arena
    if n_stages == 4:
        assert layout.floats < sum(map(len, places.values()))


@pytest.mark.parametrize(
    ("taken", "size", "expected"),
    [
        ([], 5, 0),
        ([(0, 3)], 5, 3),
        ([(4, 3)], 4, 0),
        ([(4, 3)], 5, 7),
        ([(0, 9), (2, 3), (11, 2)], 2, 9),
        ([(0, 9), (2, 3), (11, 2)], 3, 13),
    ],
)
def test_the_first_gap_that_is_wide_enough(taken, size, expected):
    assert _first_gap(taken, size) == expected
