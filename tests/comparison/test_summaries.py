"""Summaries: spread against scipy, ranks and groups of cases by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nnunetv2_gsp.comparison.comparison import compare
from nnunetv2_gsp.comparison.pairing import pair_folders
from nnunetv2_gsp.comparison.summaries import by_volume, ranks, spread, spread_without_penalties, volume_agreement
from nnunetv2_gsp.metrics.definitions import DEFINITIONS
from tests.comparison.contenders import N_CASES, tumour, write_predictions
from tests.metrics.drawings import write

NAN = math.nan


def with_values(comparison, region, name, **values):
    """Replace one entry of the scores of contenders in a region, case by case; the last value for all that follow."""
    scores = dict(comparison.scores)
    for contender, of_cases in values.items():
        entries = [dict(entry) for entry in scores[contender]]
        for number, entry in enumerate(entry for entry in entries if entry["region"] == region):
            entry[name] = of_cases[min(number, len(of_cases) - 1)]
        scores[contender] = entries
    return replace(comparison, scores=scores)


@settings(max_examples=30)
@given(st.lists(st.floats(-1e3, 1e3) | st.just(NAN), max_size=12))
def test_spread_is_scipys(scores):
    found = spread(scores)
    there = [score for score in scores if not math.isnan(score)]
    assert found.n == len(there)
    if not there:
        assert all(math.isnan(value) for value in list(vars(found).values())[1:])
        return
    assert found.mean == pytest.approx(stats.tmean(there), abs=1e-9)
    assert (found.minimum, found.maximum) == (min(there), max(there))
    assert (found.q1, found.median, found.q3) == pytest.approx(stats.mstats.mquantiles(there, alphap=1, betap=1))
    if len(there) > 1:
        assert found.sd == pytest.approx(stats.tstd(there), abs=1e-9)
    else:
        assert math.isnan(found.sd)


def test_ranks_by_hand(comparison):
    known = comparison
    for region in comparison.regions:
        known = with_values(
            known, region, "Dice", poor=[0.1, 0.2, 0.3, NAN], good=[0.3, 0.2, 0.1], equal=[0.2, 0.2, 0.2]
        )
        known = with_values(known, region, "HD95", poor=[1.0, 3.0], good=[2.0], equal=[3.0, 1.0])
    found = ranks(known)
    # three cases with Dice of all: 3, 2 and 1; 1, 2 and 3; 2, 2 and 2
    assert [found[name].primary for name in ("poor", "good", "equal")] == [2, 2, 2]
    assert [found[name].n_first for name in ("poor", "good", "equal")] == [2, 2, 1]
    n_others = N_CASES - 1
    assert found["poor"].overall == pytest.approx((3 + 2 + 1 + 1 + 3 * n_others) / (3 + N_CASES))
    assert found["equal"].overall == pytest.approx((2 + 2 + 2 + 3 + 1 * n_others) / (3 + N_CASES))


def test_without_scores_of_all_there_are_no_ranks(comparison):
    known = comparison
    for region in comparison.regions:
        known = with_values(known, region, "Dice", poor=[NAN])
    assert math.isnan(ranks(known)["good"].primary)
    assert ranks(known)["good"].n_first == 0


def test_cases_are_grouped_by_the_volume_of_their_reference(comparison):
    volumes = [0.0, 50.0, 10.0, 30.0, 20.0, 60.0, 40.0, 70.0, 0.0]
    known = with_values(comparison, "core", "reference_mm3", poor=volumes)
    [empty, smallest, middle, largest] = by_volume(known, "core")
    assert empty == ("empty", [0, *range(8, N_CASES)])
    assert smallest == ("smallest third", [2, 4, 3])
    assert middle == ("middle third", [6, 1])
    assert largest == ("largest third", [5, 7])
    few = with_values(comparison, "core", "reference_mm3", poor=[5.0, 3.0, 0.0])
    assert by_volume(few, "core")[1] == ("not empty", [1, 0])


def test_limits_of_agreement_are_nearly_two_standard_deviations_from_the_bias(comparison):
    found = volume_agreement(comparison, "poor", "core")
    reference, prediction = ([2e-3 * (mask == 2).sum() for mask in masks] for masks in _masks(0.5))
    differences = np.subtract(prediction, reference)
    limits = [differences.mean() + sign * 1.96 * differences.std(ddof=1) for sign in (-1, 1)]
    assert (found.n, found.bias) == (N_CASES, pytest.approx(differences.mean()))
    assert (found.low, found.high) == pytest.approx(tuple(limits))


def test_without_penalties_the_spread_is_that_of_the_other_cases(folders, tmp_path):
    write_predictions(tmp_path / "empty", 0.5)
    for case in (3, 5):
        write(0 * tumour(case), tmp_path / "empty" / f"case_{case:02d}.nii.gz", (2.0, 1.0, 1.0))
    result = compare(pair_folders([folders / "good", tmp_path / "empty"], folders / "gt"), DEFINITIONS["directed"], 1)
    assert spread(result.scores_of("empty", "core", "HD95")).maximum == 374
    without = spread_without_penalties(result, "empty", "core", "HD95")
    assert without.n == N_CASES - 2
    assert without.maximum < 30


def _masks(noise):
    return [tumour(case) for case in range(N_CASES)], [tumour(case, noise) for case in range(N_CASES)]
