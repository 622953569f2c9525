"""Apex, mid and base: where the thirds are cut, and from which end."""

import numpy as np
import pytest

from nnunetv2_gsp.metrics.prostate import thirds
from tests.metrics.drawings import slab

UPRIGHT = np.eye(3)
HEAD_FIRST = np.diag([1, 1, -1.0])


@pytest.mark.parametrize(
    ("direction", "names"), [(UPRIGHT, ["apex", "mid", "base"]), (HEAD_FIRST, ["base", "mid", "apex"])]
)
def test_thirds_of_the_reference_from_foot_to_head(direction, names):
    reference, prediction = np.zeros((12, 2, 2), bool), np.zeros((12, 2, 2), bool)
    reference[2:8] = True
    prediction[3:11] = True
    found = {
        name: tuple(np.unique(mask.nonzero()[0]).tolist() for mask in (one, other))
        for name, one, other in thirds(reference, prediction, direction)
    }
    if direction is HEAD_FIRST:
        found = {name: tuple(sorted(11 - z for z in slices) for slices in both) for name, both in found.items()}
    # the prediction's slices beyond the reference go with its last third
    assert found == {names[0]: ([2, 3], [3]), names[1]: ([4, 5], [4, 5]), names[2]: ([6, 7], [6, 7, 8, 9, 10])}


def test_thirds_along_the_axis_that_points_to_the_head():
    mask = slab("#", "#", "#", depth=1)
    sagittal = np.array([[0, 0, 1.0], [1, 0, 0], [0, 1, 0]])  # the second axis of the array points to the head
    sizes = [one.nonzero()[1].tolist() for _, one, _ in thirds(mask, mask, sagittal)]
    assert sizes == [[0], [1], [2]]


@pytest.mark.parametrize("which", ["reference", "both"])
def test_thirds_without_a_reference(which):
    mask = np.zeros((9, 1, 1), bool)
    prediction = np.ones((9, 1, 1), bool) if which == "reference" else mask
    parts = list(thirds(mask, prediction, UPRIGHT))
    assert [name for name, *_ in parts] == ["apex", "mid", "base"]
    assert [part.sum() for *_, part in parts] == ([3, 3, 3] if which == "reference" else [0, 0, 0])
