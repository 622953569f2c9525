"""Tests whether paired differences exceed chance, says how large they are, and corrects for testing several."""

import math
import warnings
from bisect import bisect_left
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]

ALPHA = 0.05
N_RESAMPLES = 9999
MOST_EXACT = 50  # pairs; beyond, scipy takes the normal approximation, too


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


def smallest_p(n: int) -> float:
    """Return the smallest two-sided p of Wilcoxon's test, reached if all differences have the same sign.

    Args:
        n: number of pairs, from 0 on.

    Examples:
        >>> smallest_p(6)
        0.03125
    """
    return min(1.0, 2.0 ** (1 - n))


def rank_biserial(differences: Floats) -> float:
    """Return the matched-pairs rank-biserial correlation; 0 if no pair differs, NaN without pairs.

    It is the share of the rank sum on the positive side minus the share on the negative side: 1 if all differences are
    positive, -1 if all are negative. Zeros are ranked by Pratt's method, as in `wilcoxon_p`. D. S. Kerby, The simple
    difference formula, Comprehensive Psychology 3 (2014).

    Args:
        differences: float64 (n,), difference of each pair, without NaN.

    Examples:
        >>> rank_biserial(np.array([1.0, 2.0, 3.0, -4.0]))
        0.2
    """
    if not len(differences):
        return math.nan
    ranks = stats.rankdata(np.abs(differences))
    total = ranks[differences != 0].sum()
    return float((np.sign(differences) * ranks).sum() / total) if total else 0.0


def typical_difference(differences: Floats) -> float:
    """Return Hodges and Lehmann's estimate, the median of the means of all two differences; NaN without pairs.

    A few extreme differences, such as penalties, hardly move it. J. L. Hodges, E. L. Lehmann, Estimates of location
    based on rank tests, Annals of Mathematical Statistics 34 (1963).

    Args:
        differences: float64 (n,), difference of each pair, without NaN.

    Examples:
        >>> typical_difference(np.array([1.0, 2.0, 374.0]))
        94.75
    """
    return float(np.median(_walsh_averages(differences))) if len(differences) else math.nan


def typical_interval(differences: Floats, alpha: float = ALPHA) -> tuple[float, float]:
    """Return the interval of the typical difference that Wilcoxon's test does not reject at a level.

    It holds 0 if `wilcoxon_p` is not below the level, and else has 0 at most as an end, if many differences are 0.

    Args:
        differences: float64 (n,), difference of each pair, without NaN.
        alpha: level of the test, 0 to 1; the interval's confidence is 1 - alpha.

    Returns:
        Its ends; NaN if there are so few pairs that the test rejects no value.

    Examples:
        >>> typical_interval(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
        (1.0, 6.0)
    """
    if smallest_p(len(differences)) >= alpha:
        return math.nan, math.nan
    return -_upper_end(-differences, alpha), _upper_end(differences, alpha)


def bootstrap_interval(differences: Floats, alpha: float = ALPHA) -> tuple[tuple[float, float], str]:
    """Return the bootstrap interval of the mean, and its method; every call gives the same interval.

    Args:
        differences: float64 (n,), no NaN; fewer than two have no interval.
        alpha: one minus the interval's confidence, 0 to 1.

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
                (differences,),
                np.mean,
                n_resamples=N_RESAMPLES,
                confidence_level=1 - alpha,
                method=method,
                random_state=np.random.default_rng(0),
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
    largest = 0.0
    for index, n_left in _holm_steps(p_values):
        largest = max(largest, min(1.0, p_values[index] * n_left))
        corrected[index] = largest
    return corrected


def holm_levels(p_values: Sequence[float], alpha: float = ALPHA) -> list[float]:
    """Return the level at which Holm's procedure tests each p-value, alpha over the number of hypotheses left.

    The procedure ends with the first p-value that is not below its level; those that are left are held to that level,
    so that `holm` is below alpha exactly if the p-value is below the level.

    Args:
        p_values: each 0 to 1, or NaN where nothing was tested, which has no level.
        alpha: level of the whole family, 0 to 1.

    Examples:
        >>> holm_levels([0.01, 0.04, 0.5], alpha=0.06)
        [0.02, 0.03, 0.03]
    """
    levels = [math.nan] * len(p_values)
    n_tested = None
    for index, n_left in _holm_steps(p_values):
        if n_tested is None and p_values[index] * n_left >= alpha:
            n_tested = n_left
        levels[index] = alpha / (n_tested or n_left)
    return levels


def _holm_steps(p_values: Sequence[float]) -> Iterator[tuple[int, int]]:
    """Yield the index of each p-value from the smallest on, and the number of those that are left with it."""
    tested = sorted((p, index) for index, p in enumerate(p_values) if not math.isnan(p))
    for step, (_, index) in enumerate(tested):
        yield index, len(tested) - step


def _walsh_averages(differences: Floats) -> Floats:
    """Return the means of all two differences, each with itself as well."""
    first, second = np.triu_indices(len(differences))
    means: Floats = (differences[first] + differences[second]) / 2
    return means


def _upper_end(differences: Floats, alpha: float) -> float:
    """Return the largest Walsh average below which the test does not reject a shift.

    Between two neighbouring Walsh averages no difference changes sign or rank, so one shift there stands for all.
    """
    ends = np.unique(_walsh_averages(differences))
    between = np.append((ends[:-1] + ends[1:]) / 2, ends[-1] + 1)
    from_middle = range(int(np.searchsorted(ends, typical_difference(differences), side="right")) - 1, len(ends))
    place = bisect_left(from_middle, True, key=lambda index: wilcoxon_p(differences - between[index]) < alpha)
    return float(ends[from_middle[place]])
