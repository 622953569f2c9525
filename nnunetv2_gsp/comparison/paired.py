"""Compares two contenders on the same cases, and tests several such comparisons as one family."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnunetv2_gsp.comparison.statistics import (
    ALPHA,
    MOST_EXACT,
    N_RESAMPLES,
    Floats,
    bootstrap_interval,
    holm,
    holm_levels,
    rank_biserial,
    typical_difference,
    typical_interval,
    wilcoxon_p,
)
from nnunetv2_gsp.metrics.definitions import Metric

_TEST_IN_WORDS = (
    f"p: Wilcoxon's signed-rank test, two-sided, zero differences ranked by Pratt's method; exact up to {MOST_EXACT} "
    f"pairs, with ties and zeros, by the normal approximation beyond. Holm: p corrected for all tests of its family; "
    f"significant means below {ALPHA:g} after that. Each family holds {100 * ALPHA:g} % by itself."
)
_TYPICAL_IN_WORDS = (
    f"Typical difference: contender minus baseline as Hodges and Lehmann estimate it, the median of the means of all "
    f"two cases' differences, which a few penalties hardly move. Its interval holds what the same test would not "
    f"reject at the level of its step in Holm's procedure ({ALPHA:g} over the number of hypotheses left; those that "
    f"are not rejected share the level of the last step), so 0 lies inside it only if the test is not significant. It "
    f"is not simultaneous. Effect size: matched-pairs rank-biserial correlation, from -1 (the baseline is "
    f"better in all cases) to 1 (the contender is)."
)
_MEAN_IN_WORDS = (
    f"Mean difference, in comparison.json: its interval is a bootstrap interval of the same confidence ({N_RESAMPLES} "
    f"resamples of cases, BCa; percentile where BCa does not exist), and may disagree with the test where penalties "
    f"make the mean."
)
_PAIRS_IN_WORDS = (
    "Pairs in which either score is left out are dropped and counted. A penalty case is one in which just one of "
    "prediction and reference is empty, or which the definition scores like that; the rows without them leave out the "
    "cases in which either contender has a penalty, and are not tested. The cases are the sample: how much another "
    "training, with another seed, would differ is not measured."
)
IN_WORDS = _TEST_IN_WORDS, _TYPICAL_IN_WORDS, _MEAN_IN_WORDS, _PAIRS_IN_WORDS


@dataclass(frozen=True)
class PairedScores:
    """Scores of two contenders in one metric of one region, on the same cases in the same order.

    Attributes:
        region: name of the region that was scored.
        metric: metric of the scores, which says whether higher is better.
        names: name of the contender that serves as baseline, and of the one that is compared with it.
        scores: float64 (2, n_cases), baseline's and contender's, NaN where one is left out.
        has_penalty: bool (2, n_cases), whether a case has a penalty (`Comparison.penalties`).
    """

    region: str
    metric: Metric
    names: tuple[str, str]
    scores: Floats
    has_penalty: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Location:
    """Where the scores of two contenders lie, in the metric's unit; NaN where n is 0.

    Attributes:
        n: number of cases in which both have a score.
        baseline_mean: mean score of the baseline.
        contender_mean: mean score of the contender.
        baseline_median: median score of the baseline.
        contender_median: median score of the contender.
        mean_difference: mean of contender minus baseline.
        median_difference: median of contender minus baseline.
        typical_difference: Hodges and Lehmann's estimate of contender minus baseline.
        typical_interval: interval of the typical difference (low, high); NaN with too few cases for one.
    """

    n: int
    baseline_mean: float
    contender_mean: float
    baseline_median: float
    contender_median: float
    mean_difference: float
    median_difference: float
    typical_difference: float
    typical_interval: tuple[float, float]


@dataclass(frozen=True)
class PairedDifference(Location):
    """Difference of two contenders in one metric of one region over all cases, tested in a family.

    Attributes:
        region: name of the region that was scored.
        metric: name of the metric, such as Dice.
        baseline: name of the contender that serves as baseline.
        contender: name of the contender that is compared with the baseline.
        family: name of the family of tests that p_holm is corrected for.
        dropped: number of cases in which at least one score is left out.
        p: p-value of Wilcoxon's signed-rank test, 0 to 1; NaN without cases.
        p_holm: p after Holm's correction within the family, 0 to 1.
        confidence: confidence of the intervals, 0 to 1: one minus the level of the test's step in Holm's procedure.
        interval: bootstrap interval of the mean difference (low, high); NaN with fewer than two cases.
        interval_method: BCa, percentile, or "" without an interval.
        effect_size: matched-pairs rank-biserial correlation, -1 to 1, positive where the contender is better.
        wins: number of cases in which the contender is better.
        ties: number of cases without a difference.
        losses: number of cases in which the baseline is better.
        leaning: 1 where ranks favour the contender, -1 the baseline, 0 neither.
        baseline_penalties: number of cases in which the baseline has a penalty.
        contender_penalties: number of cases in which the contender has a penalty.
        without_penalties: the same where neither has a penalty; None if there is no penalty.
    """

    region: str
    metric: str
    baseline: str
    contender: str
    family: str
    dropped: int
    p: float
    p_holm: float
    confidence: float
    interval: tuple[float, float]
    interval_method: str
    effect_size: float
    wins: int
    ties: int
    losses: int
    leaning: int
    baseline_penalties: int
    contender_penalties: int
    without_penalties: Location | None

    @property
    def is_significant(self) -> bool:
        """Tell whether p after Holm is below `ALPHA`."""
        return self.p_holm < ALPHA


def compare_as_family(family: str, pairs: Sequence[PairedScores]) -> list[PairedDifference]:
    """Test the difference of each pair of contenders, and correct for all that are tested together.

    Args:
        family: name of the family, for the results.
        pairs: scores of everything that is tested together.

    Examples:
        >>> from nnunetv2_gsp.metrics.definitions import DICE
        >>> scores = np.array([[0.5] * 6, [0.6, 0.7, 0.75, 0.8, 0.85, 0.9]])
        >>> pair = PairedScores("core", DICE, ("a", "b"), scores, np.zeros((2, 6), bool))
        >>> [(each.p, each.p_holm, each.effect_size) for each in compare_as_family("Dice by region", [pair, pair])]
        [(0.03125, 0.0625, 1.0), (0.03125, 0.0625, 1.0)]
    """
    p_values = [wilcoxon_p(_differences(_there(pair.scores))) for pair in pairs]
    return [
        _tested(family, pair, p, p_holm, ALPHA if math.isnan(level) else level)
        for pair, p, p_holm, level in zip(pairs, p_values, holm(p_values), holm_levels(p_values), strict=True)
    ]


def _tested(family: str, pair: PairedScores, p: float, p_holm: float, level: float) -> PairedDifference:
    scored = _there(pair.scores)
    differences = _differences(scored)
    better = differences if pair.metric.higher_is_better else -differences
    interval, method = bootstrap_interval(differences, level)
    effect_size = rank_biserial(better)
    without = pair.scores[:, ~pair.has_penalty.any(axis=0)]
    return PairedDifference(
        **vars(_location(scored, level)),
        region=pair.region,
        metric=pair.metric.name,
        baseline=pair.names[0],
        contender=pair.names[1],
        family=family,
        dropped=pair.scores.shape[1] - len(differences),
        p=p,
        p_holm=p_holm,
        confidence=1 - level,
        interval=interval,
        interval_method=method,
        effect_size=effect_size,
        wins=int((better > 0).sum()),
        ties=int((better == 0).sum()),
        losses=int((better < 0).sum()),
        leaning=0 if math.isnan(effect_size) else int(np.sign(effect_size)),
        baseline_penalties=int(pair.has_penalty[0].sum()),
        contender_penalties=int(pair.has_penalty[1].sum()),
        without_penalties=_location(_there(without), level) if pair.has_penalty.any() else None,
    )


def _location(scored: Floats, level: float) -> Location:
    differences = _differences(scored)
    n = len(differences)
    nothing = [math.nan, math.nan]
    means, medians = (take(scored, axis=1).tolist() if n else nothing for take in (np.mean, np.median))
    return Location(
        n,
        baseline_mean=means[0],
        contender_mean=means[1],
        baseline_median=medians[0],
        contender_median=medians[1],
        mean_difference=float(np.mean(differences)) if n else math.nan,
        median_difference=float(np.median(differences)) if n else math.nan,
        typical_difference=typical_difference(differences),
        typical_interval=typical_interval(differences, level),
    )


def _there(scores: Floats) -> Floats:
    """Return the cases in which both have a score."""
    there: Floats = scores[:, ~np.isnan(scores).any(axis=0)]
    return there


def _differences(scored: Floats) -> Floats:
    """Return contender minus baseline."""
    differences: Floats = scored[1] - scored[0]
    return differences
