"""After `pip install` of our package nnU-Net finds our trainers; after `pip uninstall` it is as before.

Each environment is fresh, and each claim is nnU-Net's own search in a fresh interpreter there.
"""

import json
import os
import shutil
from pathlib import Path

import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_gsp.trainers import nnUNetTrainerGSP
from tests.architectures.networks import stock_architecture

SEARCH = "from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as search\n"

FINDS_OURS = (
    SEARCH
    + """
import pickle
found = search("nnUNetTrainerGSP")  # before anything of ours is imported
import nnunetv2_gsp.trainers
for name in nnunetv2_gsp.trainers.__all__:
    assert search(name) is getattr(nnunetv2_gsp.trainers, name), name
assert found is nnunetv2_gsp.trainers.nnUNetTrainerGSP
assert pickle.loads(pickle.dumps(found)) is found
"""
)

FINDS_OURS_IN_A_SPAWNED_CHILD = (
    SEARCH
    + """
import multiprocessing
with multiprocessing.get_context("spawn").Pool(1) as child:
    found = child.apply_async(search, ("nnUNetTrainerGSP",))
    from nnunetv2_gsp.trainers import nnUNetTrainerGSP
    assert found.get() is nnUNetTrainerGSP
"""
)

FINDS_STOCK = (
    SEARCH
    + """
import nnunetv2.training.nnUNetTrainer.variants.training_length.nnUNetTrainer_Xepochs as stock
assert search("nnUNetTrainer_5epochs") is stock.nnUNetTrainer_5epochs
"""
)

FINDS_STOCK_ONLY = (
    FINDS_STOCK
    + """
try:
    raise SystemExit(f"found {search('nnUNetTrainerGSP')}")
except RuntimeError as error:
    assert "Could not find requested nnunet trainer nnUNetTrainerGSP" in str(error)
"""
)

DATASET = {
    "channel_names": {"0": "MR"},
    "labels": {"background": 0, "ellipsoid": 1},
    "numTraining": 0,
    "file_ending": ".nii.gz",
}
PLANS = {
    "dataset_name": "Dataset999_Tiny",
    "plans_name": "nnUNetPlans",
    "configurations": {
        "3d_fullres": {
            "data_identifier": "nnUNetPlans_3d_fullres",
            "patch_size": [16, 16, 16],
            "batch_size": 2,
            "spacing": [1.0, 1.0, 1.0],
            "batch_dice": False,
            "architecture": stock_architecture([8, 16], strides=[[1] * 3, [2] * 3]),
        }
    },
}

FINDS_THE_USERS_FIRST = (
    SEARCH
    + """
assert search("nnUNetTrainerMine").__module__ == "mine"
assert search("nnUNetTrainerGSPNoDeepSupervision").__module__ == "mine"
assert search("nnUNetTrainerGSP").__module__.startswith("nnunetv2_gsp.")
"""
)

PRINT_VARIABLE = "import os; print(os.environ.get('nnUNet_extTrainer', ''))"
PRINT_VERSION = "from importlib.metadata import version; print(version('nnunetv2_gsp'))"


def test_install_upgrade_and_uninstall(fresh_environment, nnunet_wheel, nnunet_tree, older_tree, wheel):
    regular, editable = fresh_environment(nnunet_wheel), fresh_environment("--editable", nnunet_tree)
    for environment in (regular, editable):
        environment.install(older_tree)
        older = environment.ask(PRINT_VERSION)
        environment.install("--upgrade", wheel)
        assert environment.ask(PRINT_VERSION) not in (older, "")
        assert environment.ask(PRINT_VARIABLE) == shim_folder(environment.site_packages)
    assert_all_succeed((regular, FINDS_OURS), (editable, FINDS_OURS), (regular, FINDS_OURS_IN_A_SPAWNED_CHILD))

    for environment in (regular, editable):
        environment.pip("uninstall", "--yes", "nnunetv2_gsp")
        assert environment.files_of_ours() == []
    assert_all_succeed((regular, FINDS_STOCK_ONLY), (editable, FINDS_STOCK_ONLY))


def test_the_users_own_folder_is_kept_and_searched_first(fresh_environment, nnunet_wheel, wheel, tmp_path):
    environment = fresh_environment(nnunet_wheel, wheel)
    own = tmp_path / "own"
    own.mkdir()
    (own / "mine.py").write_text(
        "from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer\n"
        "class nnUNetTrainerMine(nnUNetTrainer): pass\n"
        "class nnUNetTrainerGSPNoDeepSupervision(nnUNetTrainer): pass\n"
    )
    both = f"{own}{os.pathsep}{shim_folder(environment.site_packages)}"
    assert environment.ask(PRINT_VARIABLE, nnUNet_extTrainer=str(own)) == both
    assert_all_succeed((environment, FINDS_THE_USERS_FIRST), nnUNet_extTrainer=str(own))


def test_nnunets_train_and_predict_commands_take_the_trainer(fresh_environment, nnunet_wheel, wheel, tmp_path):
    environment = fresh_environment(nnunet_wheel, wheel)
    dataset = Path(environment.variables["nnUNet_preprocessed"], "Dataset999_Tiny")
    model = tmp_path / "model"
    write_plans(dataset, "nnUNetPlans.json")
    write_plans(model, "plans.json")
    write_checkpoint(model / "fold_0" / "checkpoint_final.pth")
    (tmp_path / "no images").mkdir()

    train = environment.start("nnUNetv2_train", "999", "3d_fullres", "0", "-tr", "nnUNetTrainerGSP", "-device", "cpu")
    predict = environment.start(
        "nnUNetv2_predict_from_modelfolder",
        "-i",
        tmp_path / "no images",
        "-o",
        tmp_path / "out",
        "-m",
        model,
        "-f",
        "0",
        "-device",
        "cpu",
    )

    _, errors = train.communicate()  # it ends for want of images, once the network stands
    results = Path(environment.variables["nnUNet_results"], dataset.name)
    [log] = results.glob("nnUNetTrainerGSP__nnUNetPlans__3d_fullres/fold_0/training_log_*.txt")
    assert "Group Shift" in log.read_text(), errors
    output, errors = predict.communicate()
    assert "There are 0 cases that I would like to predict" in output, errors


def test_a_broken_install_takes_neither_torch_nor_a_stock_trainer_down(fresh_environment, nnunet_wheel, wheel):
    startup, trainers, gone = (fresh_environment(nnunet_wheel, wheel) for _ in range(3))
    (startup.site_packages / "nnunetv2_gsp" / "plugin" / "startup.py").write_text("this is no Python")
    (trainers.site_packages / "nnunetv2_gsp" / "trainers" / "__init__.py").write_text("raise RuntimeError('broken')")
    shutil.rmtree(gone.site_packages / "nnunetv2_gsp")  # all but the startup line
    assert_all_succeed(*((broken, "import torch\n" + FINDS_STOCK) for broken in (startup, trainers, gone)))


def assert_all_succeed(*programs, **variables):
    """Run (environment, code) pairs side by side: most of what each does is to import torch and nnU-Net."""
    processes = [environment.start("python", "-c", code, **variables) for environment, code in programs]
    for process, (_, code) in zip(processes, programs, strict=True):
        _, errors = process.communicate()
        assert process.returncode == 0, f"{code}\n{errors}"


def shim_folder(parent):
    return str(parent / "nnunetv2_gsp" / "plugin" / "ext_trainer")


def write_plans(folder, name):
    folder.mkdir()
    (folder / name).write_text(json.dumps(PLANS))
    (folder / "dataset.json").write_text(json.dumps(DATASET))


def write_checkpoint(path):
    """Write what nnU-Net keeps of an untrained network."""
    plans = PlansManager(PLANS)
    network = nnUNetTrainerGSP.build_network_architecture(plans, plans.get_configuration("3d_fullres"), 1, 2, False)
    path.parent.mkdir()
    torch.save(
        {
            "trainer_name": "nnUNetTrainerGSP",
            "init_args": {"configuration": "3d_fullres"},
            "inference_allowed_mirroring_axes": None,
            "network_weights": network.state_dict(),
        },
        path,
    )
