"""Verdicts: what they name, what they do not dare to say, and in how many words."""

import math
from dataclasses import replace

import pytest

from nnunetv2_gsp.comparison.comparison import AGAINST_BASELINE, compare
from nnunetv2_gsp.comparison.pairing import pair_folders
from nnunetv2_gsp.comparison.verdict import MOST_WORDS, verdict
from nnunetv2_gsp.metrics.definitions import DEFINITIONS, HD95
from tests.comparison.contenders import N_CASES, tumour, write_predictions
from tests.metrics.drawings import write


def against_one(comparison, name, **changes):
    """Return a comparison of two, with changes to the one test."""
    [tested] = [each for each in comparison.primary if (each.contender, each.family) == (name, AGAINST_BASELINE)]
    return replace(comparison, primary=[replace(tested, **changes)], identical={("poor", name): 0})


def test_the_verdict_says_who_is_better_by_how_much(comparison):
    words = verdict(against_one(comparison, "good", typical_difference=0.25, typical_interval=(0.2, 0.3), p_holm=0.004))
    assert words == (
        f"On {N_CASES} cases good is significantly better than poor: mean Dice over regions typically +0.2500 "
        f"(97.5 % interval +0.2000 to +0.3000, p = 0.004)."
    )


def test_no_difference_is_no_equality(comparison):
    words = verdict(against_one(comparison, "equal", confidence=0.95))
    assert words.startswith(f"On {N_CASES} cases no difference is shown between equal and poor: mean Dice over regions")
    assert words.endswith("; which does not show that they are equal.")


@pytest.mark.parametrize("name", ["good", "equal"])
def test_it_has_at_most_forty_words(comparison, name):
    assert len(verdict(against_one(comparison, name)).split()) <= MOST_WORDS == 40


def test_lower_is_worse_only_where_the_metric_says_so(comparison):
    endpoint = replace(comparison.endpoint, metric=HD95)
    words = verdict(replace(against_one(comparison, "good", leaning=-1), endpoint=endpoint))
    assert "good is significantly worse than poor: mean HD95 over regions typically" in words
    assert " mm (97.5 % interval " in words


def test_few_cases_cannot_show_anything_and_the_verdict_says_so(folders, tmp_path):
    for name, noise in (("gt", 0), ("poor", 0.5), ("good", 0.05)):
        write_predictions(tmp_path / name, noise, range(4))
    pairing = pair_folders([tmp_path / "poor", tmp_path / "good"], tmp_path / "gt")
    sentence = verdict(compare(pairing, DEFINITIONS["directed"], 1))
    assert "no difference is shown" in sentence
    assert sentence.endswith("(p = 0.125); so few cases could not show any.")  # 2 of the 2**4 combinations of signs


def test_several_are_sorted_by_what_is_known_of_them(comparison):
    different = {("poor", "good"): 0, ("poor", "equal"): N_CASES - 1}
    assert verdict(replace(comparison, identical=different)) == (
        f"On {N_CASES} cases, mean Dice over regions against poor: better: good; no difference is shown: equal "
        f"(Holm, p < 0.05)."
    )
    assert "better: good; identical predictions: equal (" in verdict(comparison)


def test_of_many_the_verdict_gives_numbers(comparison):
    names = [f"contender number {number}" for number in range(12)]
    primary = [replace(comparison.primary[0], contender=name, p=1, p_holm=1) for name in names]
    words = verdict(
        replace(comparison, primary=primary, identical=dict.fromkeys([("poor", name) for name in names], 0))
    )
    assert words.endswith("against poor: no difference is shown: 12 contenders (Holm, p < 0.05).")


def test_what_could_not_be_tested_is_no_comparison(comparison):
    words = verdict(against_one(comparison, "good", p=math.nan, p_holm=math.nan))
    assert words == (f"On {N_CASES} cases nothing could be tested between good and poor: no case has scores of both.")


def test_a_penalty_does_not_make_the_headline(tmp_path):
    """The mean is about +20 mm through one more missed lesion; 17 of 20 cases differ by 2 mm."""
    for case in range(20):
        mask = tumour(case) > 0
        far = mask[:, ::-1] & False
        predictions = {"gt": mask, "a": mask, "b": _moved(mask, 2)}
        if case == 0:
            predictions["a"] = far
        if case in (1, 2):
            predictions["b"] = far
        for name, labels in predictions.items():
            write(labels.astype("uint8"), tmp_path / name / f"c{case:02d}.nii.gz", (1.0, 1.0, 1.0))
    pairing = pair_folders([tmp_path / "a", tmp_path / "b"], tmp_path / "gt")
    result = compare(pairing, DEFINITIONS["directed"], 1, "HD95")
    [tested] = result.primary
    assert tested.mean_difference > 15
    assert tested.median_difference == tested.without_penalties.mean_difference == 2
    assert "b is significantly worse than a: mean HD95 over regions typically +2.00 mm (95 %" in verdict(result)


def _moved(mask, by):
    moved = mask.copy()
    moved[by:], moved[:by] = mask[:-by], False
    return moved
