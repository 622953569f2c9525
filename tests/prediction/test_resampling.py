"""Taps are where skimage's resize and scipy's map_coordinates look."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape
from nnunetv2.preprocessing.resampling.no_resampling import no_resampling_hack
from scipy.ndimage import map_coordinates
from skimage.transform import resize

from nnunetv2_gsp.prediction.resampling import taps_along, taps_of_image

sizes = st.integers(1, 40)


@given(low=sizes, size=sizes)
def test_linear_taps_are_those_of_resize(low, size):
    values = np.random.default_rng(low).normal(size=low)
    taps = taps_along(low, size, order=1)
    ours = values[taps["first"]] * (1 - taps["weight"].astype(float)) + values[taps["second"]] * taps["weight"]
    assert np.allclose(ours, resize(values, (size,), 1, mode="edge", anti_aliasing=False), rtol=0, atol=1e-6)


@given(low=sizes, size=sizes)
def test_nearest_taps_are_those_of_map_coordinates(low, size):
    values = np.arange(low, dtype=float)
    position = low / size * (np.arange(size) + 0.5) - 0.5
    taps = taps_along(low, size, order=0)
    assert np.array_equal(values[taps["first"]], map_coordinates(values, position[None], order=0, mode="nearest"))
    assert np.array_equal(taps["first"], taps["second"])


def test_a_thick_axis_takes_the_nearest_slice():
    resample = partial(resample_data_or_seg_to_shape, is_seg=False, order=1, order_z=0, force_separate_z=None)
    thick, even = (taps_of_image(resample, (3, 8, 8), (7, 9, 9), (d, 1, 1), (1, 1, 1)) for d in (4, 2))
    assert not thick[0]["weight"].any()
    assert even[0]["weight"].any()
    assert thick[1]["weight"].any()


@pytest.mark.parametrize(
    "resample",
    [
        no_resampling_hack,
        resample_data_or_seg_to_shape,
        partial(no_resampling_hack),
        partial(resample_data_or_seg_to_shape, is_seg=True, order=1),
        partial(resample_data_or_seg_to_shape),
        partial(resample_data_or_seg_to_shape, order=1, of_a_later_nnunet=2),
    ],
)
def test_what_is_not_known_has_no_taps(resample):
    assert taps_of_image(resample, (3, 8, 8), (7, 9, 9), (1, 1, 1), (1, 1, 1)) is None
