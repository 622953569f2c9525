"""A real teacher and a real student, with every kind of label; what the student leaves needs no teacher."""

import json
import shutil

import pytest
import torch
from nnunetv2.run.run_training import get_trainer_from_args, run_training

from nnunetv2_gsp.trainers.distillation import Teacher
from nnunetv2_gsp.trainers.nnUNetTrainerGSPDistill import TEACHER_VARIABLE
from tests.contract.conftest import CPU, ID, TRAINER, plan, predictor_of
from tests.contract.generated import write_dataset, write_two_folds

STUDENT = "nnUNetTrainerGSPDistillFewIterations"
STOCK = "nnUNetTrainerFewIterations"


def train(dataset_id, trainer, **options):
    run_training(str(dataset_id), "3d_fullres", 0, trainer, device=CPU, **options)


def without_its_teacher(student, dataset_id):
    """Predict and validate again; return the weights."""
    predictor_of(student)
    train(dataset_id, STUDENT, only_run_validation=True)
    checkpoint = torch.load(student / "fold_0" / "checkpoint_final.pth", weights_only=False)
    return checkpoint["network_weights"]


def test_a_student_learns_from_a_model_and_does_not_keep_it(model_folder, monkeypatch):
    monkeypatch.setenv(TEACHER_VARIABLE, str(model_folder))
    train(ID, STUDENT)
    monkeypatch.delenv(TEACHER_VARIABLE)
    student = model_folder.with_name(model_folder.name.replace(TRAINER, STUDENT))
    [log] = student.glob("fold_0/training_log_*.txt")
    assert f"Teacher: {model_folder}" in log.read_text()
    teacher = torch.load(model_folder / "fold_0" / "checkpoint_final.pth", weights_only=False)["network_weights"]
    assert without_its_teacher(student, ID).keys() == teacher.keys()


def test_regions_with_voxels_to_ignore_and_stock_s_network_as_teacher(nnunet_folders, monkeypatch):
    dataset, number = "Dataset917_Taught", 917
    write_dataset(nnunet_folders / "nnUNet_raw", dataset, "regions and ignore", 2, ".nii.gz", "isotropic")
    plan(number, ["3d_fullres"])
    preprocessed = nnunet_folders / "nnUNet_preprocessed" / dataset
    write_two_folds(preprocessed)
    train(number, STOCK)
    results = nnunet_folders / "nnUNet_results" / dataset
    plans = json.loads((preprocessed / "nnUNetPlans.json").read_text())
    plans["configurations"]["3d_fullres"]["teacher"] = str(results / f"{STOCK}__nnUNetPlans__3d_fullres" / "fold_0")
    (preprocessed / "nnUNetPlans.json").write_text(json.dumps(plans))
    train(number, STUDENT)
    shutil.rmtree(results / f"{STOCK}__nnUNetPlans__3d_fullres")
    without_its_teacher(results / f"{STUDENT}__nnUNetPlans__3d_fullres", number)


def test_the_lesson_of_a_step_is_the_teacher_s_probabilities(model_folder, monkeypatch):
    """The step's loss is nnU-Net's plus what the teacher's own network says to the same images."""
    monkeypatch.setenv(TEACHER_VARIABLE, str(model_folder / "fold_0"))
    trainer = trainer_of_student()
    trainer.initialize()
    seen = []
    monkeypatch.setattr(trainer.loss, "forward", lambda logits, _: seen.append(trainer.loss.lesson) or logits[0].sum())
    monkeypatch.setattr("nnunetv2.training.nnUNetTrainer.nnUNetTrainer.nnUNetTrainer.run_training", lambda _: None)
    trainer.run_training()  # up to where nnU-Net's begins
    images = torch.randn(2, 2, *trainer.configuration_manager.patch_size)
    trainer.train_step({"data": images, "target": [torch.zeros(1)]})
    assert trainer.loss.lesson is None
    network = predictor_of(model_folder).network.eval()
    with torch.no_grad():
        torch.testing.assert_close(seen, [network(images).softmax(1)])


def trainer_of_student():
    return get_trainer_from_args(str(ID), "3d_fullres", 0, STUDENT, "nnUNetPlans", device=CPU)


def refusal_of(teacher, monkeypatch):
    monkeypatch.setenv(TEACHER_VARIABLE, str(teacher))
    trainer = trainer_of_student()
    trainer.initialize()
    with pytest.raises(ValueError, match="Expected a teacher") as refusal:
        trainer.run_training()
    return str(refusal.value)


@pytest.mark.parametrize(
    ("file", "old", "new", "sentence"),
    [
        ("dataset.json", '"rim"', '"ring"', "whose labels is"),
        ("dataset.json", '"MR1"', '"CT"', "whose channel_names is ['MR0', 'MR1'], got ['MR0', 'CT']"),
        ("plans.json", '"ZScoreNormalization"', '"RescaleTo01Normalization"', "whose normalization is"),
    ],
)
def test_a_teacher_of_something_else_is_refused(file, old, new, sentence, model_folder, tmp_path, monkeypatch):
    teacher = tmp_path / model_folder.name
    shutil.copytree(model_folder, teacher)
    text = (teacher / file).read_text()
    assert old in text
    (teacher / file).write_text(text.replace(old, new))
    assert sentence in refusal_of(teacher, monkeypatch)


@pytest.mark.parametrize(
    ("entry", "change", "sentence"),
    [
        ("spacing", lambda spacing: [2 * each for each in spacing], "whose spacing is"),
        ("use_mask_for_norm", lambda masked: [not each for each in masked], "whose normalization is"),
        ("patch_size", lambda patch: [2 * each for each in patch], "that takes patches of"),
    ],
)
def test_a_teacher_for_another_grid_or_mask_is_refused(entry, change, sentence, model_folder, tmp_path, monkeypatch):
    teacher = tmp_path / model_folder.name
    shutil.copytree(model_folder, teacher)
    plans = json.loads((teacher / "plans.json").read_text())
    configuration = plans["configurations"]["3d_fullres"]
    configuration[entry] = change(configuration[entry])
    (teacher / "plans.json").write_text(json.dumps(plans))
    assert sentence in refusal_of(teacher, monkeypatch)


def test_the_folds_that_prediction_averages_teach(model_folder, tmp_path):
    teacher = tmp_path / model_folder.name
    shutil.copytree(model_folder, teacher)
    for other in ("fold_all", "fold_0_old"):
        shutil.copytree(teacher / "fold_0", teacher / other)
    assert len(Teacher(teacher, CPU)._networks) == len(Teacher(teacher / "fold_all", CPU)._networks) == 1


def test_no_teacher_is_refused(model_folder, tmp_path, monkeypatch):
    assert f"got none: export {TEACHER_VARIABLE}=" in refusal_of("", monkeypatch)
    assert "with plans.json and dataset.json, got" in refusal_of(tmp_path / "nothing", monkeypatch)
    unfinished = tmp_path / model_folder.name
    shutil.copytree(model_folder, unfinished, ignore=shutil.ignore_patterns("checkpoint_final.pth"))
    assert "got no checkpoint_final.pth in" in refusal_of(unfinished, monkeypatch)
