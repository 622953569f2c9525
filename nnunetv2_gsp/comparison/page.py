"""Collects the contents of a comparison's HTML page: verdict, tables, plots, cases and notes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nnunetv2_gsp.comparison.comparison import Comparison
from nnunetv2_gsp.comparison.outlines import MOST_REGIONS, legend, worst_slices
from nnunetv2_gsp.comparison.pictures import Picture
from nnunetv2_gsp.comparison.plots import bland_altman, learning_curves, paired_scatter, sorted_differences
from nnunetv2_gsp.comparison.result_tables import result_tables, score_text
from nnunetv2_gsp.comparison.summary_tables import case_table, summary_tables, volume_tables
from nnunetv2_gsp.comparison.verdict import verdict
from nnunetv2_gsp.markup import render
from nnunetv2_gsp.metrics.definitions import DICE
from nnunetv2_gsp.progress import progress

N_CASES_SHOWN = 4  # of those that separate, of the worst, and of the median
N_METRICS_PLOTTED = 2  # Dice and HD95


@dataclass(frozen=True)
class Plots:
    """Pictures under one heading, with a text on what to look for."""

    heading: str
    pictures: Sequence[Picture]
    caption: str


@dataclass(frozen=True)
class CaseView:
    """Pictures of a case, and each contender's Dice in words by its name."""

    case: str
    fold: str | None
    dice: dict[str, str]
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class CaseGroup:
    """Cases under one heading, with a text on why they are shown."""

    heading: str
    words: str
    cases: Sequence[CaseView]


def as_html(comparison: Comparison) -> str:
    """Return the HTML page, with pictures and style sheet embedded.

    Args:
        comparison: comparison of two or more contenders.

    Raises:
        InputError: a segmentation or an image can't be read.
    """
    page = render(
        "comparison/page.html.j2",
        title=title_of(comparison),
        comparison=comparison,
        verdict=verdict(comparison),
        tables=[*result_tables(comparison), *summary_tables(comparison)],
        volume_tables=volume_tables(comparison),
        cases=case_table(comparison),
        plots=list(_plots(comparison)),
        key=legend(list(comparison.scores)),
        case_groups=_case_groups(comparison),
        most_regions=MOST_REGIONS,
    )
    return str(page)  # no longer one that escapes what is added to it


def title_of(comparison: Comparison) -> str:
    """Return the page's title, which names the contenders.

    Args:
        comparison: comparison of two or more contenders.
    """
    *others, last = comparison.scores
    return f"{', '.join(others)} and {last} compared"


def _plots(comparison: Comparison) -> Iterator[Plots]:
    """Yield scatter and sorted differences of each contender against the baseline, then learning curves."""
    baseline = comparison.baseline.name
    panels = [(region, metric) for metric in comparison.metrics[:N_METRICS_PLOTTED] for region in comparison.regions]
    for number, contender in enumerate(comparison.others, start=1):
        name = contender.name
        yield Plots(
            f"Case by case: {name} against {baseline}",
            [paired_scatter(comparison, number, *panel) for panel in panels],
            f"Each mark is a case: the score of {baseline} on the horizontal axis, that of {name} on the vertical one. "
            f"On the dashed line both are equal. Where higher is better (Dice), marks above the line favour {name}; "
            f"where lower is better (HD95), marks below it do. Distances are drawn to scale up to 1 mm and "
            f"logarithmically beyond. Check whether a few distant marks dominate the mean.",
        )
        yield Plots(
            f"Differences, sorted: {name} minus {baseline}",
            [sorted_differences(comparison, number, *panel) for panel in panels],
            f"A bar for each case, from the smallest difference to the largest. Plain bars are cases in which {name} "
            f"is better, hatched ones those in which {baseline} is. A difference that holds for most cases shows as a "
            f"wide block of bars, one that a few cases cause shows as a spike at one end. Distances are drawn to scale "
            f"up to 1 mm and logarithmically beyond.",
        )
    yield Plots(
        "Volumes: prediction minus reference",
        [
            bland_altman(comparison, number, region)
            for region in comparison.regions[:MOST_REGIONS]
            for number in range(len(comparison.pairing.contenders))
        ],
        "Bland and Altman's plots. The solid line is the bias, the mean of all differences; 95 % of differences are "
        "expected between the dashed lines if they are normally distributed. Marks that fall or rise from left to "
        "right show an error that grows with the volume. Cases without any volume are left out.",
    )
    pictures = learning_curves(comparison)
    if pictures:
        yield Plots(
            "How training went",
            pictures,
            "From nnU-Net's logs; the thick line is the mean over folds, thin ones are single folds. Where the "
            "validation loss rises while the training loss falls, a network overfits. A curve that is still rising at "
            "its end suggests that more epochs might change the comparison. Pseudo Dice is measured on patches, and is "
            "no substitute for the tables.",
        )


def _case_groups(comparison: Comparison) -> list[CaseGroup]:
    """Return the cases that separate the contenders most, the worst and those in the middle; each case once."""
    ranked, title = comparison.ranked_cases(), comparison.endpoint.title
    start = max(0, (len(ranked) - N_CASES_SHOWN) // 2)
    groups = (
        (
            "The cases that separate the contenders most",
            f"Those with the largest difference between any two contenders in the primary endpoint, {title}.",
            comparison.separating_cases(),
        ),
        (
            "The worst of the other cases",
            f"Those in which the contenders are worst on average, by {title}: a missed lesion, a false one, a border.",
            ranked,
        ),
        ("Median cases", "Those in the middle of the same order. They show what to expect.", ranked[start:]),
    )
    chosen: dict[str, list[str]] = {}
    for heading, _, candidates in groups:
        shown = {case for cases in chosen.values() for case in cases}
        chosen[heading] = [case for case in candidates if case not in shown][:N_CASES_SHOWN]
    every = [case for cases in chosen.values() for case in cases]
    views = {case: _case_view(comparison, case) for case in progress(every, "drawing", "case", stays=False)}
    return [
        CaseGroup(heading, words, [views[case] for case in chosen[heading]])
        for heading, words, _ in groups
        if chosen[heading]
    ]


def _case_view(comparison: Comparison, case: str) -> CaseView:
    dice = {
        name: ", ".join(
            f"{entry['region']} {score_text(entry[DICE.name], DICE)}" for entry in entries if entry["case"] == case
        )
        for name, entries in comparison.scores.items()
    }
    return CaseView(case, comparison.pairing.folds.get(case), dice, worst_slices(comparison, case))
