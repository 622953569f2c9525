"""A planned dataset, and settings that make the paper's networks tiny."""

from functools import partial

import pytest
from nnunetv2.experiment_planning.plan_and_preprocess_api import plan_experiments

from nnunetv2_gsp.experiments.experiment import run_experiments
from tests.host_in_process import extract_fingerprint
from tests.raw_dataset import write_raw_dataset

DATASET, ID = "Dataset904_Ellipsoid", 904
TINY = {
    "patch_size": [16, 32, 32],
    "batch_size": 2,
    "features_per_stage": [16, 32, 64],
    "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
    "spatial_groups": [[2, 2, 2], [1, 2, 2], [1, 4, 4]],
}


@pytest.fixture(scope="module")
def planned(nnunet_folders):
    """Plan a dataset of one channel that is not preprocessed; returns the parent of nnU-Net's folders."""
    write_raw_dataset(nnunet_folders / "nnUNet_raw", DATASET)
    extract_fingerprint(ID)
    plan_experiments([ID])
    return nnunet_folders


@pytest.fixture
def run(planned, monkeypatch):
    """Run the verb with tiny networks on the CPU."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return partial(run_experiments, dataset=str(ID), device="cpu", settings=TINY)
