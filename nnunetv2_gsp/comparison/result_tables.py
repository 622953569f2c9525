"""Fills the tables of a comparison: scores with their tests, and costs."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nnunetv2_gsp.comparison.comparison import Comparison
from nnunetv2_gsp.comparison.costs import ModelCost
from nnunetv2_gsp.comparison.paired import Location, PairedDifference
from nnunetv2_gsp.comparison.pairing import Contender
from nnunetv2_gsp.metrics.definitions import Metric
from nnunetv2_gsp.tables import Table

LEFT_OUT = "–"
_RESULT = (
    "typical difference",
    "its interval",
    "p, Holm",
    "effect size",
    "wins / ties / losses",
    "penalty cases, each",
    "pairs (dropped)",
)
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


@dataclass(frozen=True)
class TitledTable:
    """A table of the report.

    Attributes:
        heading: heading above the table.
        table: the table.
        words: text between heading and table; may be empty.
        is_folded: True where the page shows it on a click only.
    """

    heading: str
    table: Table
    words: str = ""
    is_folded: bool = False


def result_tables(comparison: Comparison) -> list[TitledTable]:
    """Return the tables of the primary endpoint, of each contender against the baseline by region, and of costs.

    Args:
        comparison: comparison of two or more contenders.

    Returns:
        Metrics that challenges do not rank by have folded tables; the table of costs is there only where any is known.
    """
    others = tuple(metric for metric in comparison.metrics if metric not in comparison.ranked_by)
    return [
        TitledTable(
            f"Primary endpoint: {comparison.endpoint.title}", _primary(comparison), _families_in_words(comparison)
        ),
        *(
            TitledTable(
                _by_region_title(comparison, contender), _by_region(comparison, contender, comparison.ranked_by)
            )
            for contender in comparison.others
        ),
        *(
            TitledTable(
                f"{_by_region_title(comparison, contender)}: {', '.join(metric.name for metric in others)}",
                _by_region(comparison, contender, others),
                is_folded=True,
            )
            for contender in comparison.others
        ),
        *([TitledTable("What it cost", _costs(comparison))] if comparison.has_costs else []),
    ]


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


def interval_text(found: Location, metric: Metric) -> str:
    """Return the interval of the typical difference as text.

    Args:
        found: where the scores of two contenders lie.
        metric: metric of the scores, which sets the number of digits.
    """
    low, high = (score_text(end, metric, signed=True) for end in found.typical_interval)
    return LEFT_OUT if math.isnan(found.typical_interval[0]) else f"{low} to {high}"


def confidence_text(paired: PairedDifference) -> str:
    """Return the confidence of a difference's intervals as text, such as 98.3 %.

    Args:
        paired: a tested difference.
    """
    return f"{100 * paired.confidence:.3g} %"


def p_text(p: float, *, named: bool = False) -> str:
    """Return a p-value with three digits after the point; NaN, where nothing was tested, is left out.

    Args:
        p: from 0 to 1, or NaN.
        named: True puts "p =" before it.

    Examples:
        >>> p_text(0.0004), p_text(0.0123, named=True), p_text(0.0004, named=True)
        ('< 0.001', 'p = 0.012', 'p < 0.001')
    """
    if math.isnan(p):
        return LEFT_OUT
    shown = "< 0.001" if p < 0.001 else f"{p:.3f}"
    return shown if not named else f"p {shown}" if p < 0.001 else f"p = {shown}"


def _primary(comparison: Comparison) -> Table:
    rows: list[list[str]] = []
    marked: set[int] = set()
    for paired in comparison.primary:
        if paired.is_significant:
            marked.add(len(rows))
        label = f"{paired.contender} against {paired.baseline}"
        rows.append([label, *_result(paired, comparison.endpoint.metric)])
        if paired.without_penalties is not None:
            rows.append(
                [f"{label}, no penalties", *_untested(paired, paired.without_penalties, comparison.endpoint.metric)]
            )
    header = ["compared", "baseline: median (mean)", "contender: median (mean)", *_RESULT]
    return Table(header, rows, marked=frozenset(marked))


def _families_in_words(comparison: Comparison) -> str:
    n_tests = Counter(paired.family for paired in (*comparison.primary, *comparison.paired))
    return (
        "Families of tests, each corrected by itself: "
        + "; ".join(f"{name} ({n})" for name, n in n_tests.items())
        + "."
    )


def _by_region_title(comparison: Comparison, contender: Contender) -> str:
    return f"{contender.name} against {comparison.baseline.name}, by region"


def _by_region(comparison: Comparison, contender: Contender, metrics: Sequence[Metric]) -> Table:
    by_name = {metric.name: metric for metric in metrics}
    rows: list[list[str]] = []
    marked: set[int] = set()
    for paired in comparison.paired:
        if paired.contender != contender.name or paired.metric not in by_name:
            continue
        metric = by_name[paired.metric]
        title = f"{metric.title} {'↑' if metric.higher_is_better else '↓'}"
        if paired.is_significant:
            marked.add(len(rows))
        rows.append([paired.region, title, *_result(paired, metric)])
        if paired.without_penalties is not None:
            rows.append([paired.region, f"{title}, no penalties", *_untested(paired, paired.without_penalties, metric)])
    names = [f"{name}: median (mean)" for name in (comparison.baseline.name, contender.name)]
    return Table(["region", "metric", *names, *_RESULT], rows, n_labels=2, marked=frozenset(marked))


def _result(paired: PairedDifference, metric: Metric) -> list[str]:
    """Return the cells below `_RESULT`, and those of medians and means before them."""
    return [
        *_location(paired, paired, metric),
        p_text(paired.p_holm) + (" *" if paired.is_significant else ""),
        _signed(paired.effect_size),
        f"{paired.wins} / {paired.ties} / {paired.losses}",
        f"{paired.baseline_penalties}, {paired.contender_penalties}",
        f"{paired.n}" + (f" ({paired.dropped})" if paired.dropped else ""),
    ]


def _untested(paired: PairedDifference, without: Location, metric: Metric) -> list[str]:
    """Return the same cells for the cases without penalties, which are not tested."""
    return [*_location(paired, without, metric), "", "", "", "", f"{without.n}"]


def _location(paired: PairedDifference, found: Location, metric: Metric) -> list[str]:
    """Return the cells of medians and means, typical difference and its interval."""
    return [
        *_medians(found, metric),
        score_text(found.typical_difference, metric, signed=True),
        f"{interval_text(found, metric)} ({confidence_text(paired)})",
    ]


def _medians(found: Location, metric: Metric) -> list[str]:
    return [
        f"{score_text(median, metric)} ({score_text(mean, metric)})"
        for median, mean in (
            (found.baseline_median, found.baseline_mean),
            (found.contender_median, found.contender_mean),
        )
    ]


def _signed(value: float) -> str:
    return LEFT_OUT if math.isnan(value) else f"{value:+.2f}"


def _costs(comparison: Comparison) -> Table:
    contenders = comparison.pairing.contenders
    return Table(
        ["", *(contender.name for contender in contenders)],
        [[label, *(show(contender.cost) for contender in contenders)] for label, show in _COSTS],
    )


def _three_digits(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value < 999.5 else f"{value:.0f}"
