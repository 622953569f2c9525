"""Sums up the primary endpoint of a comparison in at most forty words; the tables have the rest."""

import math
from collections.abc import Mapping

from nnunetv2_gsp.comparison.comparison import AGAINST_BASELINE, Comparison
from nnunetv2_gsp.comparison.paired import PairedDifference
from nnunetv2_gsp.comparison.result_tables import confidence_text, interval_text, p_text, score_text
from nnunetv2_gsp.comparison.statistics import ALPHA, smallest_p

MOST_WORDS = 40
_BETTER, _WORSE, _NO_DIFFERENCE = "better", "worse", "no difference is shown"
_IDENTICAL, _UNTESTED = "identical predictions", "not tested, as no case has scores of both"


def verdict(comparison: Comparison) -> str:
    """Return what the primary endpoint says of each contender against the baseline, in at most `MOST_WORDS` words.

    Names of contenders with blanks in them count as several words, and give way to numbers of contenders.

    Args:
        comparison: comparison of two or more contenders.
    """
    tested = [each for each in comparison.primary if each.family == AGAINST_BASELINE]
    if len(tested) == 1:
        return _on_one(comparison, tested[0])
    outcomes: dict[str, list[str]] = {}
    for each in tested:
        outcomes.setdefault(_outcome(comparison, each), []).append(each.contender)
    sentence = _on_several(comparison, {outcome: ", ".join(names) for outcome, names in outcomes.items()})
    if len(sentence.split()) <= MOST_WORDS:
        return sentence
    return _on_several(comparison, {outcome: f"{len(names)} contenders" for outcome, names in outcomes.items()})


def _on_one(comparison: Comparison, tested: PairedDifference) -> str:
    baseline, contender, n_cases = tested.baseline, tested.contender, _cases(len(comparison.cases))
    outcome = _outcome(comparison, tested)
    if outcome == _IDENTICAL:
        return f"The predictions of {contender} and {baseline} are identical in {n_cases}."
    if outcome == _UNTESTED:
        return f"On {n_cases} nothing could be tested between {contender} and {baseline}: no case has scores of both."
    metric = comparison.endpoint.metric
    unit = f" {metric.unit}" if metric.unit else ""
    interval = (
        ""
        if math.isnan(tested.typical_interval[0])
        else f"{confidence_text(tested)} interval {interval_text(tested, metric)}{unit}, "
    )
    found = (
        f"{comparison.endpoint.title} typically {score_text(tested.typical_difference, metric, signed=True)}{unit} "
        f"({interval}{p_text(tested.p_holm, named=True)})"
    )
    if outcome == _NO_DIFFERENCE:
        return f"On {n_cases} {outcome} between {contender} and {baseline}: {found}; {_why_none(tested)}."
    return f"On {n_cases} {contender} is significantly {outcome} than {baseline}: {found}."


def _on_several(comparison: Comparison, outcomes: Mapping[str, str]) -> str:
    order = (_BETTER, _WORSE, _NO_DIFFERENCE, _IDENTICAL, _UNTESTED)
    found = "; ".join(f"{outcome}: {outcomes[outcome]}" for outcome in order if outcome in outcomes)
    return (
        f"On {_cases(len(comparison.cases))}, {comparison.endpoint.title} against {comparison.baseline.name}: {found} "
        f"(Holm, p < {ALPHA:g})."
    )


def _outcome(comparison: Comparison, tested: PairedDifference) -> str:
    if comparison.identical[tested.baseline, tested.contender] == len(comparison.cases):
        return _IDENTICAL
    if math.isnan(tested.p):
        return _UNTESTED
    if not tested.is_significant:
        return _NO_DIFFERENCE
    return _BETTER if tested.leaning > 0 else _WORSE


def _why_none(tested: PairedDifference) -> str:
    """Say whether this number of cases could have shown a significant difference at all."""
    return (
        "so few cases could not show any"
        if smallest_p(tested.n) >= ALPHA
        else "which does not show that they are equal"
    )


def _cases(n: int) -> str:
    return f"{n} case{'s' * (n != 1)}"
