"""Whatever nnU-Net plans, GSP builds: random fingerprints through nnU-Net's real planners, 2D, 3D and cascades."""

import json
from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.residual_unets.residual_encoder_unet_planners import (
    nnUNetPlannerResEncL,
    nnUNetPlannerResEncM,
    nnUNetPlannerResEncXL,
)
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_gsp.architectures.from_plans import gsp_architecture
from nnunetv2_gsp.trainers import nnUNetTrainerGSP
from tests.contract.generated import write_dataset

DATASET, ID = "Dataset901_Planned", 901
MAX_WIDTH = 8

fingerprints = st.fixed_dictionaries(
    {
        "spacing_mm": st.tuples(*[st.floats(0.3, 6)] * 3),
        "shape": st.tuples(*[st.integers(16, 512)] * 3)
        | st.tuples(st.integers(8, 30), *[st.integers(100, 600)] * 2)
        | st.tuples(st.just(1), *[st.integers(32, 600)] * 2),
        "n_channels": st.integers(1, 5),
    }
)
planners = st.sampled_from([ExperimentPlanner, nnUNetPlannerResEncM, nnUNetPlannerResEncL, nnUNetPlannerResEncXL])
memory_targets_gb = st.floats(1, 40)


@pytest.fixture(scope="module")
def dataset(nnunet_folders):
    """Return the raw and the preprocessed folder of a dataset whose fingerprint is still to be written."""
    raw = write_dataset(nnunet_folders / "nnUNet_raw", DATASET, "plain", 1, ".nii.gz", "isotropic")
    preprocessed = nnunet_folders / "nnUNet_preprocessed" / DATASET
    preprocessed.mkdir()
    return raw, preprocessed


ONE_STAGE = {
    "fingerprint": {"spacing_mm": (1.5, 3.0, 3.0), "shape": (8, 100, 100), "n_channels": 1},
    "planner": ExperimentPlanner,
    "memory_gb": 1.0,
}  # for 3d_lowres


def any_plan(max_examples):
    """Run a test over random plans; what is drawn repeats from run to run."""

    def decorate(test):
        return settings(
            max_examples=max_examples,
            suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        )(example(**ONE_STAGE)(given(fingerprint=fingerprints, planner=planners, memory_gb=memory_targets_gb)(test)))

    return decorate


@any_plan(12)
def test_every_plan_builds_and_trains(dataset, fingerprint, planner, memory_gb):
    check_every_configuration(dataset, fingerprint, planner, memory_gb)


@pytest.mark.contract
@any_plan(100)
def test_many_plans_build_and_train(dataset, fingerprint, planner, memory_gb):
    check_every_configuration(dataset, fingerprint, planner, memory_gb)


def check_every_configuration(dataset, fingerprint, planner, memory_gb):
    plans, dataset_json = plan(dataset, fingerprint, planner, memory_gb)
    manager = PlansManager(plans)
    for name in plans["configurations"]:
        configuration = manager.get_configuration(name)
        n_channels = determine_num_input_channels(manager, configuration, dataset_json)
        if len(configuration.pool_op_kernel_sizes) == 1:  # of images so small that nnU-Net's own network fails on them
            check_one_stage_is_refused(manager, configuration, n_channels)
            continue
        check_shapes_at_full_size(manager, configuration, n_channels)
        check_numbers_in_small(configuration, n_channels)


def plan(dataset, fingerprint, planner, memory_gb):
    """Let nnU-Net plan; on meta tensors, since it builds networks only to count their feature maps."""
    raw, preprocessed = dataset
    dataset_json = json.loads((raw / "dataset.json").read_text())
    dataset_json["channel_names"] = {str(channel): "MR" for channel in range(fingerprint["n_channels"])}
    (raw / "dataset.json").write_text(json.dumps(dataset_json))
    (preprocessed / "dataset_fingerprint.json").write_text(
        json.dumps(
            {
                "spacings": [fingerprint["spacing_mm"]] * 2,
                "shapes_after_crop": [fingerprint["shape"]] * 2,
                "median_relative_size_after_cropping": 1.0,
                "foreground_intensity_properties_per_channel": {},
            }
        )
    )
    with torch.device("meta"):
        planner(ID, gpu_memory_target_in_gb=memory_gb, plans_name="nnUNetPlans").plan_experiment()
    return json.loads((preprocessed / "nnUNetPlans.json").read_text()), dataset_json


def check_one_stage_is_refused(manager, configuration, n_channels):
    with pytest.raises(ValueError, match="at least two stages"):
        nnUNetTrainerGSP.build_network_architecture(manager, configuration, n_channels, 4, True)
    stock = nnUNetTrainer.build_network_architecture(manager, configuration, n_channels, 4, False)
    with pytest.raises(IndexError):
        stock(torch.zeros(1, n_channels, *configuration.patch_size))


def check_shapes_at_full_size(manager, configuration, n_channels):
    """One output for each scale on which nnU-Net computes the loss, of the size it brings the labels to."""
    with torch.device("meta"):
        network = nnUNetTrainerGSP.build_network_architecture(manager, configuration, n_channels, 4, True)
        outputs = network(torch.zeros(1, n_channels, *configuration.patch_size))
    scales = 1 / np.cumprod(configuration.pool_op_kernel_sizes, axis=0)[:-1]
    assert [output.shape for output in outputs] == [
        (1, 4, *(round(size * factor) for size, factor in zip(configuration.patch_size, scale, strict=True)))
        for scale in scales
    ]


def check_numbers_in_small(configuration, n_channels):
    """Finite logits, and a gradient for every parameter, on about the smallest patch that the strides allow."""
    stock = deepcopy(configuration.configuration["architecture"])
    kwargs = stock["arch_kwargs"]
    kwargs["features_per_stage"] = [min(width, MAX_WIDTH) for width in kwargs["features_per_stage"]]
    total_stride = np.prod(kwargs["strides"], axis=0)
    patch_size = [int(stride) for stride in total_stride]
    patch_size[int(np.argmin(patch_size))] *= 2  # an InstanceNorm needs two voxels at the bottleneck
    architecture = gsp_architecture(stock, patch_size)
    torch.manual_seed(0)
    network = get_network_from_plans(
        architecture["network_class_name"],
        architecture["arch_kwargs"],
        architecture["_kw_requires_import"],
        n_channels,
        4,
        allow_init=True,
        deep_supervision=True,
    )
    outputs = network(torch.randn(2, n_channels, *patch_size))
    assert all(torch.isfinite(output).all() for output in outputs)
    sum(output.square().mean() for output in outputs).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
