"""Says which trials go on to longer trainings, as successive halving does, but beside what costs no more.

Optuna's pruners do not take trials of several objectives. Source: Li et al., "A System for Massively Parallel
Hyperparameter Tuning" (MLSys 2020), whose asynchronous rule promotes the best fraction of the trials that have come to
a rung so far.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """What a network reaches, and what it costs.

    Attributes:
        dice: mean Dice, from 0 to 1.
        cost: cost in any unit, at least 0.
    """

    dice: float
    cost: float


def goes_on(trial: Point, rivals: Iterable[Point], kept: float) -> bool:
    """Tell whether a trial goes on: whether it is in the best fraction of those that cost no more.

    A trial that nothing cheaper comes near in cost goes on, so that the cheap end of the front is trained, too.

    Args:
        trial: Dice at the end of a rung, and cost.
        rivals: the same of all other trials that have come to the end of this rung, of any cost.
        kept: fraction that goes on, above 0, up to 1; a trial goes on if fewer than this fraction are better.

    Examples:
        >>> rivals = [Point(0.80, cost=1), Point(0.85, cost=1), Point(0.95, cost=5)]
        >>> [goes_on(Point(dice, cost=2), rivals, kept=0.5) for dice in (0.79, 0.81, 0.86)]
        [False, True, True]
    """
    better = [rival.dice > trial.dice for rival in rivals if rival.cost <= trial.cost]
    return sum(better) < kept * (len(better) + 1)
