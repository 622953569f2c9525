"""Plots scores of each case, and the learning curves of trainings."""

from typing import Any

import numpy as np
import numpy.typing as npt

from nnunetv2_gsp.comparison.comparison import Comparison
from nnunetv2_gsp.comparison.pictures import Picture, style_of, svg_canvas
from nnunetv2_gsp.comparison.summaries import means_and_differences, volume_agreement
from nnunetv2_gsp.comparison.summary_tables import ml_text
from nnunetv2_gsp.metrics.definitions import Metric

Floats = npt.NDArray[np.float64]


def paired_scatter(comparison: Comparison, number: int, region: str, metric: Metric) -> Picture:
    """Draw a scatter plot of the cases, baseline on the x-axis, contender on the y-axis, with the line of equality.

    Args:
        comparison: comparison whose data are drawn.
        number: the contender's place, from 1 on; 0 is the baseline's.
        region: name of the region, one of `comparison.regions`.
        metric: metric whose scores are drawn.
    """
    baseline, contender, x, y = _paired_scores(comparison, number, region, metric)
    with svg_canvas() as (canvas, result):
        axes = canvas.subplots()
        if len(x):
            low, high = min(x.min(), y.min()), max(x.max(), y.max())
            room = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
            # on the scale of distances room below 0 would look large, and above the largest one small
            limits = (-0.3, 1.5 * high + 1) if metric.unit == "mm" else (low - room, high + room)
            axes.plot(limits, limits, color="#555555", linewidth=1, linestyle="dashed", zorder=1)
            for axis in ("x", "y"):
                _scale(axes, axis, metric)
            axes.set(xlim=limits, ylim=limits)
            axes.set_title(
                f"{'above' if metric.higher_is_better else 'below'} the line: better",
                fontsize=8,
                color="#333333",
                loc="left",
            )
            style = style_of(number)
            axes.scatter(
                x,
                y,
                s=26,
                color=style["color"],
                marker=style["marker"],
                edgecolor="black",
                linewidth=0.5,
                alpha=0.85,
                zorder=2,
            )
        axes.set(xlabel=f"{baseline}: {metric.title}", ylabel=f"{contender}: {metric.title}", aspect="equal")
    above, below = int((y > x).sum()), int((y < x).sum())
    return Picture(
        f"{metric.title}, {region}",
        f"Scatter of {metric.title} of {region}: {contender} against {baseline}, {len(x)} cases, {above} "
        f"above the line of equality, {below} below, {len(x) - above - below} on it.",
        result(),
    )


def sorted_differences(comparison: Comparison, number: int, region: str, metric: Metric) -> Picture:
    """Draw a bar for each case's difference, contender minus baseline, from the smallest to the largest.

    Args:
        comparison: comparison whose data are drawn.
        number: the contender's place, from 1 on; 0 is the baseline's.
        region: name of the region, one of `comparison.regions`.
        metric: metric whose scores are drawn.
    """
    baseline, contender, x, y = _paired_scores(comparison, number, region, metric)
    differences = np.sort(y - x)
    is_better = differences > 0 if metric.higher_is_better else differences < 0
    with svg_canvas() as (canvas, result):
        axes = canvas.subplots()
        places = np.arange(1, len(differences) + 1)
        for group, colour, hatch, words in (
            (is_better, style_of(number)["color"], "", f"{contender} better"),
            (~is_better & (differences != 0), style_of(0)["color"], "////", f"{baseline} better"),
        ):
            if group.any():
                axes.bar(
                    places[group],
                    differences[group],
                    color=colour,
                    hatch=hatch,
                    edgecolor="white",
                    width=0.9,
                    linewidth=0,
                    label=words,
                )
        axes.axhline(0, color="black", linewidth=0.8)
        _scale(axes, "y", metric)
        axes.set(xlabel="cases, sorted", ylabel=f"difference of {metric.title}")
        axes.set_xticks(sorted({1, len(differences)}) if len(differences) else [])
        if differences.any():
            canvas.legend(loc="outside upper center", fontsize=8, frameon=False)
    return Picture(
        f"{metric.title}, {region}",
        f"Sorted differences of {metric.title} of {region}, {contender} minus {baseline}: "
        f"{len(differences)} cases, {contender} better in {int(is_better.sum())}, no difference in "
        f"{int((differences == 0).sum())}.",
        result(),
    )


def bland_altman(comparison: Comparison, number: int, region: str) -> Picture:
    """Draw predicted minus reference volume over the mean of both, with bias and limits of agreement.

    Args:
        comparison: comparison whose data are drawn.
        number: the contender's place, from 0 on.
        region: name of the region, one of `comparison.regions`.
    """
    name, style = comparison.pairing.contenders[number].name, style_of(number)
    means, differences = means_and_differences(comparison, name, region)
    found = volume_agreement(comparison, name, region)
    with svg_canvas() as (canvas, result):
        axes = canvas.subplots()
        axes.axhline(0, color="#555555", linewidth=0.8)
        if found.n:
            axes.axhline(found.bias, color=style["color"], linewidth=1.6)
            for limit in (found.low, found.high):
                if not np.isnan(limit):
                    axes.axhline(limit, color=style["color"], linewidth=1.2, linestyle="dashed")
            axes.scatter(
                means, differences, s=26, color=style["color"], marker=style["marker"], edgecolor="black", linewidth=0.5
            )
        axes.set(xlabel="mean of prediction and reference, ml", ylabel=f"{name} minus reference, ml")
    limits = f"{ml_text(found.low, '+')} to {ml_text(found.high, '+')} ml"
    return Picture(
        f"{region}, {name}",
        f"Bland-Altman plot of the volume of {region}, {name} minus reference: {found.n} cases, bias "
        f"{ml_text(found.bias, '+')} ml, limits of agreement {limits}.",
        result(),
    )


def learning_curves(comparison: Comparison) -> list[Picture]:
    """Draw losses and pseudo Dice over epochs, each fold as a thin line, their mean as a thick one.

    Args:
        comparison: comparison whose data are drawn.

    Returns:
        One picture each of training loss, validation loss and pseudo Dice; none for what was not logged.
    """
    if not any(contender.curves for contender in comparison.pairing.contenders):
        return []
    return [
        _curve(comparison, name, title)
        for name, title in (
            ("training_loss", "training loss"),
            ("validation_loss", "validation loss"),
            ("pseudo_dice", "pseudo Dice"),
        )
    ]


def _scale(axes: Any, axis: str, metric: Metric) -> None:
    """Make an axis of distances linear up to 1 mm and logarithmic beyond, lest one penalty hide all other cases."""
    from matplotlib.ticker import FuncFormatter

    if metric.unit == "mm":
        getattr(axes, f"set_{axis}scale")("symlog", linthresh=1)
        getattr(axes, f"{axis}axis").set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _curve(comparison: Comparison, name: str, title: str) -> Picture:
    """Draw one of the attributes of `LearningCurves`."""
    words = []
    with svg_canvas() as (canvas, result):
        axes = canvas.subplots()
        for number, contender in enumerate(comparison.pairing.contenders):
            folds = [np.array(getattr(curves, name), float) for curves in contender.curves]
            if not folds:
                continue
            style = style_of(number)
            line = {"color": style["color"], "linestyle": style["linestyle"]}
            n_epochs = min(map(len, folds))
            if len(folds) > 1:
                for fold in folds:
                    axes.plot(np.arange(1, len(fold) + 1), fold, **line, linewidth=0.7, alpha=0.45)
            mean = np.mean([fold[:n_epochs] for fold in folds], axis=0)
            axes.plot(
                np.arange(1, n_epochs + 1),
                mean,
                **line,
                linewidth=2.2,
                label=contender.name,
                marker=style["marker"],
                markersize=4,
                markevery=max(1, n_epochs // 8),
            )
            words.append(f"{contender.name} ends at {mean[-1]:.3g} after {n_epochs} epochs")
        axes.set(xlabel="epoch", ylabel=title)
        canvas.legend(loc="outside upper center", fontsize=8, frameon=False)
    return Picture(title, f"Learning curves, {title}: {'; '.join(words)}.", result())


def _paired_scores(comparison: Comparison, number: int, region: str, metric: Metric) -> tuple[str, str, Floats, Floats]:
    """Return the names of baseline and contender, and their scores (n,) of the cases that both have."""
    baseline, contender = comparison.baseline.name, comparison.pairing.contenders[number].name
    both = np.array([comparison.scores_of(name, region, metric.name) for name in (baseline, contender)], float)
    x, y = both[:, ~np.isnan(both).any(axis=0)]
    return baseline, contender, x, y
