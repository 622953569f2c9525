"""Plots: what their descriptions count, and who is drawn."""

import base64
from dataclasses import replace

import pytest

from nnunetv2_gsp.comparison.plots import bland_altman, learning_curves, paired_scatter, sorted_differences
from nnunetv2_gsp.comparison.training_records import LearningCurves
from nnunetv2_gsp.metrics.definitions import DICE, HD95
from tests.comparison.contenders import N_CASES


def svg_of(picture):
    kind, content = picture.uri.split(";base64,")
    assert kind == "data:image/svg+xml"
    return base64.b64decode(content).decode()


def with_scores(comparison, metric, baseline, contender):
    """Replace the scores of the first region's first cases; NaN elsewhere."""

    def replaced(name, values):
        region = comparison.regions[0]
        entries = [dict(entry) for entry in comparison.scores[name]]
        of_region = [entry for entry in entries if entry["region"] == region]
        for number, entry in enumerate(of_region):
            entry[metric.name] = values[number] if number < len(values) else float("nan")
        return entries

    scores = {**comparison.scores, "poor": replaced("poor", baseline), "good": replaced("good", contender)}
    return replace(comparison, scores=scores)


def test_a_scatter_counts_the_cases_on_each_side_of_equality(comparison):
    known = with_scores(comparison, DICE, [0.1, 0.2, 0.3, 0.4], [0.2, 0.2, 0.1, 0.9])
    picture = paired_scatter(known, 1, "whole <tumor>", DICE)
    assert picture.alt.endswith("good against poor, 4 cases, 2 above the line of equality, 1 below, 1 on it.")
    assert "above the line: better" in svg_of(picture)
    assert "below the line: better" in svg_of(paired_scatter(comparison, 1, "core", HD95))


@pytest.mark.parametrize(("metric", "n_better"), [(DICE, 2), (HD95, 1)])
def test_differences_say_in_how_many_cases_the_contender_is_better(metric, n_better, comparison):
    known = with_scores(comparison, metric, [0.1, 0.2, 0.3, 0.4], [0.2, 0.2, 0.1, 0.9])
    picture = sorted_differences(known, 1, "whole <tumor>", metric)
    assert picture.alt.endswith(f"good minus poor: 4 cases, good better in {n_better}, no difference in 1.")
    assert {"good better", "poor better"} <= {
        line.strip() for line in svg_of(picture).replace(">", "\n").replace("<", "\n").splitlines()
    }


def test_where_no_case_has_scores_of_both_the_plots_are_empty(comparison):
    known = with_scores(comparison, DICE, [], [])
    for draw in (paired_scatter, sorted_differences):
        assert " 0 cases, " in draw(known, 1, "whole <tumor>", DICE).alt


def test_curves_are_the_mean_over_the_epochs_that_all_folds_have(comparison):
    assert learning_curves(comparison) == []
    folds = [
        LearningCurves("0", [3, 2, 1], [1, 1, 1], [0.1, 0.2, 0.3]),
        LearningCurves("1", [5, 4], [2, 2], [0.3, 0.4]),
    ]
    contenders = [replace(comparison.pairing.contenders[0], curves=folds), *comparison.pairing.contenders[1:]]
    known = replace(comparison, pairing=replace(comparison.pairing, contenders=contenders))
    assert [picture.alt for picture in learning_curves(known)] == [
        f"Learning curves, {title}: poor ends at {value} after 2 epochs."
        for title, value in (("training loss", "3"), ("validation loss", "1.5"), ("pseudo Dice", "0.3"))
    ]


def test_all_cases_are_drawn(comparison):
    assert f"{N_CASES} cases" in paired_scatter(comparison, 2, "core", DICE).alt


def test_volumes_are_drawn_with_bias_and_limits_of_agreement(comparison):
    """Differences of 1, 2 and 3 ml have a bias of 2 ml and an SD of 1 ml; a case without any volume is left out."""
    entries = [dict(entry) for entry in comparison.scores["good"]]
    of_region = [entry for entry in entries if entry["region"] == "core"]
    for number, entry in enumerate(of_region):
        entry["reference_mm3"], entry["prediction_mm3"] = 0, 0
        if number < 3:
            entry["reference_mm3"], entry["prediction_mm3"] = 10_000 * number, 10_000 * number + 1000 * (number + 1)
    known = replace(comparison, scores={**comparison.scores, "good": entries})
    assert bland_altman(known, 1, "core").alt == (
        "Bland-Altman plot of the volume of core, good minus reference: 3 cases, bias +2 ml, limits of agreement +0.04 "
        "to +3.96 ml."
    )
