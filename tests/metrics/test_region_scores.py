"""Scores of regions: those of the challenges' own codes, from a table of what these give on generated cases."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from nnunetv2_gsp.metrics.definitions import DEFINITIONS
from nnunetv2_gsp.metrics.joined_lesions import find_lesions
from nnunetv2_gsp.metrics.lesion_rules import JoinedLesions, JoiningRules
from nnunetv2_gsp.metrics.region_scores import notes_on_lesions, score_region
from nnunetv2_gsp.metrics.scoring import score_both_empty
from tests.metrics.lesion_cases import fingerprint, generated

TABLE = json.loads(Path(__file__).with_name("official_scores.json").read_text())
FINGERPRINTS = TABLE.pop("cases")
GLIOMA = {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,), "NETC": (1,), "SNFH": (2,), "RC": (4,)}
PAEDIATRIC = {"WT": (1, 2, 3, 4), "TC": (1, 2, 3), "ET": (1,), "NETC": (2,), "CC": (3,), "ED": (4,)}
REGIONS = {"brats2024-ped": PAEDIATRIC, "brats2024-men-rt": {"GTV": (1,)}}


def case(seed, name):
    reference, prediction, spacing_mm = generated(seed)
    if "rt" in name.split("-"):
        reference, prediction = (np.where(labels == 1, 1, 0) for labels in (reference, prediction))
    return reference, prediction, spacing_mm


def takes_numbers_for_masks(region, definition, reference, prediction, spacing_mm):
    """Tell whether BraTS 2024's code computes HD95 from numbered lesions, which is right where there is one at most."""
    lesions = definition.lesions
    if not isinstance(lesions, JoinedLesions) or not lesions.rules.joins_prediction:
        return False
    return any(
        find_lesions(labels, region, lesions, spacing_mm, predicted=predicted).max() > 1
        for labels, predicted in ((reference, False), (prediction, True))
    )


def test_the_cases_are_those_of_the_table():
    assert {seed: fingerprint(int(seed)) for seed in FINGERPRINTS} == FINGERPRINTS


@pytest.mark.parametrize("name", TABLE)
def test_scores_are_those_of_the_official_code(name):
    definition, n_compared = DEFINITIONS[name], 0
    for seed, of_regions in TABLE[name].items():
        reference, prediction, spacing_mm = case(int(seed), name)
        for region_name, official in of_regions.items():
            region = REGIONS.get(name, GLIOMA)[region_name]
            scores = score_region(reference, prediction, region, spacing_mm, definition)
            if takes_numbers_for_masks(region, definition, reference, prediction, spacing_mm):
                del official["HD95"]
            for metric, expected in official.items():
                expected = math.nan if expected is None else 373 if math.isinf(expected) else expected
                assert scores[metric] == pytest.approx(expected, abs=1e-6, nan_ok=True), (seed, region_name, metric)
                n_compared += 1
    assert n_compared > 80


def test_the_table_has_false_missed_and_small_lesions():
    entries = [official for cases in TABLE.values() for regions in cases.values() for official in regions.values()]
    for kind in ("false lesions", "missed lesions"):
        assert sum(entry[kind] > 1 for entry in entries) > 30
    assert sum(entry["lesion-wise Dice"] is None for entry in entries) > 2


def test_every_definition_has_its_code_in_the_table_or_scores_no_lesions():
    with_lesions = {name for name, definition in DEFINITIONS.items() if definition.lesions}
    assert with_lesions == set(TABLE)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_region_that_nobody_has_scores_as_two_empty_masks(name):
    reference, prediction, spacing_mm = case(3, name)
    of_empty = score_region(reference, prediction, (9,), spacing_mm, DEFINITIONS[name])
    assert {key: str(float(score)) for key, score in of_empty.items() if key != "empty"} == {
        key: str(float(score)) for key, score in score_both_empty(DEFINITIONS[name]).items() if key != "empty"
    }


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("brats2023", "lesions of the reference that touch after 3 dilations count as one"),
        ("brats2024", "lesions that touch after 3 or 5 dilations count as one"),
        ("brats2024", "up to 10 or 20 voxels are dropped"),
        ("brats2024-men-rt", "up to 50 mm³ are dropped"),
        ("brats2025-met", "lesions from 20 mm³ on and the false ones"),
    ],
)
def test_the_notes_say_the_rules(name, words):
    assert words in notes_on_lesions(DEFINITIONS[name])[0]


def test_without_lesions_there_is_nothing_to_say_of_them():
    assert notes_on_lesions(DEFINITIONS["captk"]) == []


def test_of_two_others_the_first_in_a_nifti_array_joins_lesions():
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[0, 0:9, 8], labels[8, 0:9, 0] = 1, 1  # the second one comes first: it has the lower last index
    labels[0:9, 0, 4], labels[0, 0, 4:8], labels[8, 0, 1:5] = 3, 3, 3  # touches both
    labels[8, 8, 1], labels[0, 8, 9] = 3, 3  # touches the second, touches the first
    rules = JoiningRules(dilations=1, smallest_mm3=0)
    lesions = JoinedLesions(rules, {(3,): JoiningRules(dilations=1, smallest_mm3=0, joined_by=(1,))})
    numbers = find_lesions(labels, (3,), lesions, (1, 1, 1), predicted=False)
    assert numbers[0, 0, 4] == numbers[8, 8, 1] != numbers[0, 8, 9]
