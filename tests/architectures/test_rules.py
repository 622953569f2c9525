"""Each rule at its border: what it takes, what it refuses, and in which words."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nnunetv2_gsp.architectures.entries import fits
from nnunetv2_gsp.architectures.rules import (
    ONE_COUNT,
    check_choice,
    check_number_of_stages,
    count_or_count_per_axis,
    count_per_axis,
    has_one_entry_a_stage,
    multiple,
    one_entry_a_stage,
    repeated,
)

NO_WHOLE_NUMBERS = [True, 2.0, "2", None]


@pytest.mark.parametrize("n_axes", [2, 3])
def test_a_count_an_axis(n_axes):
    each_axis, for_all = count_per_axis(n_axes), count_or_count_per_axis(n_axes)
    for expected in (each_axis, for_all):
        assert fits([1] * n_axes, expected.schema)
        assert fits(np.full(n_axes, 4), expected.schema)
        for refused in ([1] * (n_axes - 1), [1] * (n_axes + 1), [1] * (n_axes - 1) + [0], [1.0] * n_axes, []):
            assert not fits(refused, expected.schema)
        assert f"{n_axes} " in expected.words
    for number, is_count in ((1, True), (0, False), (-1, False)):
        assert fits(number, for_all.schema) == is_count
        assert not fits(number, each_axis.schema)


@given(st.integers(1, 12), st.integers(0, 40), st.integers(-5, 60))
@example(3, 6, -3)
def test_multiples_are_those_of_pythons_range(factor, largest, number):
    assert fits(number, multiple(factor, largest, "groups").schema) == (number in range(0, largest + 1, factor))


@pytest.mark.parametrize("value", [*NO_WHOLE_NUMBERS, [6]])
def test_a_multiple_is_a_whole_number(value):
    assert fits(np.int64(6), multiple(3, 6, "groups").schema)
    assert not fits(value, multiple(1, 6, "groups").schema)


def test_a_multiple_says_what_its_numbers_are():
    assert multiple(6, 18, "directions", " (the channels behind)").words == (
        "a multiple of 6 (the directions) from 0 to 18 (the channels behind)"
    )


def test_a_choice_is_one_of_them():
    for choice in ("CSC", "CCS"):
        check_choice("shift_position", choice, {"enum": ["CSC", "CCS"]})
    for other in ("csc", "", None, ["CSC"]):
        with pytest.raises(ValueError, match=r"^shift_position must be one of CSC, CCS, got ") as refusal:
            check_choice("shift_position", other, {"enum": ["CSC", "CCS"]})
        assert repr(other) in str(refusal.value)


def test_a_u_net_has_two_stages_at_least():
    for n_stages in (2, 3, np.int64(2)):
        check_number_of_stages(n_stages)
    for n_stages in (1, 0, -2, *NO_WHOLE_NUMBERS):
        with pytest.raises(ValueError, match=f"at least two stages, got n_stages = {n_stages!r}: take a larger patch"):
            check_number_of_stages(n_stages)


@pytest.mark.parametrize("value", [(1, 7), [1, 7], np.array([1, 7])])
def test_entries_come_as_a_list(value):
    assert one_entry_a_stage("widths", value, 2, [ONE_COUNT] * 3) == [1, 7]


@given(st.lists(st.integers(0, 2), max_size=5), st.integers(2, 5))
def test_a_list_has_as_many_entries_as_there_are_stages_and_each_of_them_fits(entries, n_stages):
    assert has_one_entry_a_stage(entries, n_stages) == (len(entries) == n_stages)
    if len(entries) != n_stages:
        message = f"^widths must have one entry a stage, {n_stages} here, got "
    elif 0 in entries:
        message = f"^widths of stage {entries.index(0)} must be a whole number from 1 on, got 0"
    else:
        assert one_entry_a_stage("widths", entries, n_stages, [ONE_COUNT] * n_stages) == entries
        return
    with pytest.raises(ValueError, match=message):
        one_entry_a_stage("widths", entries, n_stages, [ONE_COUNT] * n_stages)


def test_each_stage_has_a_condition_of_its_own():
    at_most = [multiple(1, largest, "step") for largest in (2, 5)]
    assert one_entry_a_stage("shifted", [2, 5], 2, at_most) == [2, 5]
    with pytest.raises(ValueError, match=r"^shifted of stage 0 must be a multiple of 1 .* to 2, got 5"):
        one_entry_a_stage("shifted", [5, 2], 2, at_most)


@pytest.mark.parametrize("value", ["12", {0: 1, 1: 2}, {1, 2}, 2, None])
def test_what_is_no_list_has_no_entries(value):
    assert not has_one_entry_a_stage(value, 2)


def test_a_whole_number_alone_counts_for_every_stage():
    assert repeated(np.int64(3), 2) == repeated(3, 2) == [3, 3]
    for value in (*NO_WHOLE_NUMBERS, [3], (3,)):
        assert repeated(value, 2) is value
