"""Sums up the statistics of a comparison in sentences."""

import math
from collections.abc import Sequence

from nnunetv2_gsp.comparison.comparison import Comparison
from nnunetv2_gsp.comparison.statistics import ALPHA, PairedDifference, smallest_p

_TEST = f"Wilcoxon's test, Holm's correction, p < {ALPHA:g}"


def verdict(comparison: Comparison) -> str:
    """Return a sentence for each contender that sums up its tests against the baseline.

    Args:
        comparison: comparison of two or more contenders.
    """
    return " ".join(_verdict_on(comparison, contender.name) for contender in comparison.others)


def _verdict_on(comparison: Comparison, name: str) -> str:
    paired = [each for each in comparison.paired if each.contender == name]
    tested = [each for each in paired if not math.isnan(each.p)]
    untested, n_cases = len(paired) - len(tested), len(comparison.cases)
    on_cases = f"On {n_cases} case{'s' * (n_cases != 1)}"
    if not tested:
        return (
            f"{on_cases} nothing could be tested between {name} and {comparison.baseline.name}: no case has "
            f"scores of both."
        )
    left = f"; {untested} more could not be tested, as no case has scores of both" if untested else ""
    better = [each for each in tested if each.is_significant and each.leaning > 0]
    worse = [each for each in tested if each.is_significant and each.leaning < 0]
    if not better and not worse:
        return (
            f"{on_cases} no difference between {name} and {comparison.baseline.name} is significant in any of "
            f"{len(tested)} comparisons ({_TEST}){_why_none(comparison, tested)}{left}."
        )
    found = [
        f"{words} in {len(group)}: {', '.join(_in_words(comparison, each) for each in group)}"
        for words, group in (("better", better), ("worse", worse))
        if group
    ]
    rest = len(tested) - len(better) - len(worse)
    return (
        f"{on_cases}, of {len(tested)} comparisons with {comparison.baseline.name}, {name} is significantly "
        f"{'; and '.join(found)} (mean difference; {_TEST})"
        f"{f'; the other {rest} are not significant' if rest else ''}{left}."
    )


def _why_none(comparison: Comparison, tested: Sequence[PairedDifference]) -> str:
    """Say whether this number of cases could have shown a significant difference at all."""
    n_corrected = sum(not math.isnan(each.p) for each in comparison.paired)
    possible = smallest_p(max(each.n for each in tested)) * n_corrected
    return (
        "; with so few cases these tests could not show any"
        if possible >= ALPHA
        else ", which does not show that they are equal"
    )


def _in_words(comparison: Comparison, paired: PairedDifference) -> str:
    """Name metric and region with the mean difference, and note where mean and ranks point in opposite directions."""
    metric = next(metric for metric in comparison.metrics if metric.name == paired.metric)
    unit = f" {metric.unit}" if metric.unit else ""
    mean_leans = paired.mean_difference * (1 if metric.higher_is_better else -1) * paired.leaning
    contradiction = ", against the ranks" if mean_leans < 0 else ""
    return f"{metric.name} of {paired.region} ({paired.mean_difference:+.3g}{unit}{contradiction})"
