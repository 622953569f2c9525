"""Fills the tables of a comparison: mean scores with their tests, and costs."""

import math
from collections.abc import Callable

from nnunetv2_gsp.comparison.comparison import Comparison
from nnunetv2_gsp.comparison.costs import ModelCost
from nnunetv2_gsp.comparison.pairing import Contender
from nnunetv2_gsp.comparison.statistics import PairedDifference
from nnunetv2_gsp.metrics.definitions import Metric
from nnunetv2_gsp.tables import Table

LEFT_OUT = "–"
_COSTS: tuple[tuple[str, Callable[[ModelCost], str]], ...] = (
    ("parameters", lambda cost: with_prefix(cost.parameters)),
    ("MACs of a patch", lambda cost: with_prefix(cost.macs)),
    ("epoch, s", lambda cost: _three_digits(cost.epoch_s)),
    ("prediction of a case, s", lambda cost: _three_digits(cost.prediction_s)),
    ("GPU memory, GiB", lambda cost: _three_digits(cost.gpu_memory_gib)),
    (
        "checkpoint, MB",
        lambda cost: _three_digits(None if cost.checkpoint_bytes is None else cost.checkpoint_bytes / 1e6),
    ),
)


def result_tables(comparison: Comparison) -> list[tuple[str, Table]]:
    """Return headings and tables: one of each contender against the baseline, then one of costs where any is known.

    Args:
        comparison: comparison of two or more contenders.
    """
    tables = [
        (f"{contender.name} against {comparison.baseline.name}", _results(comparison, contender))
        for contender in comparison.others
    ]
    return [*tables, *([("What it cost", _costs(comparison))] if comparison.has_costs else [])]


def score_text(score: float, metric: Metric, *, signed: bool = False) -> str:
    """Return a score, or a difference of scores, as text with the number of digits that suits its metric.

    Args:
        score: in the metric's unit; NaN where it is left out.
        metric: metric of the score, which sets the number of digits.
        signed: True puts a plus sign before positive numbers.

    Examples:
        >>> from nnunetv2_gsp.metrics.definitions import DICE, HD95
        >>> score_text(0.8, DICE), score_text(3.14159, HD95, signed=True), score_text(float("nan"), DICE)
        ('0.8000', '+3.14', '–')
    """
    if math.isnan(score):
        return LEFT_OUT
    digits = 2 if metric.unit else 4
    return f"{score:+.{digits}f}" if signed else f"{score:.{digits}f}"


def with_prefix(count: int | None) -> str:
    """Return a count with three digits and a decimal prefix; blank where it is not known.

    Args:
        count: from 0 on, or None.

    Examples:
        >>> with_prefix(31_195_784), with_prefix(999_600), with_prefix(None)
        ('31.2 M', '1 M', '')
    """
    if count is None:
        return ""
    power = next((power for power in range(4) if count / 1000**power < 999.5), 4)  # 999.5 is rounded to 1e+03
    return f"{count / 1000**power:.3g}{('', ' k', ' M', ' G', ' T')[power]}"


def _results(comparison: Comparison, contender: Contender) -> Table:
    metrics = {metric.name: metric for metric in comparison.metrics}
    paired = [each for each in comparison.paired if each.contender == contender.name]
    header = [
        "region",
        "metric",
        f"mean of {comparison.baseline.name}",
        f"mean of {contender.name}",
        "mean difference",
        "95 % interval",
        "median difference",
        "p",
        "p, Holm",
        "wins / ties / losses",
        "penalty cases, each",
        "pairs (dropped)",
    ]
    return Table(
        header,
        [_result(each, metrics[each.metric]) for each in paired],
        n_labels=2,
        marked=frozenset(row for row, each in enumerate(paired) if each.is_significant),
    )


def _result(paired: PairedDifference, metric: Metric) -> list[str]:
    return [
        paired.region,
        f"{metric.title} {'↑' if metric.higher_is_better else '↓'}",
        score_text(paired.baseline_mean, metric),
        score_text(paired.contender_mean, metric),
        score_text(paired.mean_difference, metric, signed=True),
        _interval(paired, metric),
        score_text(paired.median_difference, metric, signed=True),
        _p(paired.p),
        _p(paired.p_holm) + (" *" if paired.is_significant else ""),
        f"{paired.wins} / {paired.ties} / {paired.losses}",
        f"{paired.baseline_penalties}, {paired.contender_penalties}",
        f"{paired.n}" + (f" ({paired.dropped})" if paired.dropped else ""),
    ]


def _costs(comparison: Comparison) -> Table:
    contenders = comparison.pairing.contenders
    return Table(
        ["", *(contender.name for contender in contenders)],
        [[label, *(show(contender.cost) for contender in contenders)] for label, show in _COSTS],
    )


def _interval(paired: PairedDifference, metric: Metric) -> str:
    low, high = paired.interval
    if math.isnan(low):
        return LEFT_OUT
    method = "" if paired.interval_method == "BCa" else f" ({paired.interval_method})"
    return f"{score_text(low, metric, signed=True)} to {score_text(high, metric, signed=True)}{method}"


def _p(p: float) -> str:
    if math.isnan(p):
        return LEFT_OUT
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _three_digits(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value < 999.5 else f"{value:.0f}"
