"""Model folders as nnU-Net leaves them when training ends, and what stands in their files."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunetv2_gsp.trainers import nnUNetTrainerGSP

DATASET = "Dataset902_Shared"
CPU = torch.device("cpu")
WEIGHTS = "fold_0/checkpoint.safetensors"
ARCHITECTURE = ("configurations", "3d_fullres", "architecture")
MB = 1_000_000


def dataset_json():
    return {
        "channel_names": {"0": "MR"},
        "labels": {"background": 0, "inner": 1, "outer": 2},
        "numTraining": 1,
        "file_ending": ".nii.gz",
        "licence": "CC-BY",
        "dataset": {"case": {"images": ["/home/somebody/case_0000.nii.gz"], "label": "/home/somebody/case.nii.gz"}},
    }


def plans_of(architecture, patch_size):
    """Return plans as nnU-Net's planner writes them."""
    resampling = {
        f"resampling_fn_{data}{kwargs}": {} if kwargs else "resample_data_or_seg_to_shape"
        for data in ("data", "seg", "probabilities")
        for kwargs in ("", "_kwargs")
    }
    n_axes = len(patch_size)
    basis = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(patch_size),
        "median_image_size_in_voxels": [1.0] * n_axes,
        "spacing": [1.0] * n_axes,
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "batch_dice": False,
        **resampling,
        "architecture": architecture,
    }
    return {
        "dataset_name": DATASET,
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
        "experiment_planner_used": "ExperimentPlanner",
        "foreground_intensity_properties_per_channel": {},
        "configurations": {"2d": {"not": "shared"}, "basis": basis, "3d_fullres": {"inherits_from": "basis"}},
    }


def write_model_folder(nnunet_folders, plans, folds=(0,), trainer_class=nnUNetTrainerGSP, dataset=None):
    """Let nnU-Net write all that it writes when training ends, with fresh weights; `dataset` is its dataset.json."""
    dataset = dataset or dataset_json()
    preprocessed = nnunet_folders / "nnUNet_preprocessed" / DATASET / "nnUNetPlans_3d_fullres"
    preprocessed.mkdir(parents=True, exist_ok=True)
    (preprocessed / "case.b2nd").touch()
    for seed, fold in enumerate(folds):
        torch.manual_seed(seed)
        trainer = trainer_class({**plans, "continue_training": False}, "3d_fullres", fold, dataset, CPU)
        trainer.initialize()
        trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        trainer.logger.log("train_losses", np.float32(0.5), 0)
        trainer._best_ema = np.float64(0.5)
        trainer.save_checkpoint(str(Path(trainer.output_folder, "checkpoint_final.pth")))
    folder = Path(trainer.output_folder_base)
    (folder / "plans.json").write_text(json.dumps(trainer.plans_manager.plans))
    (folder / "dataset.json").write_text(json.dumps(trainer.dataset_json))
    (folder / "dataset_fingerprint.json").write_text(json.dumps({"spacings": [[1.0, 1.0, 1.0]]}))
    return folder


def copied(model_folder, tmp_path):
    copy = tmp_path / model_folder.name
    shutil.copytree(model_folder, copy)
    return copy


def change_checkpoint(folder, change):
    file = folder / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(file, weights_only=False)
    change(checkpoint)
    torch.save(checkpoint, file)


def change_json(file, *path_and_value):
    content = json.loads(file.read_text())
    put(content, *path_and_value)
    file.write_text(json.dumps(content))


def put(content, *path_and_value):
    *path, last, value = path_and_value
    for key in path:
        content = content[key]
    content[last] = value


def logits(model_folder, folds, shape=(16, 16, 8)):
    """Return what nnU-Net's prediction makes of an image of noise, mirroring included."""
    predictor = nnUNetPredictor(device=CPU, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model_folder), folds)
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32))
    return predictor.predict_logits_from_preprocessed_data(image)


def contents_of(bundle):
    with zipfile.ZipFile(bundle) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def parameters_of(model_folder, fold=0):
    return torch.load(model_folder / f"fold_{fold}" / "checkpoint_final.pth", weights_only=False)["network_weights"]
