"""What `GSPUNet` refuses, every verb and every trainer refuses in the same words, before anything is written.

The oracle is the constructor: each refusal is an argument that it does not take.
"""

import json
import shutil

import pytest
import torch
from nnunetv2.experiment_planning.plan_and_preprocess_api import plan_experiments
from nnunetv2.run.run_training import run_training

from nnunetv2_gsp.architectures import GSPUNet
from nnunetv2_gsp.architectures.from_plans import gsp_architecture
from nnunetv2_gsp.cli import main
from tests.architectures.networks import isotropic, located, stock_architecture
from tests.conftest import listing
from tests.host_in_process import extract_fingerprint
from tests.raw_dataset import write_raw_dataset

DATASET, ID, PLANS, CONFIGURATION = "Dataset906_Refused", "906", "edited", "3d_fullres"
PATCH = [8, 8, 8]
STOCK = stock_architecture((8, 16), isotropic(2))
GSP = gsp_architecture(STOCK, PATCH)
# the same network by the settings of a template
SETTINGS = {
    "patch_size": PATCH,
    "features_per_stage": [8, 16],
    "strides": isotropic(2),
    "n_conv_per_stage": [2, 2],
    "n_conv_per_stage_decoder": [2],
    "spatial_groups": [[1, 1, 2]] * 2,
}

OF_STAGES = {
    "one stage": {"n_stages": 1},
    "no stage": {"n_stages": 0},
    "stages in words": {"n_stages": "two"},
    "a width too few": {"features_per_stage": [8]},
    "a width of nothing": {"features_per_stage": [8, 0]},
    "no widths": {"features_per_stage": None},
    "a stride too few": {"strides": [[1, 1, 1]]},
    "strides of two axes": {"strides": [[1, 1], [2, 2]]},
    "a stride of nothing": {"strides": [[1, 1, 1], [0, 2, 2]]},
    "a block too few": {"n_conv_per_stage": [2]},
    "a block of nothing": {"n_conv_per_stage": 0},
    "a block too many in the decoder": {"n_conv_per_stage_decoder": [2, 2]},
    "a convolution of two axes": {"conv_op": "torch.nn.Conv2d"},
    "a convolution of nobody": {"conv_op": "torch.nn.Nobody"},
    "a norm that does not take its arguments": {"norm_op_kwargs": {"nonsense": 1}},
    "an argument of nobody": {"nonsense": 1},
}
OF_SHIFTS = {
    "a kernel of five voxels": {"kernel": 5},
    "a position of nobody": {"shift_position": "SCS"},
    "a location of nobody": {"shift_location": "everywhere"},
    "groups of a stage too few": {"spatial_groups": [[2, 2, 2]]},
    "groups of two axes": {"spatial_groups": [[2, 2], [2, 2]]},
    "no group along an axis": {"spatial_groups": [[2, 2, 2], [0, 2, 2]]},
    "groups in one number": {"spatial_groups": 2},
    "shifted channels of a stage too few": {"shift_channels": [4]},
    "shifted channels in one number": {"shift_channels": 4},
    "more shifted channels than there are": {"shift_channels": [16, 8]},
    "shifted channels that groups can't share": {"shift_channels": [3, 8]},
    "shifted channels in words": {"shift_channels": ["4", 8]},
    "locally shifted channels of a stage too few": {"local_shift_channels": [0]},
    "more locally shifted channels than there are": {"local_shift_channels": [6, 0]},
    "locally shifted channels that directions can't share": {"local_shift_channels": [0, 4]},
}
REFUSALS = {**OF_STAGES, **OF_SHIFTS}
BY_SETTING = {
    **{
        name: REFUSALS[name]
        for name in (
            "a width of nothing",
            "a stride too few",
            "a stride of nothing",
            "a block too few",
            "a block of nothing",
            "a block too many in the decoder",
            "a kernel of five voxels",
            "a position of nobody",
            "a location of nobody",
            "groups of a stage too few",
            "no group along an axis",
        )
    },
    "one stage": {"features_per_stage": [8]},
    "no stage": {"features_per_stage": []},
}
WITH_PLANS = {
    "plan": ["plan", "-d", ID, "-p", PLANS, "-c", CONFIGURATION],
    "profile": ["profile", "-d", ID, "-p", PLANS, "-c", CONFIGURATION],
    "experiments": ["experiments", "cross-validation", "-d", ID, "-p", PLANS, "-c", CONFIGURATION, "-device", "cpu"],
}
WITH_SETTINGS = {
    "plan": ["plan", "-d", ID, "-c", CONFIGURATION],
    "profile": ["profile"],
    "experiments": ["experiments", "ratio", "-d", ID, "-c", CONFIGURATION, "-device", "cpu"],
}


@pytest.fixture(scope="module")
def base(nnunet_folders):
    """Plan a dataset; returns the parent of nnU-Net's folders."""
    write_raw_dataset(nnunet_folders / "nnUNet_raw", DATASET, shape=(12, 12, 12))
    extract_fingerprint(int(ID))
    plan_experiments([int(ID)])
    return nnunet_folders


@pytest.fixture
def write_plans(base):
    """Write plans of an architecture whose arguments are changed; afterwards nothing but them may be new."""
    folder = base / "nnUNet_preprocessed" / DATASET
    before = listing(base)

    def write(architecture, changes):
        plans = json.loads((folder / "nnUNetPlans.json").read_text())
        configuration = plans["configurations"][CONFIGURATION]
        edited = {**architecture, "arch_kwargs": {**architecture["arch_kwargs"], **changes}}
        configuration.update(patch_size=PATCH, architecture=edited)
        (folder / f"{PLANS}.json").write_text(json.dumps({**plans, "plans_name": PLANS}))

    yield write
    (folder / f"{PLANS}.json").unlink(missing_ok=True)
    assert listing(base) == before


def words_of_the_constructor(changes):
    kwargs = located({**GSP, "arch_kwargs": {**GSP["arch_kwargs"], **changes}})
    with pytest.raises((ValueError, TypeError)) as refusal:
        GSPUNet(input_channels=1, num_classes=2, **kwargs)
    return str(refusal.value)


def sentence_of(line):
    """Run a verb that must fail; returns what it says, which must be one line and come with a non-zero exit."""
    with pytest.raises(SystemExit) as end:
        main(line)
    assert isinstance(end.value.code, str)  # printed by the interpreter, which then exits with 1
    assert "\n" not in end.value.code
    return end.value.code


def test_the_network_itself_is_taken(base):
    assert GSPUNet(input_channels=1, num_classes=2, **located(GSP)).shift_settings.shift_channels == (4, 8)


@pytest.mark.parametrize("verb", WITH_PLANS)
@pytest.mark.parametrize("refusal", REFUSALS)
def test_of_gsp_plans(refusal, verb, write_plans):
    write_plans(GSP, REFUSALS[refusal])
    assert words_of_the_constructor(REFUSALS[refusal]) in sentence_of(WITH_PLANS[verb])


@pytest.mark.parametrize("verb", WITH_PLANS)
@pytest.mark.parametrize("refusal", OF_STAGES)
def test_of_stock_plans(refusal, verb, write_plans):
    write_plans(STOCK, OF_STAGES[refusal])
    assert words_of_the_constructor(REFUSALS[refusal]) in sentence_of(WITH_PLANS[verb])


@pytest.mark.parametrize("verb", WITH_SETTINGS)
@pytest.mark.parametrize("refusal", BY_SETTING)
def test_of_settings(refusal, verb, write_plans):
    settings = [f"{name}={json.dumps(value)}" for name, value in {**SETTINGS, **BY_SETTING[refusal]}.items()]
    sentence = sentence_of([*WITH_SETTINGS[verb], "--set", *settings])
    assert words_of_the_constructor(REFUSALS[refusal]) in sentence


@pytest.mark.parametrize(
    ("trainer", "architecture", "refusal"),
    [
        *(("nnUNetTrainerGSP", GSP, refusal) for refusal in REFUSALS),
        *(("nnUNetTrainerGSP", STOCK, refusal) for refusal in OF_STAGES),
        *(("nnUNetTrainer", GSP, refusal) for refusal in REFUSALS),
    ],
)
def test_of_trainers(trainer, architecture, refusal, write_plans, base):
    write_plans(architecture, REFUSALS[refusal])
    is_gsp = trainer == "nnUNetTrainerGSP"
    with pytest.raises(ValueError if is_gsp else (ValueError, TypeError)) as refused:
        run_training(ID, CONFIGURATION, 0, trainer, PLANS, device=torch.device("cpu"))
    assert words_of_the_constructor(REFUSALS[refusal]) in str(refused.value)
    results = base / "nnUNet_results" / DATASET
    assert not [file for file in results.rglob("*") if file.is_file() and "training_log" not in file.name]
    shutil.rmtree(results)  # nnU-Net has made the folder and the log before it asks


def test_stages_of_a_template_mend_plans_that_have_one(write_plans, base):
    write_plans(
        STOCK,
        {
            "n_stages": 1,
            "features_per_stage": [8],
            "strides": [[1, 1, 1]],
            "n_conv_per_stage": [2],
            "n_conv_per_stage_decoder": [],
            "kernel_sizes": [[3, 3, 3]],
        },
    )
    settings = [f"{name}={json.dumps(value)}" for name, value in SETTINGS.items()]
    with pytest.raises(SystemExit) as end:
        main([*WITH_PLANS["plan"], "--name", "mended", "--set", *settings])
    assert end.value.code == 0
    mended = base / "nnUNet_preprocessed" / DATASET / "mended.json"
    architecture = json.loads(mended.read_text())["configurations"][CONFIGURATION]["architecture"]
    mended.unlink()
    assert GSPUNet(input_channels=1, num_classes=2, **located(architecture)).shift_settings.shift_channels == (4, 8)
