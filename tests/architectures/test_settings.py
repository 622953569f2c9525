import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnunetv2_gsp.architectures.settings import SHIFT_LOCATIONS, SHIFT_POSITIONS, ShiftSettings


@st.composite
def shift_settings(draw):
    counts = st.integers(1, 8)
    n_axes = draw(st.integers(2, 3))
    stages = draw(st.lists(st.tuples(st.tuples(*[counts] * n_axes), st.integers(0, 512)), min_size=1, max_size=8))
    return ShiftSettings(tuple(groups for groups, _ in stages), tuple(shifted for _, shifted in stages),
                         draw(st.sampled_from(SHIFT_POSITIONS)), draw(st.sampled_from(SHIFT_LOCATIONS)))


@given(shift_settings())
def test_survives_the_state_dict(settings):
    encoded = settings.to_tensor()
    assert encoded.dtype == torch.int64
    assert ShiftSettings.from_tensor(encoded) == settings


def test_a_later_format_is_refused_not_misread():
    encoded = ShiftSettings(((1, 1),), (0,), "CSC", "both").to_tensor()
    encoded[0] += 1
    with pytest.raises(ValueError, match="format 2"):
        ShiftSettings.from_tensor(encoded)
