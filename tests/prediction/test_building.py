"""Networks are those that trainers build, and are built without the imports of training."""

import os
import subprocess
import sys

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_gsp import trainers
from nnunetv2_gsp.plugin.startup import EXT_TRAINER_FOLDER, VARIABLE
from nnunetv2_gsp.prediction import building
from nnunetv2_gsp.prediction.building import GSP_TRAINERS, network_of
from tests.architectures.networks import isotropic, stock_architecture
from tests.prediction.models import write_model
from tests.sharing.models import plans_of

PATCH = (8, 8, 8)
DATASET_JSON = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz"}
# what takes seconds to import, and is not needed to predict on a CPU
HEAVY = {"torch._dynamo", "matplotlib", "seaborn", "timm", "sklearn", "batchgeneratorsv2"}


@pytest.fixture
def only_ours(monkeypatch):
    monkeypatch.setenv(VARIABLE, EXT_TRAINER_FOLDER)


@pytest.fixture
def described():
    plans = PlansManager(plans_of(stock_architecture((8, 12), isotropic(2)), PATCH))
    return plans, plans.get_configuration("3d_fullres"), DATASET_JSON


def test_our_trainers_names_are_known():
    assert set(trainers.__all__) == GSP_TRAINERS


@pytest.mark.parametrize("trainer", ["nnUNetTrainer", *sorted(GSP_TRAINERS)])
def test_the_network_is_the_one_of_the_trainer(trainer, described, only_ours, monkeypatch):
    trainer_class = nnUNetTrainer if trainer == "nnUNetTrainer" else getattr(trainers, trainer)
    theirs = trainer_class.build_network_architecture(*described[:2], 1, 2, enable_deep_supervision=False).eval()
    monkeypatch.setattr(building, "find_trainer", None)  # is not called
    ours = network_of(trainer, *described).eval()
    assert type(ours) is type(theirs)
    ours.load_state_dict(theirs.state_dict())
    with torch.inference_mode():
        image = torch.randn(1, 1, *PATCH)
        assert torch.equal(ours(image), theirs(image))


@pytest.mark.parametrize("name", ["nnUNetTrainerGSP", "nnUNetTrainerTheirs"])
@pytest.mark.parametrize("first", ["plans_manager", "architecture_class_name"])  # since 2.8, and before
def test_a_users_own_trainer_builds_the_network_itself(name, first, described, tmp_path, monkeypatch):
    (tmp_path / "theirs.py").write_text(
        "from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer\n"
        f"class {name}(nnUNetTrainer):\n"
        "    @staticmethod\n"
        f"    def build_network_architecture({first}, *others, enable_deep_supervision):\n"
        f"        return {first}, *others, enable_deep_supervision\n"
    )
    monkeypatch.setenv(VARIABLE, os.pathsep.join([str(tmp_path), EXT_TRAINER_FOLDER]))
    plans, configuration, _ = described
    asked = (plans, configuration)
    if first != "plans_manager":
        asked = (
            configuration.network_arch_class_name,
            configuration.network_arch_init_kwargs,
            configuration.network_arch_init_kwargs_req_import,
        )
    assert network_of(name, *described) == (*asked, 1, 2, False)


def test_loading_a_model_imports_nothing_of_training(nnunet_folders, only_ours):
    model_folder = write_model(nnunet_folders)
    code = (
        "import sys; from pathlib import Path; import nnunetv2_gsp.cli, nnunetv2_gsp.prediction.predicting; "
        "from nnunetv2_gsp.prediction.model import load_predictor; load_predictor(Path(sys.argv[1])); "
        "print(*sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code, model_folder], capture_output=True, text=True, check=True)
    assert HEAVY & set(found.stdout.split()) == set()
