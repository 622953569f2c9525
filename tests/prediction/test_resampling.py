"""Images become what nnU-Net makes of them; taps are where skimage's resize and scipy's map_coordinates look."""

from functools import partial
from inspect import Parameter, signature
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape
from nnunetv2.preprocessing.resampling.no_resampling import no_resampling_hack
from scipy.ndimage import map_coordinates
from skimage.transform import resize
from torch.utils.flop_counter import FlopCounterMode

from nnunetv2_gsp.prediction.resampling import resampled_image, taps_along, taps_of_image

ALIKE = (1.0, 1.0, 1.0)  # mm
sizes = st.integers(1, 40)
shapes = st.tuples(*[st.integers(1, 15)] * 3)


def image_of(shape, n_channels=1):
    """Return an image with noise beside a constant part, as a CT whose intensities are clipped."""
    noise = np.random.default_rng(sum(shape)).normal(size=(n_channels, *shape))
    return np.maximum(noise, -0.2).astype(np.float32)


@given(shape=shapes, size=shapes, n_channels=st.integers(1, 2), order=st.integers(0, 3))
def test_an_image_is_resampled_to_nnunets_numbers(shape, size, n_channels, order):
    image = image_of(shape, n_channels)
    before = image.copy()
    nnunets = partial(resample_data_or_seg_to_shape, is_seg=False, order=order, order_z=0, force_separate_z=None)
    expected = nnunets(image, size, ALIKE, ALIKE)
    found = resampled_image(image, np.array(size), ALIKE, ALIKE, resample=nnunets)
    assert found.dtype == expected.dtype == np.float32
    assert np.allclose(found, expected, rtol=0, atol=np.finfo(np.float32).eps * np.abs(image).max())
    assert np.array_equal(image, before)


def test_far_voxels_are_left_out_of_a_long_axis():
    image, size = image_of((2, 400, 3)), (2, 300, 3)
    image[0, 1, 10] = 1e4  # whose traces reach far
    nnunets = partial(resample_data_or_seg_to_shape, is_seg=False, order=3, order_z=0, force_separate_z=None)
    with FlopCounterMode(display=False) as counter:
        found = resampled_image(image, size, ALIKE, ALIKE, resample=nnunets)
    assert counter.get_total_flops() < 2 * 400 * 300 * 6 / 2
    expected = nnunets(image, size, ALIKE, ALIKE)
    assert np.allclose(found, expected, rtol=np.finfo(np.float32).eps, atol=1e-8)


@pytest.mark.parametrize(
    ("spacing_mm", "image", "settings"),
    [
        pytest.param((4, 1, 1), image_of((3, 8, 8)), {"force_separate_z": None}, id="thick slices"),
        pytest.param(ALIKE, image_of((3, 8, 8)).astype(float), {}, id="another dtype"),
        pytest.param(ALIKE, image_of((3, 8, 8)), {"of_a_later_nnunet": 2}, id="other arguments"),
        pytest.param(ALIKE, image_of((3, 8, 8)), {}, id="a default of a later nnU-Net"),
    ],
)
def test_another_image_is_left_to_the_plans_own_function(spacing_mm, image, settings, request):
    known = signature(resample_data_or_seg_to_shape)
    later = [Parameter("backend", Parameter.KEYWORD_ONLY, default="scipy")] * ("default" in request.node.callspec.id)
    asked = mock.Mock(__signature__=known.replace(parameters=[*known.parameters.values(), *later]))
    of_nnunet = "nnunetv2.preprocessing.resampling.default_resampling.resample_data_or_seg_to_shape"
    ours = "nnunetv2_gsp.prediction.resampling.resample_data_or_seg_to_shape"
    with mock.patch(of_nnunet, asked), mock.patch(ours, asked):
        found = resampled_image(image, (7, 9, 9), spacing_mm, ALIKE, resample=partial(asked, **settings))
    asked.assert_called_once_with(image, (7, 9, 9), spacing_mm, ALIKE, **settings)
    assert found is asked.return_value


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
