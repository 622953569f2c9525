"""The variants of nnU-Net that change the network, on GSP plans: they train, validate and predict from their folder."""

from pathlib import Path

import pytest
import torch
from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess
from nnunetv2.run.run_training import run_training
from nnunetv2.training import nnUNetTrainer as trainers
from torch import nn

from nnunetv2_gsp.architectures import GSPUNet
from nnunetv2_gsp.plans import write_gsp_plans
from tests.contract.conftest import CPU, DATASET, ID, predictor_of

N_STEPS = 3 * 2  # epochs and iterations of the trainers in tests/ext_trainers
VARIANTS = ("nnUNetTrainerBN", "nnUNetTrainerNoDeepSupervision")


@pytest.fixture(scope="module")
def gsp_plans(preprocessed):
    return write_gsp_plans(str(ID), output_name="nnUNetGSPPlans_variants").stem


def test_no_other_variant_changes_the_network():
    files = (Path(trainers.__path__[0]) / "variants").rglob("*.py")
    changing = [
        file.stem
        for file in files
        for text in [file.read_text()]
        if "def build_network_architecture" in text or "enable_deep_supervision = " in text
    ]
    assert sorted(changing) == sorted(VARIANTS)


@pytest.mark.parametrize(
    ("variant", "configuration"),
    [
        ("nnUNetTrainerBN", "3d_fullres"),
        pytest.param("nnUNetTrainerBN", "2d", marks=pytest.mark.contract),
        pytest.param("nnUNetTrainerNoDeepSupervision", "3d_fullres", marks=pytest.mark.contract),
        pytest.param("nnUNetTrainerNoDeepSupervision", "2d", marks=pytest.mark.contract),
    ],
)
def test_trains_and_predicts(variant, configuration, gsp_plans, preprocessed, nnunet_folders):
    if configuration == "2d":
        preprocess([ID], gsp_plans, ["2d"], [1])
    trainer = f"{variant}FewIterations"
    run_training(str(ID), configuration, 0, trainer, gsp_plans, device=CPU)
    model = nnunet_folders / "nnUNet_results" / DATASET / f"{trainer}__{gsp_plans}__{configuration}"
    assert (model / "fold_0" / "validation" / "summary.json").is_file()

    predictor = predictor_of(model)
    network = predictor.network
    assert type(network) is GSPUNet
    network.load_state_dict(predictor.list_of_parameters[0])
    batches = {
        int(norm.num_batches_tracked)
        for norm in network.modules()
        if isinstance(norm, (nn.BatchNorm2d, nn.BatchNorm3d))
    }
    assert batches == ({N_STEPS} if variant == "nnUNetTrainerBN" else set())
    assert torch.isfinite(predictor.predict_logits_from_preprocessed_data(torch.randn(2, 24, 30, 30))).all()
