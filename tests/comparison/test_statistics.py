"""Tests and intervals: against scipy and by hand, and where there is nothing to test."""

import itertools
import math

import numpy as np
import pytest
import scipy
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nnunetv2_gsp.comparison.statistics import (
    bootstrap_interval,
    holm,
    paired_difference,
    smallest_p,
    wilcoxon_p,
    with_holm,
)
from nnunetv2_gsp.metrics.definitions import Metric

NAN = math.nan
DIFFERENCES = np.array([0.3, -0.1, 0.0, 0.7, 0.2, 0.0, 0.5, 0.9, -0.4, 0.6, 0.8, 1.0])
TIED = np.array([0.0, 1.0, 1.0, 2.0, -1.0, 3.0, 0.0, 2.0, 2.0, -3.0, 4.0])
SCIPY = tuple(map(int, scipy.__version__.split(".")[:2]))


def paired(baseline, contender, higher_is_better=True):
    return paired_difference("WT", Metric("some", "", higher_is_better), ("A", baseline), ("B", contender))


def test_p_with_pratts_zeros_is_what_scipy_1_17_finds():
    """Older ones take the normal approximation where there are zeros, and no ties into account."""
    assert wilcoxon_p(DIFFERENCES) == pytest.approx(0.0234375, rel=1e-12)
    assert wilcoxon_p(TIED) == pytest.approx(0.11328125, rel=1e-12)
    if SCIPY >= (1, 17):
        for differences in (DIFFERENCES, TIED):
            assert wilcoxon_p(differences) == pytest.approx(stats.wilcoxon(differences, zero_method="pratt").pvalue)


@pytest.mark.parametrize("n", [1, 2, 7, 30, 50, 51, 80])
def test_p_without_ties_and_zeros_is_scipys(n):
    differences = np.random.default_rng(n).normal(0.3, 1, n)
    assert wilcoxon_p(differences) == pytest.approx(stats.wilcoxon(differences).pvalue)


@settings(max_examples=25)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=8))
def test_p_is_the_share_of_signs_that_are_as_extreme(differences):
    differences = np.array(differences, float)
    ranks = stats.rankdata(np.abs(differences))[differences != 0]
    sums = np.array([ranks[list(signs)].sum() for signs in itertools.product([False, True], repeat=len(ranks))])
    found = ranks[differences[differences != 0] > 0].sum()
    expected = min(1.0, 2 * min((sums <= found).mean(), (sums >= found).mean()))
    assert wilcoxon_p(differences) == pytest.approx(expected)


def test_p_where_there_is_nothing_to_test():
    assert wilcoxon_p(np.zeros(5)) == 1
    assert math.isnan(wilcoxon_p(np.array([])))


@pytest.mark.parametrize("n", [5, 6, 10])
def test_the_smallest_p_is_that_of_differences_all_of_one_sign(n):
    assert smallest_p(n) == pytest.approx(stats.wilcoxon(np.arange(1, n + 1)).pvalue)


def test_the_interval_is_scipys_bca_and_the_same_at_every_call():
    interval, method = bootstrap_interval(DIFFERENCES)
    expected = stats.bootstrap((DIFFERENCES,), np.mean, method="BCa", random_state=np.random.default_rng(0))
    assert method == "BCa"
    assert interval == pytest.approx(tuple(expected.confidence_interval))
    assert bootstrap_interval(DIFFERENCES) == (interval, method)


def test_constant_differences_have_a_percentile_interval():
    assert bootstrap_interval(np.full(6, 0.25)) == ((0.25, 0.25), "percentile")


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_pairs_have_no_interval(n):
    interval, method = bootstrap_interval(np.ones(n))
    assert method == ""
    assert all(map(math.isnan, interval))


def test_holm_by_hand():
    # 0.01·3, then 0.02·2, then 0.04·1 but not below the one before
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    # what was not tested does not count
    assert holm([0.02, NAN, 0.03]) == pytest.approx([0.04, NAN, 0.04], nan_ok=True)
    assert holm([]) == []


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_lowers_a_p_and_keeps_their_order(p_values):
    corrected = holm(p_values)
    assert all(p <= after <= 1 for p, after in zip(p_values, corrected, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.array(corrected)[order]) >= 0)


def test_a_comparison_by_hand():
    result = paired([0.5, 0.6, 0.7, NAN, 0.9, NAN], [0.6, 0.6, 0.6, 0.8, NAN, NAN])
    assert (result.n, result.dropped) == (3, 3)
    assert result.baseline_mean == result.contender_mean == pytest.approx(0.6)
    assert result.mean_difference == pytest.approx(0)
    assert (result.wins, result.ties, result.losses) == (1, 1, 1)
    assert result.leaning == 0


@pytest.mark.parametrize(("higher_is_better", "expected"), [(True, (2, 0, 1, 1)), (False, (1, 0, 2, -1))])
def test_the_metric_says_which_way_is_better(higher_is_better, expected):
    result = paired([1.0, 2.0, 3.0], [2.0, 4.0, 2.5], higher_is_better)
    assert (result.wins, result.ties, result.losses, result.leaning) == expected
    assert result.mean_difference == pytest.approx(2.5 / 3)
    assert result.median_difference == 1


def test_nothing_but_left_out_scores():
    result = paired([NAN, NAN], [1.0, NAN])
    assert (result.n, result.dropped, result.is_significant) == (0, 2, False)
    assert math.isnan(result.mean_difference)


def test_significant_is_said_after_holm_only():
    rng = np.random.default_rng(0)
    comparisons = [paired(np.zeros(6), np.arange(1.0, 7))] + [paired(np.zeros(6), rng.normal(size=6))] * 9
    assert comparisons[0].is_significant
    assert not with_holm(comparisons)[0].is_significant
    assert with_holm(comparisons)[0].p == comparisons[0].p
