import json
from copy import deepcopy

import matplotlib.image
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from matplotlib.colors import to_rgb

from nnunetv2_gsp.demo import FULL_SIZE, PREDICTION_LINE, REFERENCE_LINE, SMALL, Demo, _cut_down, run_demo
from nnunetv2_gsp.errors import InputError


@pytest.fixture
def demo(tmp_path) -> Demo:
    return Demo(tmp_path, "cpu", SMALL)


def test_a_folder_that_can_not_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="choose another with -o"):
        run_demo(tmp_path / "file" / "demo", "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_device_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="run with -device cpu"):
        run_demo(tmp_path / "demo", "cuda")
    assert not list(tmp_path.iterdir())


def test_a_folder_goes_on_with_its_own_setting_only(demo):
    demo.claim_folder()
    demo.claim_folder()
    with pytest.raises(InputError, match=f"{FULL_SIZE.trainer}, but .* holds one with {SMALL.trainer}"):
        Demo(demo.folder, "cuda", FULL_SIZE).claim_folder()


@pytest.mark.parametrize("checkpoints", [[], ["checkpoint_best.pth"]])
def test_an_interrupted_training_is_continued_and_a_new_one_is_not(demo, monkeypatch, checkpoints):
    (demo.preprocessed.parent / "nnUNetPlansSmall.json").parent.mkdir(parents=True)
    (demo.preprocessed.parent / "nnUNetPlansSmall.json").write_text("{}")
    demo.fold.mkdir(parents=True)
    for name in checkpoints:
        (demo.fold / name).touch()
    commands = []
    monkeypatch.setattr(Demo, "_run", lambda _, *command: commands.append(command))
    demo.train()
    [command] = commands
    assert command[0] == "nnUNetv2_train"
    assert ("--c" in command) == bool(checkpoints)


def test_a_command_that_fails_leaves_no_product(demo):
    with pytest.raises(InputError, match="nnUNetv2_evaluate_folder was expected to finish"):
        demo.evaluate()
    assert not demo.summary.exists()


def test_smaller_plans_change_the_patch_and_the_channels_and_nothing_else():
    plans = {"plans_name": "nnUNetPlans", "configurations": {"3d_fullres": {
        "data_identifier": "nnUNetPlans_3d_fullres", "patch_size": [56, 64, 48],
        "architecture": {"arch_kwargs": {"n_stages": 3, "features_per_stage": [32, 64, 128]}}}}}
    before = deepcopy(plans)
    assert _cut_down(plans, "nnUNetPlansSmall") == {
        "plans_name": "nnUNetPlansSmall", "configurations": {"3d_fullres": {
            "data_identifier": "nnUNetPlans_3d_fullres", "patch_size": [32, 32, 32],
            "architecture": {"arch_kwargs": {"n_stages": 3, "features_per_stage": [16, 32, 64]}}}}}
    assert plans == before


def test_the_table_counts_shared_weights_once_and_no_settings(demo):
    demo.fold.mkdir(parents=True)
    weight = torch.zeros(3, 5)
    torch.save({"network_weights": {"conv": weight, "all_modules.0": weight, "bias": torch.zeros(7),
                                    "settings": torch.zeros(100, dtype=torch.int64)},
                "logging": {"epoch_start_timestamps": [0.0, 10.0, 30.0], "epoch_end_timestamps": [9.0, 25.5, 130.0]}},
               demo.fold / "checkpoint_final.pth")
    dice = [{"(1, 2, 3)": 0.9, "(1, 3)": 0.8, "(3,)": 0.75}, {"(1, 2, 3)": 0.7, "(1, 3)": 0.6, "(3,)": 0.25}]
    demo.summary.write_text(json.dumps({"metric_per_case": [
        {"metrics": {region: {"Dice": value} for region, value in case.items()}} for case in dice]}))

    rows = [line.split() for line in demo.table().splitlines()]
    assert ["parameters", "22"] in rows
    assert ["epoch", "time", "(cpu)", "15.5", "s"] in rows
    assert ["Dice", "whole_tumor", "0.800", "(0.700", "to", "0.900,", "2", "cases)"] in rows
    assert ["Dice", "tumor_core", "0.700", "(0.600", "to", "0.800,", "2", "cases)"] in rows
    assert ["Dice", "enhancing_tumor", "0.500", "(0.250", "to", "0.750,", "2", "cases)"] in rows


def test_the_picture_outlines_reference_and_prediction(demo):
    segmentation = np.zeros((6, 20, 20), np.uint8)
    segmentation[2:5, 5:12, 5:12] = 2
    for folder, voxels in [(demo.dataset / "labelsTs", segmentation),
                           (demo.predictions, np.roll(segmentation, 3, axis=2)),
                           *[(demo.dataset / "imagesTs", np.full((6, 20, 20), 100, np.int16))] * 4]:
        folder.mkdir(parents=True, exist_ok=True)
        suffix = f"_{len(list(folder.iterdir())):04d}" if folder.name == "imagesTs" else ""
        sitk.WriteImage(sitk.GetImageFromArray(voxels), folder / f"BraTS2021_00015{suffix}.nii.gz")
    demo.draw()

    picture = matplotlib.image.imread(demo.picture)[..., :3]
    for line in (REFERENCE_LINE, PREDICTION_LINE):
        close = np.abs(picture - to_rgb(line["color"])).max(axis=-1) < 0.05
        n_columns_with_colour = sum(close[:, part].sum() > 50 for part in np.array_split(np.arange(close.shape[1]), 4))
        assert n_columns_with_colour == 4
