"""The task of the effect table: what it must not give away, and that a seed settles it."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from benchmarks.effect import HELD_OUT, MARK_BRIGHTNESS, PATCH, case, intensity_dice, position_dice


@pytest.fixture(scope="module")
def cases():
    return [case(HELD_OUT, index) for index in range(16)]


def test_a_seed_settles_the_case():
    for one, again in zip(case(HELD_OUT, 3), case(HELD_OUT, 3), strict=True):
        np.testing.assert_array_equal(one, again)
    assert not np.array_equal(case(HELD_OUT, 3)[0], case(HELD_OUT, 4)[0])


def test_shapes_and_types():
    image, ellipsoid, marks = case(HELD_OUT, 0)
    assert (image.shape, image.dtype) == (PATCH, np.float32)
    assert (ellipsoid.shape, ellipsoid.dtype) == (marks.shape, marks.dtype) == (PATCH, bool)


def test_away_from_the_marks_inside_and_outside_have_the_same_intensities(cases):
    inside = np.concatenate([image[ellipsoid & ~marks] for image, ellipsoid, marks in cases])
    outside = np.concatenate([image[~ellipsoid & ~marks] for image, ellipsoid, marks in cases])
    assert ks_2samp(inside, outside).pvalue > 0.05


def test_a_mark_is_as_bright_inside_as_outside_and_about_as_frequent(cases):
    inside = np.concatenate([image[ellipsoid & marks] for image, ellipsoid, marks in cases])
    outside = np.concatenate([image[~ellipsoid & marks] for image, ellipsoid, marks in cases])
    assert ks_2samp(inside, outside).pvalue > 0.05
    assert inside.mean() == pytest.approx(MARK_BRIGHTNESS, abs=0.2)
    assert 0.4 < len(inside) / (len(inside) + len(outside)) < 0.6


def test_marks_are_within_a_voxel_of_the_surface(cases):
    for _, ellipsoid, marks in cases:
        neighbours = [np.roll(ellipsoid, step, axis) for axis in range(3) for step in (-1, 1)]
        is_at_surface = np.any(neighbours, axis=0) & ~np.all([*neighbours, ellipsoid], axis=0)
        assert np.mean(is_at_surface[marks]) > 0.95


def test_marks_are_on_the_far_half_alone(cases):
    for _, ellipsoid, marks in cases:
        slices = np.flatnonzero(ellipsoid.any(axis=(1, 2)))
        assert np.flatnonzero(marks.any(axis=(1, 2))).min() >= slices.mean() - 1


def test_neither_intensity_nor_position_solves_it():
    assert intensity_dice() < 0.15
    assert position_dice() < 0.55
