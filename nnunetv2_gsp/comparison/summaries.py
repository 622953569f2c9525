"""Describes scores without testing them: spread, ranks over cases, groups of cases by volume, agreement of volumes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from nnunetv2_gsp.comparison.comparison import Comparison
from nnunetv2_gsp.comparison.statistics import Floats
from nnunetv2_gsp.metrics.scoring import VOLUMES

FEWEST_IN_THIRDS = 6  # cases with a reference; fewer are one group
MM3_PER_ML = 1000


@dataclass(frozen=True)
class Spread:
    """Mean, SD and quartiles of the scores that are there, in the metric's unit; NaN without any.

    Attributes:
        n: number of scores, from 0 on.
        mean: mean score.
        sd: standard deviation of a sample; NaN with fewer than two scores.
        minimum: smallest score.
        q1: lower quartile, between neighbours by linear interpolation, as are the next two.
        median: median score.
        q3: upper quartile.
        maximum: largest score.
    """

    n: int
    mean: float
    sd: float
    minimum: float
    q1: float
    median: float
    q3: float
    maximum: float


@dataclass(frozen=True)
class Ranks:
    """How a contender ranks among all, 1 for the best; ties share the mean of their ranks.

    Attributes:
        primary: mean rank over cases in the primary endpoint; NaN where no case has scores of all.
        n_first: number of cases in which no other is better in the primary endpoint.
        overall: mean rank over cases, regions and the metrics that challenges rank by.
    """

    primary: float
    n_first: int
    overall: float


@dataclass(frozen=True)
class Agreement:
    """Bland and Altman's agreement of predicted and reference volumes, in ml; NaN with too few cases.

    J. M. Bland, D. G. Altman, Statistical methods for assessing agreement between two methods of clinical measurement,
    Lancet 327 (1986).

    Attributes:
        n: number of cases in which prediction or reference has a volume.
        bias: mean of prediction minus reference.
        low: lower limit of agreement, bias - 1.96 SD.
        high: upper limit of agreement, bias + 1.96 SD.
    """

    n: int
    bias: float
    low: float
    high: float


def spread(scores: Sequence[float] | Floats) -> Spread:
    """Return mean, SD and quartiles of scores, without those that are left out.

    Args:
        scores: scores (n,), NaN where one is left out.

    Examples:
        >>> found = spread([1.0, 2.0, 3.0, float("nan")])
        >>> found.n, found.mean, found.sd, found.q1
        (3, 2.0, 1.0, 1.5)
    """
    there = np.array(scores, float)
    there = there[~np.isnan(there)]
    if not len(there):
        return Spread(0, *(math.nan,) * 7)
    sd = float(there.std(ddof=1)) if len(there) > 1 else math.nan
    minimum, q1, median, q3, maximum = np.quantile(there, (0, 0.25, 0.5, 0.75, 1)).tolist()
    return Spread(len(there), float(there.mean()), sd, minimum, q1, median, q3, maximum)


def spread_without_penalties(comparison: Comparison, contender: str, region: str, metric: str) -> Spread:
    """Return the spread over the cases in which this contender has no penalty.

    Args:
        comparison: comparison that has the scores.
        contender: name of the contender.
        region: name of the region, one of `comparison.regions`.
        metric: name of a metric.
    """
    scores = np.array(comparison.scores_of(contender, region, metric), float)
    return spread(scores[~comparison.penalties([contender], region)[0]])


def ranks(comparison: Comparison) -> dict[str, Ranks]:
    """Return contender's name -> its ranks among all.

    Args:
        comparison: comparison of two or more contenders.
    """
    names = list(comparison.scores)
    primary = _ranked(comparison.endpoint_scores(names), comparison.endpoint.metric.higher_is_better)
    single = [
        _ranked(
            np.array([comparison.scores_of(name, region, metric.name) for name in names], float),
            metric.higher_is_better,
        )
        for region in comparison.regions
        for metric in comparison.ranked_by
    ]
    overall = np.concatenate(single, axis=1)
    is_first = primary == primary.min(axis=0, initial=len(names))
    return {
        name: Ranks(_mean(primary[place]), int(is_first[place].sum()), _mean(overall[place]))
        for place, name in enumerate(names)
    }


def by_volume(comparison: Comparison, region: str) -> list[tuple[str, list[int]]]:
    """Return groups of cases by the volume of the reference: empty ones, then thirds of the others.

    Args:
        comparison: comparison that has the volumes.
        region: name of the region, one of `comparison.regions`.

    Returns:
        For each group that has cases its name, and the places of its cases in `comparison.cases`.
    """
    volumes = _volumes(comparison, comparison.baseline.name, region)[0]
    there = np.flatnonzero(volumes)
    ascending = there[np.argsort(volumes[there], kind="stable")]
    if len(there) < FEWEST_IN_THIRDS:
        groups = [("not empty", ascending)]
    else:
        names = ("smallest third", "middle third", "largest third")
        groups = list(zip(names, np.array_split(ascending, 3), strict=True))
    return [
        (name, places.tolist()) for name, places in [("empty", np.flatnonzero(volumes == 0)), *groups] if len(places)
    ]


def volume_agreement(comparison: Comparison, contender: str, region: str) -> Agreement:
    """Return how well predicted volumes agree with those of the references.

    Args:
        comparison: comparison that has the volumes.
        contender: name of the contender.
        region: name of the region, one of `comparison.regions`.
    """
    _, differences = means_and_differences(comparison, contender, region)
    found = spread(differences)
    return Agreement(found.n, found.mean, found.mean - 1.96 * found.sd, found.mean + 1.96 * found.sd)


def means_and_differences(comparison: Comparison, contender: str, region: str) -> tuple[Floats, Floats]:
    """Return mean of prediction and reference, and prediction minus reference, in ml; cases without both are left out.

    Args:
        comparison: comparison that has the volumes.
        contender: name of the contender.
        region: name of the region, one of `comparison.regions`.
    """
    reference, prediction = _volumes(comparison, contender, region) / MM3_PER_ML
    there = (reference > 0) | (prediction > 0)
    return (reference + prediction)[there] / 2, (prediction - reference)[there]


def _volumes(comparison: Comparison, contender: str, region: str) -> Floats:
    """Return float64 (2, n_cases), volumes of reference and prediction in mm³."""
    return np.array([comparison.scores_of(contender, region, name) for name in VOLUMES], float)


def _ranked(scores: Floats, higher_is_better: bool) -> Floats:
    """Return the ranks (n_contenders, n) of the cases in which all have a score, 1 for the best."""
    there = scores[:, ~np.isnan(scores).any(axis=0)]
    ranked: Floats = stats.rankdata(-there if higher_is_better else there, axis=0)
    return ranked


def _mean(ranked: Floats) -> float:
    return float(ranked.mean()) if len(ranked) else math.nan
