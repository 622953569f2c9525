"""Verdicts: what they name, and what they do not dare to say."""

import math
import re
from dataclasses import replace

from nnunetv2_gsp.comparison.comparison import compare
from nnunetv2_gsp.comparison.pairing import pair_folders
from nnunetv2_gsp.comparison.verdict import verdict
from nnunetv2_gsp.metrics.definitions import DEFINITIONS
from tests.comparison.contenders import N_CASES, write_predictions


def test_the_verdict_names_what_is_significant_and_claims_no_equality(comparison):
    about_good, about_equal = re.split(r"(?<=\.) (?=On)", verdict(comparison))
    assert "good is significantly better in" in about_good
    assert "Dice of core (+0." in about_good
    assert "worse" not in about_good
    assert about_equal == (
        f"On {N_CASES} cases no difference between equal and poor is significant in any of 8 "
        f"comparisons (Wilcoxon's test, Holm's correction, p < 0.05), which does not show that they "
        f"are equal."
    )


def test_few_cases_cannot_show_anything_and_the_verdict_says_so(folders, tmp_path):
    for name, noise in (("gt", 0), ("poor", 0.5), ("good", 0.05)):
        write_predictions(tmp_path / name, noise, range(4))
    pairing = pair_folders([tmp_path / "poor", tmp_path / "good"], tmp_path / "gt")
    sentence = verdict(compare(pairing, DEFINITIONS["directed"], 1))
    assert "no difference" in sentence
    assert "with so few cases these tests could not show any" in sentence


def test_what_could_not_be_tested_is_no_comparison(comparison):
    untested = [
        replace(each, p=math.nan, p_holm=math.nan) if each.region == "core" else each for each in comparison.paired
    ]
    about_good, about_equal = re.split(r"(?<=\.) (?=On)", verdict(replace(comparison, paired=untested)))
    assert "of 4 comparisons with poor" in about_good
    assert "in any of 4 comparisons" in about_equal
    for sentence in (about_good, about_equal):
        assert sentence.endswith("; 4 more could not be tested, as no case has scores of both.")
