"""One set of nnU-Net's folders for all of these tests, and one small model, planned and trained by nnU-Net."""

import pytest
import torch
from nnunetv2.experiment_planning.plan_and_preprocess_api import plan_experiments, preprocess
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.run_training import run_training

from tests.conftest import set_nnunet_folders
from tests.contract.generated import write_dataset, write_two_folds
from tests.host_in_process import extract_fingerprint

TRAINER = "nnUNetTrainerGSPFewIterations"
CPU = torch.device("cpu")
MEMORY_TARGET_GB = 0.01  # so little that nnU-Net plans a cascade for these small images
DATASET, ID = "Dataset900_Contract", 900


@pytest.fixture(scope="package")
def nnunet_folders(tmp_path_factory):
    yield from set_nnunet_folders(tmp_path_factory)


@pytest.fixture(scope="package")
def preprocessed(nnunet_folders):
    """Return the preprocessed folder of a dataset with two channels and three labels."""
    write_dataset(nnunet_folders / "nnUNet_raw", DATASET, "plain", 2, ".nii.gz", "isotropic")
    plan(ID, ["3d_fullres"])
    folder = nnunet_folders / "nnUNet_preprocessed" / DATASET
    write_two_folds(folder)
    return folder


@pytest.fixture(scope="package")
def model_folder(preprocessed, nnunet_folders):
    """Train fold 0 from stock plans."""
    run_training(str(ID), "3d_fullres", 0, TRAINER, device=CPU)
    return nnunet_folders / "nnUNet_results" / DATASET / f"{TRAINER}__nnUNetPlans__3d_fullres"


def plan(dataset_id, configurations):
    extract_fingerprint(dataset_id)
    plans_name = plan_experiments([dataset_id], gpu_memory_target_in_gb=MEMORY_TARGET_GB)
    preprocess([dataset_id], plans_name, configurations, [1] * len(configurations))


def predictor_of(model_folder, folds=(0,), **settings):
    predictor = nnUNetPredictor(device=CPU, allow_tqdm=False, **settings)
    predictor.initialize_from_trained_model_folder(str(model_folder), folds)
    return predictor
