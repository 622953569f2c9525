"""Pairings of trained models: what nnU-Net's files say, and what is refused."""

import json

import pytest
import torch

from nnunetv2_gsp.comparison.comparison import compare
from nnunetv2_gsp.comparison.costs import ModelCost
from nnunetv2_gsp.comparison.protocols import TrainingProtocol
from nnunetv2_gsp.comparison.trained_models import TrainedModel, read_trained_model
from nnunetv2_gsp.comparison.verdict import verdict
from nnunetv2_gsp.counting import count_architecture
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.metrics.definitions import DEFINITIONS
from tests.comparison.contenders import (
    ARCHITECTURE,
    CONFIGURATION,
    DATASET,
    EPOCH_S,
    LABELS,
    N_CASES,
    N_EPOCHS,
    paired_models,
    write_model,
)
from tests.metrics.drawings import write_dataset_json


def test_models_are_compared_on_their_validation(trained):
    pairing = paired_models()
    assert [contender.name for contender in pairing.contenders] == ["nnUNetTrainer", "nnUNetTrainerGSP"]
    assert pairing.folds["case_03"] == "0"
    assert pairing.folds["case_09"] == "1"
    result = compare(pairing, DEFINITIONS["directed"], 1)
    assert result.caveats == []
    assert "nnUNetTrainerGSP is significantly better" in verdict(result)


def test_costs_are_what_nnunets_files_say(trained):
    model = trained / "results" / DATASET / f"nnUNetTrainer__nnUNetPlans__{CONFIGURATION}"
    read = read_trained_model(model, CONFIGURATION, ["0", "1"])
    assert read.cost == ModelCost(
        *count_architecture(ARCHITECTURE, [8, 16, 16], 1, 2),
        EPOCH_S,
        3.0,
        None,
        (model / "fold_0" / "checkpoint_final.pth").stat().st_size,
    )
    assert read.protocol == TrainingProtocol((8, 16, 16), 2, (N_EPOCHS, N_EPOCHS), (0.01, 0.01), ("cpu",))
    assert [each.fold for each in read.curves] == ["0", "1"]
    assert read.curves[0].pseudo_dice == pytest.approx([0, 0.1, 0.2, 0.3])


def test_macs_are_blank_where_the_checkpoint_holds_another_network(trained):
    model = write_model(trained / "results", "nnUNetTrainerOwnNetwork", 0, [range(1)])
    checkpoint = torch.load(model / "fold_0" / "checkpoint_final.pth", weights_only=False)
    checkpoint["network_weights"].update(more=torch.ones(5), **{"norm.running_mean": torch.ones(3)})
    torch.save(checkpoint, model / "fold_0" / "checkpoint_final.pth")
    cost = read_trained_model(model, CONFIGURATION, ["0"]).cost
    assert cost.macs is None
    assert cost.parameters == count_architecture(ARCHITECTURE, [8, 16, 16], 1, 2)[0] + 5


def test_what_nobody_logged_is_blank(trained):
    model = trained / "results" / DATASET / f"nnUNetTrainer__nnUNetPlans__{CONFIGURATION}"
    for fold in ("fold_0", "fold_1"):
        for file in ("checkpoint_final.pth", "training_log_2026_1_1_00_00_00.txt", "debug.json"):
            (model / fold / file).unlink()
    assert read_trained_model(model, CONFIGURATION, ["0", "1"]) == TrainedModel(
        ModelCost(), TrainingProtocol((8, 16, 16), 2, None, None), []
    )


@pytest.mark.parametrize("logging", [None, {}, {"train_losses": None, "val_losses": ["?"]}])
def test_odd_files_leave_blanks(logging, trained):
    model = trained / "results" / DATASET / f"nnUNetTrainer__nnUNetPlans__{CONFIGURATION}"
    folder = model / "fold_0"
    checkpoint = torch.load(folder / "checkpoint_final.pth", weights_only=False)
    torch.save({**checkpoint, "logging": logging}, folder / "checkpoint_final.pth")
    (folder / "debug.json").write_text("[]")
    (folder / "training_log_2026_1_1_00_00_00.txt").write_text(
        "2026-99-01 00:00:00: predicting a\n2026-99-01 00:00:01: predicting b\nGPU memory: ... GB, 1.2.3 GB\n"
    )
    (model / "dataset.json").write_text("{no json")
    plans = json.loads((model / "plans.json").read_text())
    plans["configurations"][CONFIGURATION] = {"architecture": ARCHITECTURE}
    (model / "plans.json").write_text(json.dumps(plans))
    read = read_trained_model(model, CONFIGURATION, ["0"])
    assert (read.cost.macs, read.cost.epoch_s, read.cost.prediction_s) == (None, None, None)
    assert read.cost.parameters > 0
    assert read.protocol == TrainingProtocol()
    assert read.curves == []


@pytest.mark.parametrize("content", ["[]", "{no json", "{}"])
def test_what_are_no_plans_is_refused(content, trained):
    model = trained / "results" / DATASET / f"nnUNetTrainer__nnUNetPlans__{CONFIGURATION}"
    (model / "plans.json").write_text(content)
    with pytest.raises(InputError, match=r"plans\.json: expected plans with the configuration 3d_fullres"):
        read_trained_model(model, CONFIGURATION, ["0"])


def test_models_of_other_regions_are_refused(trained):
    model = trained / "results" / DATASET / f"nnUNetTrainerGSP__nnUNetPlans__{CONFIGURATION}"
    write_dataset_json(model, {**LABELS, "ignore": 3})
    with pytest.raises(InputError, match=r"nnUNetTrainer__.*, but .*ignore 3 in the .*nnUNetTrainerGSP__"):
        paired_models()


def test_validation_of_other_cases_is_refused(trained):
    folder = trained / "results" / DATASET / f"nnUNetTrainerGSP__nnUNetPlans__{CONFIGURATION}" / "fold_1" / "validation"
    (folder / "case_07.nii.gz").rename(folder / "case_00.nii.gz")
    with pytest.raises(InputError, match=r"nnUNetTrainerGSP.*lacks case_07 and has besides case_00"):
        paired_models()


def test_a_missing_reference_is_refused(trained):
    (trained / "preprocessed" / DATASET / "gt_segmentations" / "case_07.nii.gz").unlink()
    with pytest.raises(InputError, match=r"gt_segmentations: expected references .*, got none of case_07; copy what"):
        paired_models()


@pytest.mark.parametrize("content", ["{no json", None])
def test_a_model_without_labels_is_refused(content, trained):
    file = trained / "results" / DATASET / f"nnUNetTrainer__nnUNetPlans__{CONFIGURATION}" / "dataset.json"
    file.unlink()
    if content is not None:
        file.write_text(content)
    with pytest.raises(InputError, match=r"nnUNetTrainer__.*dataset\.json.*; (mend it|put it there)\.$"):
        paired_models()


def test_folder_variables_that_are_empty_are_not_set(trained, monkeypatch, tmp_path):
    (tmp_path / DATASET / "imagesTr").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("nnUNet_raw", "")
    assert paired_models().images is None
    monkeypatch.setenv("nnUNet_results", "")
    with pytest.raises(InputError, match="nnUNet_results to name a folder, got none"):
        paired_models()


@pytest.mark.parametrize(
    ("choices", "match"),
    [
        ({"trainers": ("nnUNetTrainer", "nnUNetTrainerNone")}, "nnUNetTrainerNone__.*: expected a trained model"),
        ({"folds": ("0", "2")}, r"splits_final.json: expected a split with the folds 0, 2, .*; change folds\."),
        ({"folds": ("all", "0")}, "fold all alone, .* got all, 0; change folds"),
        ({"folds": ("all",)}, "fold_all.*: expected the validation of fold all"),
        ({"plans_names": ("a", "b", "c")}, "one for each of 2, got 3; change plans_names"),
        ({"plans_names": ("nnUNetPlans", "nnUNetOther")}, "nnUNetOther__.*: expected a trained model"),
        ({"trainers": ("nnUNetTrainer",)}, "two or more"),
    ],
)
def test_what_was_not_trained_is_refused(choices, match, trained):
    with pytest.raises(InputError, match=match):
        paired_models(**choices)


def test_folds_that_validate_the_same_case_are_refused(trained):
    splits = trained / "preprocessed" / DATASET / "splits_final.json"
    folds = json.loads(splits.read_text())
    folds[1]["val"].append(folds[0]["val"][3])
    splits.write_text(json.dumps(folds))
    with pytest.raises(InputError, match=r"each case once, got several predictions of case_03; .*fold by fold"):
        paired_models()


def test_plans_that_differ_stand_in_the_names(trained):
    results = trained / "results" / DATASET
    (results / f"nnUNetTrainerGSP__nnUNetPlans__{CONFIGURATION}").rename(
        results / f"nnUNetTrainer__nnUNetOther__{CONFIGURATION}"
    )
    pairing = paired_models(["nnUNetTrainer"] * 2, plans_names=["nnUNetPlans", "nnUNetOther"])
    assert [contender.name for contender in pairing.contenders] == [
        "nnUNetTrainer, nnUNetPlans",
        "nnUNetTrainer, nnUNetOther",
    ]


def test_folds_are_listed_by_case(trained):
    assert list(paired_models().folds) == [f"case_{case:02d}" for case in range(N_CASES)]
