"""Fills the tables that describe without testing: spread, ranks, results by reference volume, agreement, all cases."""

import math

import numpy as np

from nnunetv2_gsp.comparison.comparison import Comparison
from nnunetv2_gsp.comparison.result_tables import LEFT_OUT, TitledTable, score_text
from nnunetv2_gsp.comparison.summaries import (
    MM3_PER_ML,
    Spread,
    by_volume,
    ranks,
    spread,
    spread_without_penalties,
    volume_agreement,
)
from nnunetv2_gsp.metrics.definitions import DICE, Metric
from nnunetv2_gsp.metrics.scoring import VOLUMES
from nnunetv2_gsp.tables import Table


def summary_tables(comparison: Comparison) -> list[TitledTable]:
    """Return the tables of ranks over cases, and of mean, SD and quartiles.

    Args:
        comparison: comparison of two or more contenders.
    """
    return [
        TitledTable(
            "Ranks over cases",
            rank_table(comparison),
            "Within each case 1 is the best, and equals share the mean of their ranks. Cases that not all have a score "
            "in are left out.",
        ),
        TitledTable("Mean, SD and quartiles, with and without penalty cases", spread_table(comparison), is_folded=True),
    ]


def volume_tables(comparison: Comparison) -> list[TitledTable]:
    """Return the tables of agreement of volumes, and of results by volume of the reference.

    Args:
        comparison: comparison of two or more contenders.
    """
    return [
        TitledTable(
            "Agreement of volumes", agreement_table(comparison), "Bias and limits of agreement by Bland and Altman."
        ),
        TitledTable(
            "Results by volume of the reference",
            volume_table(comparison),
            "Thirds of the cases by the volume of the region in the reference, and the cases in which it is empty.",
        ),
    ]


def spread_table(comparison: Comparison) -> Table:
    """Return mean, SD and quartiles of each region, metric and contender, with and without penalty cases.

    Args:
        comparison: comparison of two or more contenders.
    """
    rows = []
    for region in comparison.regions:
        for metric in comparison.metrics:
            for name in comparison.scores:
                found = spread(comparison.scores_of(name, region, metric.name))
                without = spread_without_penalties(comparison, name, region, metric.name)
                quartiles = (found.minimum, found.q1, found.median, found.q3, found.maximum)
                rows.append(
                    [
                        region,
                        metric.title,
                        name,
                        _mean_and_sd(found, metric),
                        *(score_text(value, metric) for value in quartiles),
                        str(found.n),
                        f"{_mean_and_sd(without, metric)} ({without.n})",
                    ]
                )
    quartile_titles = ["smallest", "lower quartile", "median", "upper quartile", "largest"]
    header = ["region", "metric", "contender", "mean ± SD", *quartile_titles, "cases", "without penalties (cases)"]
    return Table(header, rows, n_labels=3)


def rank_table(comparison: Comparison) -> Table:
    """Return each contender's mean ranks over cases, the best in the primary endpoint first.

    Args:
        comparison: comparison of two or more contenders.
    """
    metrics = " and ".join(metric.name for metric in comparison.ranked_by)
    by_name = sorted(
        ranks(comparison).items(), key=lambda item: math.inf if math.isnan(item[1].primary) else item[1].primary
    )
    return Table(
        ["contender", "mean rank, primary endpoint", "best or equal in", f"mean rank over regions, {metrics}"],
        [
            [name, _decimal(found.primary), f"{found.n_first} of {len(comparison.cases)}", _decimal(found.overall)]
            for name, found in by_name
        ],
    )


def volume_table(comparison: Comparison) -> Table:
    """Return the median Dice of each contender by region and volume of the reference.

    Args:
        comparison: comparison of two or more contenders.
    """
    rows = []
    for region in comparison.regions:
        volumes = np.array(comparison.scores_of(comparison.baseline.name, region, VOLUMES[0]), float) / MM3_PER_ML
        for group, places in by_volume(comparison, region):
            of_group = volumes[places]
            medians = [
                spread(np.array(comparison.scores_of(name, region, DICE.name), float)[places]).median
                for name in comparison.scores
            ]
            size = f"{ml_text(of_group.min())} to {ml_text(of_group.max())}" if of_group.any() else "0"
            rows.append([region, group, size, str(len(places)), *(score_text(each, DICE) for each in medians)])
    medians_of = [f"{name}: median Dice" for name in comparison.scores]
    return Table(["region", "reference", "volume, ml", "cases", *medians_of], rows, n_labels=2)


def agreement_table(comparison: Comparison) -> Table:
    """Return bias and limits of agreement of each contender's volumes by region.

    Args:
        comparison: comparison of two or more contenders.
    """
    rows = []
    for region in comparison.regions:
        for name in comparison.scores:
            found = volume_agreement(comparison, name, region)
            limits = LEFT_OUT if math.isnan(found.low) else f"{ml_text(found.low, '+')} to {ml_text(found.high, '+')}"
            rows.append([region, name, ml_text(found.bias, "+"), limits, str(found.n)])
    return Table(["region", "contender", "bias, ml", "limits of agreement, ml", "cases"], rows, n_labels=2)


def case_table(comparison: Comparison) -> Table:
    """Return a row for each case: primary endpoint, differences from the baseline, reference volume and penalties.

    Args:
        comparison: comparison of two or more contenders.
    """
    names, metric = list(comparison.scores), comparison.endpoint.metric
    scores, folds = comparison.endpoint_scores(names), comparison.pairing.folds
    n_penalties = comparison.endpoint_penalties(names).sum(axis=0)
    volumes = np.max(
        [comparison.scores_of(comparison.baseline.name, region, VOLUMES[0]) for region in comparison.regions], axis=0
    )
    rows = [
        [
            case,
            *([folds.get(case, "")] if folds else []),
            *(score_text(score, metric) for score in scores[:, place]),
            *(score_text(score - scores[0, place], metric, signed=True) for score in scores[1:, place]),
            ml_text(volumes[place] / MM3_PER_ML),
            str(n_penalties[place]),
        ]
        for place, case in enumerate(comparison.cases)
    ]
    header = [
        "case",
        *(["fold"] if folds else []),
        *names,
        *(f"{name} minus {names[0]}" for name in names[1:]),
        "largest region, ml",
        "contenders with a penalty",
    ]
    return Table(header, rows)


def ml_text(volume: float, sign: str = "") -> str:
    """Return a volume in ml, or a difference, with three digits.

    Args:
        volume: in ml; NaN where there is none.
        sign: "+" puts a plus sign before positive numbers.

    Examples:
        >>> ml_text(0.01234), ml_text(1234.5), ml_text(12.34, "+")
        ('0.0123', '1234', '+12.3')
    """
    if math.isnan(volume):
        return LEFT_OUT
    return f"{volume:{sign}.3g}" if abs(volume) < 999.5 else f"{volume:{sign}.0f}"


def _mean_and_sd(found: Spread, metric: Metric) -> str:
    sd = "" if math.isnan(found.sd) else f" ± {score_text(found.sd, metric)}"
    return f"{score_text(found.mean, metric)}{sd}"


def _decimal(value: float) -> str:
    return LEFT_OUT if math.isnan(value) else f"{value:.2f}"
