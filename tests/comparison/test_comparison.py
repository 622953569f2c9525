"""Comparisons: what is tested, counted and ranked on the same cases."""

import numpy as np
import pytest

from nnunetv2_gsp.comparison.comparison import Comparison, compare
from nnunetv2_gsp.comparison.pairing import pair_folders
from nnunetv2_gsp.metrics.definitions import DEFINITIONS
from tests.comparison.contenders import (
    CONFIGURATION,
    DATASET,
    N_CASES,
    paired_models,
    tumour,
    write_model,
    write_predictions,
)
from tests.metrics.drawings import write


def test_each_contender_is_tested_against_the_first(comparison):
    assert [(each.contender, each.region, each.metric) for each in comparison.paired[:5]] == [
        ("good", "whole <tumor>", "Dice"),
        ("good", "whole <tumor>", "HD95"),
        ("good", "whole <tumor>", "NSD at 1 mm"),
        ("good", "whole <tumor>", "ABD"),
        ("good", "core", "Dice"),
    ]
    assert len(comparison.paired) == 2 * 2 * 4
    assert {each.baseline for each in comparison.paired} == {"poor"}
    assert all(each.n == N_CASES for each in comparison.paired)


def test_penalty_cases_are_counted(folders, tmp_path):
    write_predictions(tmp_path / "empty", 0.5)
    for case in (3, 5):
        write(0 * tumour(case), tmp_path / "empty" / f"case_{case:02d}.nii.gz", (2.0, 1.0, 1.0))
    pairing = pair_folders([folders / "good", tmp_path / "empty"], folders / "gt")
    by_definition = {name: compare(pairing, DEFINITIONS[name], 1).paired[1] for name in ("directed", "nnunet")}
    assert (by_definition["directed"].baseline_penalties, by_definition["directed"].contender_penalties) == (0, 2)
    assert by_definition["directed"].contender_mean > 2 * 374 / N_CASES
    # left out, so the pairs are dropped, and counted
    assert (by_definition["nnunet"].n, by_definition["nnunet"].dropped) == (N_CASES - 2, 2)


def test_a_prediction_beside_the_tumour_is_a_penalty_where_the_definition_asks_for_overlap(folders, tmp_path):
    write_predictions(tmp_path / "beside", 0.5)
    around = (tumour(3) == 0).astype(np.uint8)
    write(around, tmp_path / "beside" / "case_03.nii.gz", (2.0, 1.0, 1.0))
    pairing = pair_folders([folders / "good", tmp_path / "beside"], folders / "gt")
    counts = {
        name: compare(pairing, DEFINITIONS[name], 1).paired[0].contender_penalties for name in ("captk", "brats2025")
    }
    assert counts == {"captk": 0, "brats2025": 1}


def test_cases_are_ranked_from_the_worst_on(comparison):
    dice = {
        case: np.mean([row["Dice"] for rows in comparison.scores.values() for row in rows if row["case"] == case])
        for case in comparison.cases
    }
    assert comparison.ranked_cases() == sorted(dice, key=dice.get)


def test_the_cases_that_separate_come_first(comparison):
    dice = {
        case: [np.mean([row["Dice"] for row in rows if row["case"] == case]) for rows in comparison.scores.values()]
        for case in comparison.cases
    }
    ranges = {case: max(each) - min(each) for case, each in dice.items()}
    assert comparison.separating_cases() == sorted(ranges, key=ranges.get, reverse=True)


def test_a_metric_is_a_family_of_all_regions_and_contenders(comparison):
    assert {each.family for each in comparison.paired if each.metric == "HD95"} == {"HD95 by region"}
    for metric in comparison.metrics:
        of_metric = [each for each in comparison.paired if each.metric == metric.name]
        smallest = min(of_metric, key=lambda each: each.p)
        assert smallest.p_holm == pytest.approx(min(1, smallest.p * 2 * 2))
    assert "For each metric the tests of all regions against poor are a family" in " ".join(comparison.notes)


def test_the_worst_cases_have_the_largest_distances(folders):
    pairing = pair_folders([folders / "poor", folders / "good"], folders / "gt")
    result = compare(pairing, DEFINITIONS["directed"], 1, "HD95:core")
    means = np.mean([result.scores_of(name, "core", "HD95") for name in ("poor", "good")], axis=0)
    assert means[[result.cases.index(case) for case in result.ranked_cases()]].tolist() == sorted(means, reverse=True)


def test_a_label_that_one_contender_invents_is_empty_in_the_others(tmp_path):
    for name in ("gt", "a", "b"):
        for case in range(2):
            labels = tumour(case)
            if name == "b":
                labels[0, 0, 0] = 5
            write(labels, tmp_path / name / f"c{case}.nii.gz")
    result = compare(pair_folders([tmp_path / "a", tmp_path / "b"], tmp_path / "gt"), DEFINITIONS["directed"], 1)
    assert result.regions == ["1", "2", "5"]
    assert result.scores_of("a", "5", "empty") == ["both"] * 2
    assert result.scores_of("b", "5", "empty") == ["reference"] * 2
    assert result.scores_of("a", "5", "Dice") == [1, 1]


def test_an_unknown_length_of_training_is_stated(comparison, trained):
    for fold in ("fold_0", "fold_1"):
        (
            trained
            / "results"
            / DATASET
            / f"nnUNetTrainerGSP__nnUNetPlans__{CONFIGURATION}"
            / fold
            / "checkpoint_final.pth"
        ).unlink()
    pairing = paired_models(folds=("0", "0", "1"))
    assert pairing.title.endswith("folds 0, 1")
    assert Comparison(pairing, comparison.definition, {}, []).caveats == [
        "How long nnUNetTrainerGSP was trained is not known."
    ]
    assert comparison.caveats == []  # of folders nothing is known


def test_trained_on_the_cases_they_are_compared_on(comparison, trained):
    for trainer in ("nnUNetTrainer", "nnUNetTrainerGSP"):
        model = trained / "results" / DATASET / f"{trainer}__nnUNetPlans__{CONFIGURATION}"
        (model / "fold_0").rename(model / "fold_all")
        write_predictions(model / "fold_all" / "validation", 0)
    [caveat] = Comparison(paired_models(folds=("all",)), comparison.definition, {}, []).caveats
    assert caveat == "All were trained on these very cases (fold all), so this says nothing about new ones."


def test_other_training_is_a_caveat(trained):
    write_model(trained / "results", "nnUNetTrainer_long", 0.05, [range(7), range(7, N_CASES)], 4, 8, 0.03)
    pairing = paired_models(["nnUNetTrainer", "nnUNetTrainer_long"])
    assert Comparison(pairing, DEFINITIONS["directed"], {}, []).caveats == [
        "Trained with different batch sizes: nnUNetTrainer 2, nnUNetTrainer_long 4.",
        "Trained for different numbers of epochs: nnUNetTrainer 4, nnUNetTrainer_long 8.",
        "Trained at different learning rates: nnUNetTrainer 0.01, nnUNetTrainer_long 0.03.",
        "So a difference between them is not due to the network alone.",
    ]
