"""Finds the networks that no other one beats in Dice and cost at once."""

from collections.abc import Sequence

from nnunetv2_gsp.search.halving import Point


def pareto_front(points: Sequence[Point]) -> list[int]:
    """Return the indices of the points that no other point dominates, the cheapest first.

    A point dominates another if its Dice is no lower and its cost no higher, and one of the two is better. Of equal
    points all are returned.

    Args:
        points: Dice and cost of each network.

    Examples:
        >>> pareto_front([Point(0.8, cost=1), Point(0.7, cost=2), Point(0.9, cost=3)])
        [0, 2]
    """
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda each: (points[each].cost, -points[each].dice)):
        best = points[front[-1]] if front else None
        if best is None or points[index].dice > best.dice or points[index] == best:
            front.append(index)
    return front
