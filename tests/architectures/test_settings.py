import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnunetv2_gsp.architectures.settings import SHIFT_LOCATIONS, SHIFT_POSITIONS, ShiftSettings


@st.composite
def shift_settings(draw):
    counts = st.integers(1, 8)
    n_axes = draw(st.integers(2, 3))
    local = st.integers(0, 512) if draw(st.booleans()) else st.just(0)
    stages = draw(
        st.lists(st.tuples(st.tuples(*[counts] * n_axes), st.integers(0, 512), local), min_size=1, max_size=8)
    )
    groups, shifted, locally = zip(*stages, strict=True)
    return ShiftSettings(
        groups, shifted, draw(st.sampled_from(SHIFT_POSITIONS)), draw(st.sampled_from(SHIFT_LOCATIONS)), locally
    )


@given(shift_settings())
def test_survives_the_state_dict(settings):
    encoded = settings.to_tensor()
    assert encoded.dtype == torch.int64
    assert ShiftSettings.from_tensor(encoded) == settings


def test_a_later_format_is_refused_not_misread():
    encoded = ShiftSettings(((1, 1),), (0,), "CSC", "both", (4,)).to_tensor()
    encoded[0] += 1
    with pytest.raises(ValueError, match="format 3"):
        ShiftSettings.from_tensor(encoded)


def test_weights_from_before_there_were_local_shifts_still_load():
    """What 0.1.0 wrote at first: format 1, CSC, both, two axes; (2, 2) on 8 channels, (4, 1) on 12."""
    settings = ShiftSettings(((2, 2), (4, 1)), (8, 12), "CSC", "both", (0, 0))
    encoded = torch.tensor([1, 1, 2, 2, 2, 2, 8, 4, 1, 12])
    assert ShiftSettings.from_tensor(encoded) == settings
    assert torch.equal(settings.to_tensor(), encoded)
