"""The front by its definition: no other point is as good in both and better in one."""

import hypothesis.strategies as st
from hypothesis import given

from nnunetv2_gsp.search.front import pareto_front
from nnunetv2_gsp.search.halving import Point

# few values, so that points are often equal in one or both
POINTS = st.lists(st.builds(Point, st.integers(0, 6).map(lambda n: n / 6), st.integers(0, 6).map(float)), max_size=12)


def dominates(one, other):
    return one.dice >= other.dice and one.cost <= other.cost and one != other


@given(POINTS)
def test_it_is_what_nothing_dominates(points):
    by_definition = [
        index for index, point in enumerate(points) if not any(dominates(other, point) for other in points)
    ]
    assert sorted(pareto_front(points)) == by_definition


@given(POINTS)
def test_it_rises_in_cost_and_dice(points):
    front = [points[index] for index in pareto_front(points)]
    assert front == sorted(front, key=lambda point: (point.cost, point.dice))
