"""The demo's steps and what they leave, with a stand-in for nnU-Net's commands, which take minutes."""

import json
import logging
import os
import shutil
import zipfile
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunetv2_gsp import demo as demo_module
from nnunetv2_gsp.datasets.phantom import load_head
from nnunetv2_gsp.demo import CONFIGURATION, DATASET_NAME, FULL_SIZE, SMALL, Demo, _cut_down, run_demo
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.nnunet import FOLDERS
from nnunetv2_gsp.trainers import nnUNetTrainerGSP

PLANS = {
    "plans_name": "nnUNetPlans",
    "configurations": {
        CONFIGURATION: {
            "data_identifier": "nnUNetPlans_3d_fullres",
            "patch_size": [56, 64, 48],
            "architecture": {"arch_kwargs": {"n_stages": 3, "features_per_stage": [32, 64, 128]}},
        }
    },
}


@pytest.fixture
def demo(tmp_path) -> Demo:
    return Demo(tmp_path, "cpu", SMALL)


class PerfectNNUNet:
    """Leaves what nnU-Net's commands leave, where its variables say: predictions that are the references."""

    def __init__(self):
        self.commands = []

    def __call__(self, line):
        self.commands.append(line)
        raw, preprocessed, results = (Path(os.environ[name], DATASET_NAME) for name in FOLDERS)
        {"nnUNetv2_plan_and_preprocess": self.plan, "nnUNetv2_train": self.train, "nnUNetv2_predict": self.predict}[
            line[0]
        ](raw, preprocessed, results, line)

    def plan(self, raw, preprocessed, *_):
        shutil.copytree(raw / "labelsTr", preprocessed / "gt_segmentations")
        shutil.copy(raw / "dataset.json", preprocessed)
        (preprocessed / "nnUNetPlans.json").write_text(json.dumps(PLANS))
        [case, *_] = sorted(file.name.removesuffix(".nii.gz") for file in (raw / "labelsTr").iterdir())
        (preprocessed / "splits_final.json").write_text(json.dumps([{"train": [], "val": [case]}]))

    def train(self, raw, preprocessed, results, line):
        model = results / f"{line[line.index('-tr') + 1]}__{SMALL.plans}__{CONFIGURATION}"
        [fold] = json.loads((preprocessed / "splits_final.json").read_text())
        (model / "fold_0" / "validation").mkdir(parents=True)
        for case in fold["val"]:
            shutil.copy(raw / "labelsTr" / f"{case}.nii.gz", model / "fold_0" / "validation")
        shutil.copy(raw / "dataset.json", model)
        shutil.copy(preprocessed / f"{SMALL.plans}.json", model / "plans.json")
        (model / "fold_0" / "validation" / "summary.json").write_text("{}")

    def predict(self, raw, _, __, line):
        output = Path(line[line.index("-o") + 1])
        shutil.copytree(raw / "labelsTs", output)
        shutil.copy(raw / "dataset.json", output)


def write_page(model_folder, output):
    assert (model_folder / "plans.json").is_file()
    output.mkdir()
    (output / "index.html").touch()


@pytest.fixture(scope="module")
def nnunet():
    """Play nnU-Net's commands, on a setting of the least that a demo needs."""
    nnunet = PerfectNNUNet()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_module, "SMALL", replace(SMALL, n_training=2, n_held_out=2, spacing_mm=6.0))
        patch.setattr(demo_module, "n_processes", lambda: 1)  # to start others takes longer than the work
        patch.setattr(demo_module, "load_head", cache(load_head))
        patch.setattr(demo_module, "run_to_its_end", nnunet)
        patch.setattr(demo_module, "can_write_page", lambda: True)
        patch.setattr(demo_module, "write_page", write_page)
        yield nnunet


@pytest.fixture(scope="module")
def variables():
    return [os.environ.get(name) for name in FOLDERS]


@pytest.fixture(scope="module")
def finished(variables, nnunet, tmp_path_factory):
    """Run the demo to its end; returns where it lies, and the commands."""
    return run_demo(tmp_path_factory.mktemp("demo"), "cpu"), [command[0] for command in nnunet.commands]


@pytest.fixture
def again(nnunet, finished, tmp_path):
    """Return a function that runs a copy of the finished demo again, once something is changed in its folder."""
    folder = Path(shutil.copytree(finished[0].folder, tmp_path / "demo"))
    nnunet.commands.clear()

    def run(change):
        change(replace(finished[0], folder=folder))
        run_demo(folder, "cpu")
        return [command[0] for command in nnunet.commands]

    return run


def test_perfect_predictions_go_the_whole_way(finished, variables):
    demo, commands = finished
    assert commands == ["nnUNetv2_plan_and_preprocess", "nnUNetv2_train", "nnUNetv2_train", "nnUNetv2_predict"]
    scores = json.loads(demo.scores.read_text())["summary"]
    assert {region: figures["Dice"]["mean"] for region, figures in scores.items()} == {
        "whole_tumor": 1,
        "tumor_core": 1,
        "enhancing_tumor": 1,
    }
    with zipfile.ZipFile(demo.submission) as archive:
        assert sorted(archive.namelist()) == ["BraTS2021_00002.nii.gz", "BraTS2021_00003.nii.gz"]
    compared = demo.page.with_suffix(".md").read_text()
    assert demo.page.is_file()
    assert f"{SMALL.stock} and {SMALL.gsp}" in compared
    assert "are identical in 1 case" in compared
    assert sorted(folder.name for folder in demo.folder.iterdir()) == sorted(
        [
            "BraTS2021_phantom",
            *FOLDERS,
            "comparison",
            "evaluation",
            "predictions",
            "setting.json",
            "submission.zip",
            "web_page",
        ]
    )
    assert [os.environ.get(name) for name in FOLDERS] == variables


@pytest.mark.parametrize("can_be_made", [True, False])
def test_a_page_is_made_where_all_that_it_needs_is(can_be_made, again, tmp_path, monkeypatch):
    monkeypatch.setattr(demo_module, "can_write_page", lambda: can_be_made)
    again(lambda demo: shutil.rmtree(demo.web_page.parent))
    assert (tmp_path / "demo" / "web_page" / "index.html").exists() == can_be_made


def test_what_is_done_stays(again, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    assert again(lambda demo: None) == []
    assert caplog.text.count("done before") == 9
    assert "[10/10] Check the archive" in caplog.text
    assert before == {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}


def test_a_product_that_is_gone_is_made_again_alone(again):
    assert again(lambda demo: shutil.rmtree(demo.predictions)) == ["nnUNetv2_predict"]


def test_an_archive_that_breaks_the_rules_is_told(again):
    def add_notes(demo):
        with zipfile.ZipFile(demo.submission, "a") as archive:
            archive.writestr("notes.txt", "hello")

    with pytest.raises(InputError, match=r"expected an archive by the rules of brats2021, got .*notes\.txt"):
        again(add_notes)


def test_a_folder_that_can_not_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"a folder that can be written to, got one that cannot .*; change output"):
        run_demo(tmp_path / "file" / "demo", "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_device_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="Expected a cuda device, got none; torch finds cpu; change device"):
        run_demo(tmp_path / "demo", "cuda")
    assert not list(tmp_path.iterdir())


def test_a_folder_goes_on_with_its_own_setting_only(demo):
    demo.claim_folder()
    demo.claim_folder()
    with pytest.raises(InputError, match=f"{FULL_SIZE.stock} and {FULL_SIZE.gsp}, got a demo with other settings"):
        Demo(demo.folder, "cuda", FULL_SIZE).claim_folder()


@pytest.mark.parametrize(("file", "content"), [("predictions", b""), ("setting.json", b"{"), ("setting.json", b"\xff")])
def test_a_folder_that_holds_something_else_is_not_claimed(file, content, demo):
    (demo.folder / file).write_bytes(content)
    with pytest.raises(InputError, match=r"an empty folder or a demo, got a folder whose setting\.json is missing"):
        demo.claim_folder()
    assert [each.name for each in demo.folder.iterdir()] == [file]
    assert (demo.folder / file).read_bytes() == content


@pytest.fixture
def commands(monkeypatch):
    """Collect the commands of a demo instead of running them."""
    commands = []
    monkeypatch.setattr(demo_module, "run_to_its_end", commands.append)
    return commands


@pytest.mark.parametrize("checkpoints", [[], ["checkpoint_best.pth"]])
def test_an_interrupted_training_is_continued_and_a_new_one_is_not(demo, commands, checkpoints):
    (demo.preprocessed.parent / "nnUNetPlansSmall.json").parent.mkdir(parents=True)
    (demo.preprocessed.parent / "nnUNetPlansSmall.json").write_text("{}")
    fold = demo.validation(SMALL.gsp).parents[1]
    fold.mkdir(parents=True)
    for name in checkpoints:
        (fold / name).touch()
    for trainer in (SMALL.stock, SMALL.gsp):
        demo.train(trainer)
    assert [command[0] for command in commands] == ["nnUNetv2_train"] * 2
    assert ["--c" in command for command in commands] == [False, bool(checkpoints)]


def test_a_command_that_fails_leaves_no_product(demo, monkeypatch):
    def fail(line):
        Path(line[line.index("-o") + 1]).mkdir()
        raise InputError("nnUNetv2_predict to finish", "exit code 1")

    monkeypatch.setattr(demo_module, "run_to_its_end", fail)
    with pytest.raises(InputError):
        demo.predict()
    assert not demo.predictions.exists()


@pytest.mark.parametrize("setting", [SMALL, FULL_SIZE])
def test_stock_and_gsp_train_equally_long(setting):
    stock, gsp = map(recursive_find_trainer_class_by_name, (setting.stock, setting.gsp))
    assert gsp.__name__.removeprefix("nnUNetTrainerGSP") == stock.__name__.removeprefix("nnUNetTrainer")
    assert not issubclass(stock, nnUNetTrainerGSP)
    assert issubclass(gsp, nnUNetTrainerGSP)


def test_smaller_plans_change_the_patch_and_the_channels_and_nothing_else():
    before = deepcopy(PLANS)
    assert _cut_down(PLANS, "nnUNetPlansSmall") == {
        "plans_name": "nnUNetPlansSmall",
        "configurations": {
            "3d_fullres": {
                "data_identifier": "nnUNetPlans_3d_fullres",
                "patch_size": [24, 24, 24],
                "architecture": {"arch_kwargs": {"n_stages": 3, "features_per_stage": [16, 32, 64]}},
            }
        },
    }
    assert before == PLANS
