"""Distances: by hand on drawings, against medpy, MONAI and surface-distance, and by what must hold for any masks."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunetv2_gsp.metrics import surface_distances as surfaces
from tests.metrics.drawings import blob, drawn, random_mask, slab

SPACINGS_MM = [(1.0, 1.0, 1.0), (3.0, 0.7, 0.7), (0.5, 2.0, 1.3)]
PAIRS = {
    "noise": (random_mask(0), random_mask(1)),
    "sparse noise": (random_mask(2, share=0.02), random_mask(3, share=0.02)),
    "blobs": (blob(4), blob(5)),
    "a stray voxel": (blob(6), blob(7) | (np.indices((17, 19, 15)).sum(0) == 0)),
    "at the edge": (blob(8, radius=(9, 12)), blob(9)),
    "full": (np.ones((6, 7, 8), bool), random_mask(10, (6, 7, 8), 0.5)),
    "one voxel each": (np.arange(60).reshape(3, 4, 5) == 7, np.arange(60).reshape(3, 4, 5) == 52),
    "drawn": (slab(".##..", ".###.", "..#.."), slab(".....", "..###", "..#..")),
}
pairs_and_spacings = pytest.mark.parametrize("spacing_mm", SPACINGS_MM)
pairs = pytest.mark.parametrize("name", PAIRS)


def test_two_voxels_apart_by_hand():
    distances = surfaces.border_distances(drawn("#..."), drawn("...#"), (1.0, 2.0))
    assert distances.from_reference.tolist() == distances.from_prediction.tolist() == [6.0]
    assert surfaces.pooled_hd95(distances) == surfaces.directed_hd95(distances) == 6
    assert surfaces.average_boundary_distance(distances) == 6


def test_a_stray_voxel_by_hand():
    reference = drawn("###.......", "###.......", "###.......")
    prediction = drawn("###......#", "###.......", "###.......")
    distances = surfaces.border_distances(reference, prediction, (1, 1))
    # eight voxels around a hole, and the ninth of the prediction seven columns off
    assert sorted(distances.from_prediction) == [0] * 8 + [7]
    assert distances.from_reference.tolist() == [0] * 8
    # 17 distances: position 0.95·16 = 15.2, between 0 and 7
    assert surfaces.pooled_hd95(distances) == pytest.approx(0.2 * 7)
    # 9 distances: position 0.95·8 = 7.6
    assert surfaces.directed_hd95(distances) == pytest.approx(0.6 * 7)
    assert surfaces.normalized_surface_dice(distances, 1) == 16 / 17
    assert surfaces.average_boundary_distance(distances) == pytest.approx(7 / 17)


def test_the_inside_is_no_surface():
    ring, full = drawn("####", "#..#", "####"), drawn("####", "####", "####")
    assert surfaces.border_distances(ring, full, (1, 1)).pooled.max() == 0


def test_a_distance_equal_to_the_tolerance_is_within_it():
    # 3 · 0.1 - 2 · 0.1 is more than 0.1 in floating point
    distances = surfaces.border_distances(drawn("..#."), drawn("...#"), (0.1, 0.1))
    assert surfaces.normalized_surface_dice(distances, 0.1) == 1


def test_areas_of_simple_neighbourhoods_by_hand():
    areas = surfaces.element_areas_mm2((1.0, 1.0, 1.0))
    corner = math.sqrt(3) / 8  # an equilateral triangle of edge √½
    assert areas[0] == areas[255] == 0
    assert areas[1] == areas[254] == pytest.approx(corner)
    assert areas[0b00001111] == pytest.approx(1)  # a plane between the slices
    assert areas[0b00000011] == pytest.approx(math.sqrt(2) / 2)  # along an edge
    assert areas[0b10000001] == pytest.approx(2 * corner)  # opposite corners stay apart
    stretched = surfaces.element_areas_mm2((5.0, 2.0, 3.0))
    assert stretched[0b00001111] == pytest.approx(6)  # the plane's own axes are the last two


@pairs
@pairs_and_spacings
def test_pooled_hd95_is_medpys(name, spacing_mm):
    binary = pytest.importorskip("medpy.metric.binary")
    distances = surfaces.border_distances(*PAIRS[name], spacing_mm)
    assert surfaces.pooled_hd95(distances) == pytest.approx(binary.hd95(*PAIRS[name], spacing_mm), abs=1e-12)


@pairs
@pairs_and_spacings
def test_directed_hd95_nsd_and_abd_are_monais(name, spacing_mm):
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        monai = pytest.importorskip("monai.metrics")
        reference, prediction = (torch.tensor(mask[None, None].astype(np.float64)) for mask in PAIRS[name])
        hd95 = monai.compute_hausdorff_distance(
            prediction, reference, include_background=True, percentile=95, spacing=spacing_mm
        )
        abd = monai.compute_average_surface_distance(
            prediction, reference, include_background=True, symmetric=True, spacing=spacing_mm
        )
        nsd = monai.compute_surface_dice(prediction, reference, [1.0], include_background=True, spacing=spacing_mm)
    distances = surfaces.border_distances(*PAIRS[name], spacing_mm)
    # MONAI computes in 32 bits
    assert surfaces.directed_hd95(distances) == pytest.approx(hd95.item(), rel=1e-6)
    assert surfaces.average_boundary_distance(distances) == pytest.approx(abd.item(), rel=1e-6)
    assert surfaces.normalized_surface_dice(distances, 1) == pytest.approx(nsd.item(), rel=1e-6)


@pairs
@pairs_and_spacings
def test_area_weighted_scores_are_those_of_surface_distance(name, spacing_mm):
    surface_distance = pytest.importorskip("surface_distance")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it uses names that scipy is about to drop
        expected = surface_distance.compute_surface_distances(*PAIRS[name], spacing_mm)
    found = surfaces.element_distances(*PAIRS[name], spacing_mm)
    assert np.sort(found.from_reference) == pytest.approx(expected["distances_gt_to_pred"], abs=1e-12)
    assert found.reference_weights.sum() == pytest.approx(expected["surfel_areas_gt"].sum(), rel=1e-6)
    assert surfaces.area_weighted_hd95(found) == pytest.approx(
        surface_distance.compute_robust_hausdorff(expected, 95), abs=1e-12
    )
    assert surfaces.normalized_surface_dice(found, 1) == pytest.approx(
        surface_distance.compute_surface_dice_at_tolerance(expected, 1), rel=1e-6
    )
    areas = expected["surfel_areas_gt"], expected["surfel_areas_pred"]
    one_way, other_way = surface_distance.compute_average_surface_distance(expected)
    pooled = (one_way * areas[0].sum() + other_way * areas[1].sum()) / sum(each.sum() for each in areas)
    assert surfaces.average_boundary_distance(found) == pytest.approx(pooled, rel=1e-6)


@pytest.mark.parametrize("spacing_mm", SPACINGS_MM)
def test_every_area_is_that_of_surface_distance(spacing_mm):
    tables = pytest.importorskip("surface_distance.lookup_tables")
    expected = tables.create_table_neighbour_code_to_surface_area(spacing_mm)
    kernel = np.array(tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL).ravel()
    codes = [sum(int(weight) for bit, weight in enumerate(kernel) if code >> bit & 1) for code in range(256)]
    assert surfaces.element_areas_mm2(spacing_mm) == pytest.approx(expected[codes], rel=1e-6)


def test_the_area_of_a_ball_is_near_that_of_the_sphere():
    grid = np.indices((41, 41, 41)) - 20
    ball = (grid**2).sum(0) <= 15.5**2
    area = surfaces.element_distances(ball, ball, (1, 1, 1)).reference_weights.sum()
    assert area == pytest.approx(4 * math.pi * 15.5**2, rel=0.1)


seeds = st.integers(0, 10_000)
measures = st.sampled_from(
    [
        (surfaces.border_distances, surfaces.pooled_hd95),
        (surfaces.border_distances, surfaces.directed_hd95),
        (surfaces.element_distances, surfaces.area_weighted_hd95),
        (surfaces.element_distances, surfaces.average_boundary_distance),
    ]
)


@settings(max_examples=25)
@given(seeds, seeds, measures, st.sampled_from(SPACINGS_MM))
def test_exchanging_the_masks_changes_nothing(one, other, measure, spacing_mm):
    distances, score = measure
    a, b = blob(one), blob(other)
    assert score(distances(a, b, spacing_mm)) == pytest.approx(score(distances(b, a, spacing_mm)))


@settings(max_examples=15)
@given(seeds, measures)
def test_a_mask_is_no_distance_from_itself(seed, measure):
    distances, score = measure
    mask = blob(seed)
    assert score(distances(mask, mask, (1, 2, 3))) == 0
    assert surfaces.normalized_surface_dice(distances(mask, mask, (1, 2, 3)), 0) == 1


@settings(max_examples=15)
@given(seeds, seeds, measures, st.tuples(*[st.integers(0, 4)] * 3))
def test_moving_both_changes_nothing(one, other, measure, steps):
    distances, score = measure
    a, b = blob(one), blob(other)
    moved = [np.pad(mask, [(step, 4 - step) for step in steps]) for mask in (a, b)]
    assert score(distances(*moved, (1, 2, 3))) == pytest.approx(score(distances(a, b, (1, 2, 3))))


@settings(max_examples=15)
@given(seeds, seeds, measures)
def test_distances_are_in_the_unit_of_the_spacing(one, other, measure):
    distances, score = measure
    a, b = blob(one), blob(other)
    assert score(distances(a, b, (2, 4, 6))) == pytest.approx(2 * score(distances(a, b, (1, 2, 3))))
