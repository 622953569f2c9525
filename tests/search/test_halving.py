"""Who goes on, against plain ranking."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from nnunetv2_gsp.search.halving import Point, goes_on

POINTS = st.lists(st.builds(Point, st.floats(0, 1), st.integers(1, 3).map(float)), max_size=12)


@pytest.mark.parametrize(
    ("dice", "kept", "on"),
    [(0.4, 0.5, False), (0.55, 0.5, False), (0.65, 0.5, True), (0.55, 0.75, True), (0.75, 0.25, True), (0.1, 1, True)],
)
def test_by_hand(dice, kept, on):
    """Rivals of 0.5, 0.6 and 0.7: of the four, half are two, three quarters three, a quarter one."""
    assert goes_on(Point(dice, 1), [Point(rival, 1) for rival in (0.5, 0.6, 0.7)], kept) is on


def test_what_costs_more_is_no_rival():
    assert goes_on(Point(0.1, cost=1), [Point(0.9, cost=1.01)] * 9, kept=0.1)


@given(POINTS.filter(bool), st.floats(0.01, 1))
def test_it_is_the_best_fraction_of_those_that_cost_no_more(points, kept):
    for index, point in enumerate(points):
        rivals = points[:index] + points[index + 1 :]
        ranked = sorted((each.dice for each in points if each.cost <= point.cost), reverse=True)
        assert goes_on(point, rivals, kept) == (ranked.index(point.dice) < kept * len(ranked))
