"""Paired differences: counted by hand, corrected within a family, and without penalty cases."""

import math

import numpy as np
import pytest
from scipy import stats

from nnunetv2_gsp.comparison.paired import PairedScores, compare_as_family
from nnunetv2_gsp.metrics.definitions import Metric

NAN = math.nan


def pair(baseline, contender, higher_is_better=True, penalties=()):
    scores = np.array([baseline, contender], float)
    has_penalty = np.zeros(scores.shape, bool)
    for place in penalties:
        has_penalty[place] = True
    return PairedScores("WT", Metric("some", "", higher_is_better), ("A", "B"), scores, has_penalty)


def alone(*arguments, **more):
    [found] = compare_as_family("alone", [pair(*arguments, **more)])
    return found


def test_a_comparison_by_hand():
    result = alone([0.5, 0.6, 0.7, NAN, 0.9, NAN], [0.6, 0.6, 0.6, 0.8, NAN, NAN])
    assert (result.n, result.dropped) == (3, 3)
    assert result.baseline_mean == result.contender_mean == pytest.approx(0.6)
    assert result.baseline_median == result.contender_median == pytest.approx(0.6)
    assert result.mean_difference == pytest.approx(0)
    assert (result.wins, result.ties, result.losses) == (1, 1, 1)
    assert (result.leaning, result.effect_size) == (0, 0)
    assert result.without_penalties is None


@pytest.mark.parametrize(("higher_is_better", "expected"), [(True, (2, 0, 1, 1)), (False, (1, 0, 2, -1))])
def test_the_metric_says_which_way_is_better(higher_is_better, expected):
    result = alone([1.0, 2.0, 3.0], [2.0, 4.0, 2.5], higher_is_better)
    assert (result.wins, result.ties, result.losses, result.leaning) == expected
    assert result.effect_size == pytest.approx(expected[3] * (2 + 3 - 1) / 6)
    assert result.mean_difference == pytest.approx(2.5 / 3)
    assert result.median_difference == 1


def test_nothing_but_left_out_scores():
    result = alone([NAN, NAN], [1.0, NAN])
    assert (result.n, result.dropped, result.is_significant) == (0, 2, False)
    assert math.isnan(result.mean_difference)
    assert math.isnan(result.typical_difference)
    assert result.confidence == 0.95


def test_significant_is_said_after_the_familys_correction_only():
    rng = np.random.default_rng(0)
    first = pair(np.zeros(6), np.arange(1.0, 7))
    [uncorrected] = compare_as_family("alone", [first])
    [corrected, *_] = compare_as_family("ten", [first] + [pair(np.zeros(6), rng.normal(size=6))] * 9)
    assert uncorrected.is_significant
    assert not corrected.is_significant
    assert corrected.p == uncorrected.p
    assert (uncorrected.family, corrected.family) == ("alone", "ten")


def test_eight_wins_of_eight_are_significant_in_a_family_of_three_regions():
    pairs = [pair(np.zeros(8), np.arange(1.0, 9) + number) for number in range(3)]
    for result in compare_as_family("three", pairs):
        assert result.is_significant
        assert result.typical_interval[0] > 0


def test_intervals_are_those_of_the_step_of_holms_procedure():
    strong, weak = np.arange(1.0, 13), np.array([-3, 1, -2, 4, 5, -6, 7, 8, -9, 10, 11, -12.0])
    first, second = compare_as_family("two", [pair(np.zeros(12), strong), pair(np.zeros(12), weak)])
    assert (first.confidence, second.confidence) == pytest.approx((0.975, 0.95))
    for result, differences in ((first, strong), (second, weak)):
        low, high = result.typical_interval
        for shift in (low, high):
            outside, inside = shift + np.array([1, -1]) * (1e-6 if shift == high else -1e-6)
            level = 1 - result.confidence
            assert stats.wilcoxon(differences - outside).pvalue < level <= stats.wilcoxon(differences - inside).pvalue


def test_without_penalty_cases_only_the_others_count():
    baseline, contender = [1.0, 2, 3, 374, 2], [2.0, 374, 5, 4, 3]
    result = alone(baseline, contender, higher_is_better=False, penalties=[(1, 1), (0, 3)])
    assert (result.baseline_penalties, result.contender_penalties) == (1, 1)
    without = result.without_penalties
    assert (without.n, without.baseline_mean, without.contender_mean) == (3, 2, pytest.approx(10 / 3))
    assert (without.baseline_median, without.contender_median) == (2, 3)
    assert (without.mean_difference, without.median_difference) == (pytest.approx(4 / 3), 1)


def test_a_penalty_where_the_score_is_left_out_is_counted_too():
    result = alone([0.5, 0.6], [0.7, NAN], penalties=[(1, 1)])
    assert (result.n, result.dropped, result.contender_penalties, result.without_penalties.n) == (1, 1, 1, 1)
