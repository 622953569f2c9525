"""Tiny trained models for challenges, cases as each interface hands them over, and folders of containers."""

import json
import re
from pathlib import Path

import numpy as np
import torch

from nnunetv2_gsp.challenges import CHALLENGES
from nnunetv2_gsp.container.writing import write_container
from nnunetv2_gsp.trainers import nnUNetTrainerGSP
from tests.architectures.networks import isotropic, stock_architecture
from tests.datasets.sources import write_image
from tests.sharing.models import CPU, DATASET, plans_of

PATCH = (16, 16, 8)
SHAPE = (16, 16, 10)  # (Z, Y, X)
SPACING_MM = (1.0, 1.0, 1.0)  # as in the plans, so that nothing is resampled
_BRATS2024 = CHALLENGES["brats2024"]
BRATS = {
    "channel_names": {str(number): name for number, name in enumerate(_BRATS2024.channels)},
    "labels": {"background": 0, **_BRATS2024.regions},
    "regions_class_order": list(_BRATS2024.regions_class_order),
    "numTraining": 1,
    "file_ending": ".nii.gz",
}
PLAIN = {
    "channel_names": {"0": "T2"},
    "labels": {"background": 0, "prostate": 1, "lesion": 2},
    "numTraining": 1,
    "file_ending": ".nii.gz",
}
CASES = ("BraTS-GLI-00005-100", "BraTS-GLI-00006-000")
MODALITIES = ("t1n", "t1c", "t2w", "t2f")  # in the order of the channels


def write_model(nnunet_folders, dataset_json, seed=0, plans_name="nnUNetPlans"):
    """Let nnU-Net write what prediction needs, with fresh weights."""
    plans = plans_of(stock_architecture((8, 12), isotropic(2)), PATCH)
    n_channels = len(dataset_json["channel_names"])
    plans["plans_name"] = plans_name
    plans["foreground_intensity_properties_per_channel"] = {str(channel): {} for channel in range(n_channels)}
    plans["configurations"]["basis"] |= {
        "normalization_schemes": ["ZScoreNormalization"] * n_channels,
        "use_mask_for_norm": [False] * n_channels,
    }
    preprocessed = nnunet_folders / "nnUNet_preprocessed" / DATASET / "nnUNetPlans_3d_fullres"
    preprocessed.mkdir(parents=True, exist_ok=True)
    (preprocessed / "case.b2nd").touch()
    torch.manual_seed(seed)
    trainer = nnUNetTrainerGSP({**plans, "continue_training": False}, "3d_fullres", 0, dataset_json, CPU)
    trainer.initialize()
    trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    trainer.save_checkpoint(str(Path(trainer.output_folder, "checkpoint_final.pth")))
    folder = Path(trainer.output_folder_base)
    (folder / "plans.json").write_text(json.dumps(trainer.plans_manager.plans))
    (folder / "dataset.json").write_text(json.dumps(trainer.dataset_json))
    return folder


def noise(seed):
    return np.random.default_rng(seed).normal(100, 20, SHAPE).astype(np.float32)


def write_brats_case(folder, separator="-", seed=0):
    for channel, modality in enumerate(MODALITIES):
        write_image(noise(10 * seed + channel), folder / f"{folder.name}{separator}{modality}.nii.gz", SPACING_MM)
    return folder


def container(models, folder, interface, **options):
    write_container(models, folder, interface, **options)
    return folder


def dockerfile(folder):
    """Return the Dockerfile's instructions: name and rest, with continued lines joined."""
    text = (folder / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(instruction, re.sub(r"\s+", " ", rest)) for instruction, rest in (line.split(" ", 1) for line in lines)]


def environment_of(folder):
    """Return the variables that the Dockerfile sets."""
    return dict(pair.split("=", 1) for name, rest in dockerfile(folder) if name == "ENV" for pair in rest.split())
