"""Types of entries: numbers and lists as plans, Python and numpy write them."""

import numpy as np
import pytest

from nnunetv2_gsp.architectures.entries import COUNT, PATCH_SIZE, each, fits, one_or_each, types_alone, violation


@pytest.mark.parametrize("value", [1, 7, np.int64(3), 2**70])
def test_counts(value):
    assert fits(value, COUNT)


@pytest.mark.parametrize("value", [0, -1, 2.0, True, "2", None, [2], np.float64(2)])
def test_no_counts(value):
    assert not fits(value, COUNT)


@pytest.mark.parametrize("value", [[1, 2], (1, 2), np.array([1, 2]), range(1, 3)])
def test_lists(value):
    assert fits(value, each(COUNT))
    assert fits(value, one_or_each(COUNT))


@pytest.mark.parametrize("value", ["12", b"12", {1: 2}, {1, 2}, [1, 0], [1, 2.0], [[1]], None, 0])
def test_no_lists(value):
    assert not fits(value, each(COUNT))
    assert not fits(value, one_or_each(COUNT))


def test_one_for_all():
    assert fits(2, one_or_each(COUNT))
    assert not fits(2, each(COUNT))


@pytest.mark.parametrize(("patch", "is_one"), [([8], False), ([8, 8], True), ([8, 8, 8], True), ([8] * 4, False)])
def test_a_patch_has_two_axes_or_three(patch, is_one):
    assert fits(patch, PATCH_SIZE) == is_one


def test_types_alone_take_whatever_the_network_then_refuses():
    schema = types_alone(each(one_or_each(COUNT), minItems=1))
    assert fits([0, [-1, 0]], schema)
    assert not fits([0, ["-1"]], schema)


def test_the_worst_violation_is_named_with_its_place():
    error = violation({"a": [1, [2, "3"]]}, {"properties": {"a": each(one_or_each(COUNT))}})
    assert list(error.absolute_path) == ["a", 1, 1]
    assert violation({"a": [1, [2, 3]]}, {"properties": {"a": each(one_or_each(COUNT))}}) is None
