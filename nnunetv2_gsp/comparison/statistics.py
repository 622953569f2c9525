"""Tests whether differences between contenders exceed chance: paired tests and bootstrap intervals."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import stats

from nnunetv2_gsp.metrics.definitions import Metric

Floats = npt.NDArray[np.float64]

ALPHA = 0.05
N_RESAMPLES = 9999
MOST_EXACT = 50  # pairs; beyond, scipy takes the normal approximation, too
IN_WORDS = (
    f"p: Wilcoxon's signed-rank test, two-sided, zero differences ranked by Pratt's method; exact up to "
    f"{MOST_EXACT} pairs, with ties and zeros, by the normal approximation beyond. Holm: p corrected for all "
    f"regions, metrics and contenders together. Interval: 95 % bootstrap interval of the mean difference, "
    f"not corrected ({N_RESAMPLES} resamples of cases, BCa; percentile where BCa does not exist). Pairs in "
    f"which either score is left out are dropped and counted. Significant means p below {ALPHA:g} after Holm's "
    f"correction. The cases are the sample: how much another training, with another seed, would differ is not "
    f"measured."
)


@dataclass(frozen=True)
class PairedDifference:
    """Difference of two contenders in one metric of one region over all cases, in the metric's unit.

    Attributes:
        region: name of the region that was scored.
        metric: name of the metric, such as Dice.
        baseline: name of the contender that serves as baseline.
        contender: name of the contender that is compared with the baseline.
        n: number of cases in which both have a score.
        dropped: number of cases in which at least one score is left out.
        baseline_mean: mean score of the baseline over the n cases; NaN if n is 0.
        contender_mean: mean score of the contender over the n cases; NaN if n is 0.
        mean_difference: mean of contender minus baseline over the n cases.
        median_difference: median of contender minus baseline over the n cases.
        interval: 95 % bootstrap interval of the mean difference (low, high); NaN with fewer than two cases.
        interval_method: BCa, percentile, or "" without an interval.
        p: p-value of Wilcoxon's signed-rank test, 0 to 1; NaN without cases.
        p_holm: p after Holm's correction for all comparisons made together, 0 to 1.
        wins: number of cases in which the contender is better.
        ties: number of cases without a difference.
        losses: number of cases in which the baseline is better.
        leaning: 1 where ranks favour the contender, -1 the baseline, 0 neither.
        baseline_penalties: number of cases in which just one of the baseline's mask and the reference is empty.
        contender_penalties: number of cases in which just one of the contender's mask and the reference is empty.
    """

    region: str
    metric: str
    baseline: str
    contender: str
    n: int
    dropped: int
    baseline_mean: float
    contender_mean: float
    mean_difference: float
    median_difference: float
    interval: tuple[float, float]
    interval_method: str
    p: float
    p_holm: float
    wins: int
    ties: int
    losses: int
    leaning: int
    baseline_penalties: int = 0
    contender_penalties: int = 0

    @property
    def is_significant(self) -> bool:
        """Tell whether p after Holm is below `ALPHA`."""
        return self.p_holm < ALPHA


def paired_difference(
    region: str, metric: Metric, baseline: tuple[str, Sequence[float]], contender: tuple[str, Sequence[float]]
) -> PairedDifference:
    """Compare two contenders on the same cases; p_holm is not corrected yet, see `with_holm`.

    Args:
        region: name of the region, for the result.
        metric: metric of the scores, which says whether higher is better.
        baseline: name and scores (n_cases,), NaN where one is left out.
        contender: name and scores (n_cases,) of the same cases in the same order.

    Examples:
        >>> from nnunetv2_gsp.metrics.definitions import DICE
        >>> found = paired_difference("core", DICE, ("a", [0.5, 0.6, 0.7]), ("b", [0.75, 0.6, float("nan")]))
        >>> found.n, found.dropped, found.wins, found.ties, found.mean_difference
        (2, 1, 1, 1, 0.125)
    """
    both = np.array([baseline[1], contender[1]], float)
    scored = both[:, ~np.isnan(both).any(axis=0)]
    differences = scored[1] - scored[0]
    n = len(differences)
    means = scored.mean(axis=1).tolist() if n else [math.nan, math.nan]
    better = differences if metric.higher_is_better else -differences
    p = wilcoxon_p(differences)
    interval, method = bootstrap_interval(differences)
    return PairedDifference(
        region,
        metric.name,
        baseline[0],
        contender[0],
        n,
        both.shape[1] - n,
        means[0],
        means[1],
        float(differences.mean()) if n else math.nan,
        float(np.median(differences)) if n else math.nan,
        interval,
        method,
        p,
        p,
        int((better > 0).sum()),
        int((better == 0).sum()),
        int((better < 0).sum()),
        _leaning(better),
    )


def wilcoxon_p(differences: Floats) -> float:
    """Return the two-sided p of Wilcoxon's signed-rank test; 1 if no pair differs, NaN without pairs.

    Exact up to `MOST_EXACT` pairs by counting all combinations of signs, since whether scipy is exact with ties or
    zeros depends on its version.

    Args:
        differences: float64 (n,), difference of each pair, without NaN.

    Examples:
        >>> wilcoxon_p(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
        0.03125
    """
    if not len(differences):
        return math.nan
    if not differences.any():
        return 1.0
    if len(differences) > MOST_EXACT:
        return float(stats.wilcoxon(differences, zero_method="pratt").pvalue)
    ranks = np.rint(2 * stats.rankdata(np.abs(differences))).astype(int)  # twice, as tied ranks are halves
    ranks, is_positive = ranks[differences != 0], differences[differences != 0] > 0
    shares = np.zeros(ranks.sum() + 1)  # of all signs, by the sum of the positive ranks
    shares[0] = 1
    for rank in ranks:
        shares[rank:] = (shares[rank:] + shares[:-rank]) / 2
        shares[:rank] /= 2
    rank_sum = ranks[is_positive].sum()
    return float(min(1.0, 2 * min(shares[: rank_sum + 1].sum(), shares[rank_sum:].sum())))


def bootstrap_interval(differences: Floats) -> tuple[tuple[float, float], str]:
    """Return the 95 % bootstrap interval of the mean, and its method; every call gives the same interval.

    Args:
        differences: float64 (n,), no NaN; fewer than two have no interval.

    Returns:
        The interval's ends (NaN without an interval), and "BCa", "percentile" or "".

    Examples:
        >>> (low, high), method = bootstrap_interval(np.array([0.1, 0.2, 0.4, 0.7]))
        >>> low < 0.35 < high, method
        (True, 'BCa')
    """
    if len(differences) < 2:
        return (math.nan, math.nan), ""
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scipy warns where BCa does not exist, and gives NaN
            interval = stats.bootstrap(
                (differences,), np.mean, n_resamples=N_RESAMPLES, method=method, random_state=np.random.default_rng(0)
            ).confidence_interval
        if not np.isnan(interval).any():
            break
    return (float(interval.low), float(interval.high)), method


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for multiple testing by Holm's step-down procedure; NaN stays NaN and does not count.

    S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6 (1979).

    Args:
        p_values: each 0 to 1, or NaN where nothing was tested.

    Examples:
        >>> holm([0.01, 0.04, 0.5])
        [0.03, 0.08, 0.5]
    """
    corrected = [math.nan] * len(p_values)
    tested = sorted((p, index) for index, p in enumerate(p_values) if not math.isnan(p))
    largest = 0.0
    for rank, (p, index) in enumerate(tested):
        largest = max(largest, min(1.0, p * (len(tested) - rank)))
        corrected[index] = largest
    return corrected


def with_holm(comparisons: Sequence[PairedDifference]) -> list[PairedDifference]:
    """Return comparisons that were made together, with `p_holm` corrected.

    Args:
        comparisons: all paired differences that were tested together.

    Examples:
        >>> from nnunetv2_gsp.metrics.definitions import DICE
        >>> scores = ("a", [0.5] * 6), ("b", [0.6, 0.7, 0.75, 0.8, 0.85, 0.9])
        >>> tested = [paired_difference(region, DICE, *scores) for region in ("core", "whole")]
        >>> tested[0].p, [each.p_holm for each in with_holm(tested)]
        (0.03125, [0.0625, 0.0625])
    """
    corrected = holm([comparison.p for comparison in comparisons])
    return [replace(comparison, p_holm=p) for comparison, p in zip(comparisons, corrected, strict=True)]


def smallest_p(n: int) -> float:
    """Return the smallest two-sided p of Wilcoxon's test, reached if all differences have the same sign.

    Args:
        n: number of pairs, from 0 on.

    Examples:
        >>> smallest_p(6)
        0.03125
    """
    return min(1.0, 2.0 ** (1 - n))


def _leaning(better: Floats) -> int:
    """Return the sign of the signed-rank sum: 1 for better, -1 for worse, 0 for neither."""
    if not better.any():
        return 0
    return int(np.sign((np.sign(better) * stats.rankdata(np.abs(better))).sum()))
