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
    MOST_EXACT,
    bootstrap_interval,
    holm,
    holm_levels,
    rank_biserial,
    smallest_p,
    typical_difference,
    typical_interval,
    wilcoxon_p,
)

NAN = math.nan
DIFFERENCES = np.array([0.3, -0.1, 0.0, 0.7, 0.2, 0.0, 0.5, 0.9, -0.4, 0.6, 0.8, 1.0])
TIED = np.array([0.0, 1.0, 1.0, 2.0, -1.0, 3.0, 0.0, 2.0, 2.0, -3.0, 4.0])
SCIPY = tuple(map(int, scipy.__version__.split(".")[:2]))


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


def test_p_of_more_pairs_than_are_counted_has_pratts_zeros():
    differences = np.random.default_rng(0).integers(-3, 5, MOST_EXACT + 1).astype(float)
    by_pratt, without_zeros = (
        stats.wilcoxon(differences, zero_method=zeros, method="approx").pvalue for zeros in ("pratt", "wilcox")
    )
    assert wilcoxon_p(differences) == pytest.approx(by_pratt)
    assert without_zeros != pytest.approx(by_pratt, rel=0.01)


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


def test_a_corrected_level_widens_the_interval_of_the_mean():
    expected = stats.bootstrap((DIFFERENCES,), np.mean, confidence_level=0.99, random_state=np.random.default_rng(0))
    assert bootstrap_interval(DIFFERENCES, 0.01)[0] == pytest.approx(tuple(expected.confidence_interval))


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


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1) | st.just(NAN), max_size=12))
def test_a_p_is_below_its_level_exactly_if_holm_rejects_it(p_values):
    for p, corrected, level in zip(p_values, holm(p_values), holm_levels(p_values), strict=True):
        if math.isnan(p):
            assert math.isnan(level)
        elif not math.isclose(p, level):
            assert (p < level) == (corrected < 0.05)


def test_levels_by_hand():
    # 0.01 < 0.05/3, 0.02 < 0.05/2, and the last one is left alone
    assert holm_levels([0.04, 0.01, 0.02]) == pytest.approx([0.05, 0.05 / 3, 0.05 / 2])
    # 0.03 > 0.05/2 ends the procedure, so 0.04 is held to that level, too
    assert holm_levels([0.04, 0.01, 0.03]) == pytest.approx([0.05 / 2, 0.05 / 3, 0.05 / 2])


@pytest.mark.parametrize("differences", [DIFFERENCES, TIED, np.random.default_rng(0).normal(0.3, 1, 30)])
def test_effect_size_is_that_of_scipys_rank_sums(differences):
    favourable, unfavourable = (
        stats.wilcoxon(sign * differences, zero_method="pratt", alternative="greater").statistic for sign in (1, -1)
    )
    expected = (favourable - unfavourable) / (favourable + unfavourable)
    assert rank_biserial(differences) == pytest.approx(expected)


def test_effect_size_where_there_is_no_effect():
    assert rank_biserial(np.zeros(4)) == 0
    assert rank_biserial(np.array([1.0, -1.0])) == 0
    assert math.isnan(rank_biserial(np.array([])))


def test_one_penalty_hardly_moves_the_typical_difference():
    assert typical_difference(np.array([2.0] * 18 + [374.0, -374.0])) == 2
    pairs = [(a + b) / 2 for a, b in itertools.combinations_with_replacement(DIFFERENCES, 2)]
    assert typical_difference(DIFFERENCES) == pytest.approx(np.median(pairs))
    assert math.isnan(typical_difference(np.array([])))


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 3, 0.2])
@pytest.mark.parametrize("n", [8, 13, 60])
def test_the_interval_holds_the_shifts_that_scipys_test_does_not_reject(n, alpha):
    differences = np.random.default_rng(n).normal(0.3, 1, n)
    low, high = typical_interval(differences, alpha)
    for shift in np.linspace(-1.5, 2, 71):
        p = stats.wilcoxon(differences - shift).pvalue
        assert (p >= alpha) == (low <= shift <= high)


@settings(max_examples=100)
@given(st.lists(st.integers(-3, 6), min_size=6, max_size=14), st.sampled_from([0.05, 0.05 / 2, 0.05 / 6]))
def test_the_interval_has_zero_inside_exactly_if_the_test_does_not_reject_it(differences, alpha):
    differences = np.array(differences, float)
    low, high = typical_interval(differences, alpha)
    if smallest_p(len(differences)) >= alpha:
        assert math.isnan(low)
        assert math.isnan(high)
    elif wilcoxon_p(differences) >= alpha:
        assert low <= 0 <= high
    else:
        assert not low < 0 < high  # zeros among the differences may leave it an end
    if not math.isnan(low):
        assert low <= typical_difference(differences) <= high


@settings(max_examples=30)
@given(st.lists(st.integers(-20, 20), min_size=6, max_size=12, unique=True), st.integers(-9, 9))
def test_the_interval_moves_and_turns_with_the_differences(differences, shift):
    differences = np.array(differences, float)
    low, high = typical_interval(differences)
    assert typical_interval(-differences) == (-high, -low)
    assert typical_interval(differences + shift) == (low + shift, high + shift)
