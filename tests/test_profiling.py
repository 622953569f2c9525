import json
import math
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from torch import nn

from nnunetv2_gsp import profiling
from nnunetv2_gsp.architectures import from_plans
from nnunetv2_gsp.architectures.from_plans import gsp_architecture
from nnunetv2_gsp.counting import built, count_activation_bytes, count_macs
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.plans_templates import Template
from nnunetv2_gsp.profiling import (
    NetworkCost,
    Profile,
    _scaled,
    profile_dataset,
    profile_template,
)
from nnunetv2_gsp.timing import Timing
from tests.architectures.networks import isotropic, stock_architecture
from tests.conftest import torch_threads

DATASET = "Dataset905_Profile"


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Keep threads from waiting for each other: these networks are tiny, and the figures do not matter."""
    with torch_threads(1):
        yield


def template(**settings):
    return Template("mine", "for a test", "nowhere", settings)


def counted(cost):
    """Return what of a cost does not depend on the clock."""
    return replace(cost, latency=None)


# What is counted: by hand


def hand_count(input_channels, classes, patch, features, strides):
    """Return parameters and MACs of a GSP network of two convolutions a stage, from its widths alone."""
    steps = np.cumprod(strides, axis=0)
    voxels = [math.prod(patch) // int(step.prod()) for step in steps]
    convolutions = []  # voxels, channels in, channels out
    for stage, channels in enumerate(features):
        convolutions += [
            (voxels[stage], features[stage - 1] if stage else input_channels, channels),
            (voxels[stage], channels, channels),
        ]
    for stage, channels in enumerate(features[:-1]):
        convolutions += [
            (voxels[stage + 1], features[stage + 1], channels),
            (voxels[stage], 2 * channels, channels),
            (voxels[stage], channels, channels),
        ]
    macs = sum(math.prod(convolution) for convolution in convolutions) + voxels[0] * features[0] * classes
    # bias, and scale and shift of the norm
    parameters = sum(into * out + 3 * out for _, into, out in convolutions)
    return parameters + sum((channels + 1) * classes for channels in features[:-1]), macs


@pytest.mark.parametrize(
    ("patch", "strides"),
    [
        ((8, 16, 8), [(1, 1, 1), (1, 2, 2), (2, 2, 2)]),
        ((16, 24), [(1, 1), (2, 2), (2, 2)]),
    ],
)
def test_a_gsp_network_costs_what_its_widths_say(patch, strides):
    features = (8, 16, 24)
    settings = template(
        patch_size=list(patch),
        features_per_stage=list(features),
        strides=strides,
        n_conv_per_stage=2,
        n_conv_per_stage_decoder=2,
    )
    cost = profile_template(settings, None, 3, 4, "cpu", 1).gsp
    parameters, macs = hand_count(3, 4, patch, features, strides)
    assert counted(cost) == NetworkCost("GSPUNet", parameters, macs, 2 * macs, cost.activation_bytes, None)


def test_the_design_widths_at_128():
    """nnU-Net's widths, 4 channels in and 4 out: 18.84 GMACs and 1.332 M parameters, by hand."""
    parameters, macs = hand_count(4, 4, (128, 128, 128), (32, 64, 128, 256, 320, 320), isotropic(6))
    stock = profiling._planned_configuration([128, 128, 128])
    counts = profiling._counts(
        lambda **options: built(gsp_architecture(stock["architecture"], stock["patch_size"]), 4, 4, **options),
        (4, 128, 128, 128),
        2,
    )
    assert (counts["parameters"], counts["macs"]) == (parameters, macs)
    assert (round(parameters, -3), round(macs, -7)) == (1_332_000, 18_840_000_000)


# The stock counterpart


def test_the_stock_counterpart_of_gsp_plans_is_what_they_were_made_from():
    stock = stock_architecture((8, 16, 16), isotropic(3), kernel_sizes=[[1, 3, 3], [3, 3, 3], [3, 3, 3]])
    before = deepcopy(stock)
    gsp = gsp_architecture(stock, (8, 16, 16))
    resolved = deepcopy(gsp)
    assert from_plans.stock_architecture(gsp) == stock
    assert from_plans.stock_architecture(stock) == stock == before
    assert gsp == resolved


@pytest.mark.parametrize("kernel_sizes", [None, [[3, 3, 3]] * 2])
def test_kernels_that_do_not_fit_become_three_voxels_wide(kernel_sizes):
    gsp = gsp_architecture(stock_architecture((8, 16, 16), isotropic(3)), (8, 8, 8))
    gsp["arch_kwargs"]["kernel_sizes"] = kernel_sizes
    network = built(from_plans.stock_architecture(gsp), 2, 3, "meta", deep_supervision=False)
    kernels = {module.kernel_size for module in network.modules() if isinstance(module, nn.Conv3d)}
    assert kernels == {(3, 3, 3), (1, 1, 1)}  # the heads
    assert gsp_architecture(gsp, (8, 8, 8)) == gsp  # whose network has no use for them


# A dataset's plans


def stock_plans():
    """Return plans with a 2d, a lowres, a cascaded and a residual configuration."""

    def configuration(architecture, patch_size, **more):
        return {
            "data_identifier": "any",
            "patch_size": patch_size,
            "batch_size": 2,
            "architecture": architecture,
            **more,
        }

    return {
        "dataset_name": DATASET,
        "plans_name": "nnUNetPlans",
        "configurations": {
            "2d": configuration(stock_architecture((8, 16, 16), isotropic(3, dim=2)), [16, 24], batch_size=5),
            "3d_lowres": configuration(stock_architecture((8, 16, 16), isotropic(3)), [8, 16, 16]),
            "3d_cascade_fullres": {"inherits_from": "3d_lowres", "previous_stage": "3d_lowres"},
            "3d_residual": configuration(stock_architecture((8, 16, 16), isotropic(3), "residual"), [8, 16, 16]),
        },
    }


def gsp_plans():
    plans = stock_plans()
    for configuration in plans["configurations"].values():
        if "architecture" in configuration:
            configuration["architecture"] = gsp_architecture(configuration["architecture"], configuration["patch_size"])
    return plans


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """Write plans and dataset.json into an nnUNet_preprocessed of its own; returns the dataset's folder."""
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    folder = tmp_path / "nnUNet_preprocessed" / DATASET
    folder.mkdir(parents=True)
    write(folder / "nnUNetPlans.json", stock_plans())
    write(folder / "mine.json", gsp_plans())
    write(
        folder / "dataset.json",
        {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "edema": 1, "tumour": 2, "core": 3}},
    )
    return folder


def write(file: Path, content):
    file.write_text(json.dumps(content))


@pytest.mark.parametrize("configuration", ["2d", "3d_cascade_fullres"])
def test_stock_plans_and_the_gsp_plans_made_from_them_cost_the_same(planned, configuration):
    of_stock, of_gsp = (profile_dataset("905", configuration, name, "cpu", 1) for name in ("nnUNetPlans", "mine"))
    for profile in (of_stock, of_gsp):
        assert (profile.stock.network, profile.gsp.network) == ("PlainConvUNet", "GSPUNet")
    assert counted(of_stock.stock) == counted(of_gsp.stock)
    assert counted(of_stock.gsp) == counted(of_gsp.gsp)
    assert of_stock.stock.macs > 5 * of_stock.gsp.macs


def test_channels_heads_patch_and_batch_are_the_plans_own(planned):
    profile = profile_dataset(DATASET, "2d", "nnUNetPlans", "cpu", 2)
    assert (profile.input_channels, profile.output_channels, profile.patch_size, profile.batch_size) == (
        2,
        4,
        (16, 24),
        5,
    )
    assert (profile.device, profile.rounds) == ("cpu", 2)
    parameters, macs = hand_count(2, 4, (16, 24), (8, 16, 16), isotropic(3, dim=2))
    assert (profile.gsp.parameters, profile.gsp.macs) == (parameters, macs)
    assert 0 < profile.gsp.latency.low_ms <= profile.gsp.latency.median_ms <= profile.gsp.latency.high_ms


def test_memory_is_that_of_the_planned_batch_with_deep_supervision_and_the_rest_is_not(planned):
    profile = profile_dataset(DATASET, "2d", "nnUNetPlans", "cpu", 1)
    architecture = stock_plans()["configurations"]["2d"]["architecture"]
    network = built(architecture, 2, 4, "cpu", deep_supervision=True)
    assert profile.stock.activation_bytes == count_activation_bytes(network, torch.zeros(5, 2, 16, 24))
    network.decoder.deep_supervision = False
    assert profile.stock.macs == count_macs(network, torch.zeros(1, 2, 16, 24))


def test_a_cascade_sees_the_previous_stage_and_regions_have_a_head_each(planned):
    write(
        planned / "dataset.json",
        {
            "channel_names": {"0": "T1", "1": "T2"},
            "regions_class_order": [1, 2],
            "labels": {"background": 0, "whole": [1, 2], "core": [2]},
        },
    )
    profile = profile_dataset("905", "3d_cascade_fullres", "nnUNetPlans", "cpu", 1)
    assert (profile.input_channels, profile.output_channels) == (4, 2)


def test_residual_plans_stand_beside_their_own_network(planned):
    profile = profile_dataset("905", "3d_residual", "nnUNetPlans", "cpu", 1)
    assert (profile.stock.network, profile.gsp.network) == ("ResidualEncoderUNet", "GSPUNet")
    plain = profile_dataset("905", "3d_residual", "mine", "cpu", 1)
    assert plain.stock.network == "PlainConvUNet"
    assert profile.stock.parameters > plain.stock.parameters
    assert counted(profile.gsp) == counted(plain.gsp)


# A template without a dataset


def planned_by_nnunet(folder, shape, monkeypatch):
    """Return the configuration that nnU-Net's own planner makes for images of this shape at isotropic spacing."""
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, str(folder / variable))
        (folder / variable / DATASET).mkdir(parents=True)
    write(
        folder / "nnUNet_raw" / DATASET / "dataset.json",
        {
            "channel_names": {"0": "T1"},
            "labels": {"background": 0, "tumour": 1},
            "numTraining": 1,
            "file_ending": ".nii.gz",
        },
    )
    (folder / "nnUNet_raw" / DATASET / "imagesTr").mkdir()
    write(
        folder / "nnUNet_preprocessed" / DATASET / "dataset_fingerprint.json",
        {"spacings": [[1] * len(shape)], "shapes_after_crop": [shape], "median_relative_size_after_cropping": 1},
    )
    planner = ExperimentPlanner(DATASET)
    # estimating memory is what takes the planner long, and these patches are small
    monkeypatch.setattr(planner, "static_estimate_VRAM_usage", lambda *_: 1)
    return planner.get_plans_for_configuration(np.ones(len(shape)), shape, "any", math.prod(shape), {})


@pytest.mark.parametrize("patch", [(128, 128, 128), (16, 64, 32), (96, 48, 80), (512, 256), (24, 96)])
def test_what_a_template_leaves_out_is_what_nnunet_plans(tmp_path, monkeypatch, patch):
    planned = planned_by_nnunet(tmp_path, patch, monkeypatch)
    without_data = profiling._planned_configuration(list(patch))
    assert tuple(without_data["patch_size"]) == tuple(planned["patch_size"])
    assert json.loads(json.dumps(without_data["architecture"])) == json.loads(json.dumps(planned["architecture"]))


def test_a_template_without_stages_takes_the_planned_ones():
    profile = profile_template(template(), [16, 8, 32], 1, 2, "cpu", 1)
    assert (profile.patch_size, profile.batch_size) == ((16, 8, 32), 2)
    # axes are halved down to 4 voxels, the last one alone only from 12 on
    parameters, macs = hand_count(1, 2, (16, 8, 32), (32, 64, 128), [(1, 1, 1), (2, 2, 2), (2, 1, 2)])
    assert (profile.gsp.parameters, profile.gsp.macs) == (parameters, macs)


def test_the_patch_asked_for_overrules_the_templates():
    settings = template(
        patch_size=[8, 16, 16],
        batch_size=3,
        features_per_stage=[8, 16],
        strides=[[1, 1, 1], [2, 2, 2]],
        n_conv_per_stage=2,
        n_conv_per_stage_decoder=2,
        use_mask_for_norm=True,
    )
    before = deepcopy(settings)
    assert profile_template(settings, None, 1, 2, "cpu", 1).patch_size == (8, 16, 16)
    profile = profile_template(settings, [6, 10, 4], 1, 2, "cpu", 1)
    assert (profile.patch_size, profile.batch_size) == ((6, 10, 4), 3)
    assert profile.gsp.macs == hand_count(1, 2, (6, 10, 4), (8, 16), isotropic(2))[1]
    assert settings == before


def test_a_templates_shifts_cost_no_parameter_no_mac_and_no_memory():
    shifted, still = (
        profile_template(template(shift_position=position), [16, 16, 16], 1, 2, "cpu", 1).gsp
        for position in ("CSC", "none")
    )
    assert counted(shifted) == counted(still)


# What is shown


def known():
    stock = NetworkCost(
        "PlainConvUNet", 31_199_796, 482_801_614_848, 965_603_229_696, 6 * 1024**3, Timing(900, 800, 1e3)
    )
    gsp = NetworkCost("GSPUNet", 1_332_084, 18_835_308_544, 37_670_617_088, 8 * 1024**3, Timing(300.0, 290.0, 310.0))
    return Profile(
        "template mine",
        4,
        3,
        (128, 128, 128),
        2,
        "cpu",
        5,
        {"machine": "m", "processor": "P", "threads": 2, "python": "3", "torch": "2"},
        stock,
        gsp,
    )


def test_the_table_shows_figures_ratios_and_conventions():
    lines = known().table().splitlines()
    assert lines[0] == "template mine: input 4×128×128×128 (channels × patch), 3 output channels"
    assert lines[1] == "cpu; P, 2 threads; Python 3, torch 2"
    assert lines[3:9] == [
        "                       PlainConvUNet (stock)              GSPUNet  stock / GSP",
        "parameters                           31.20 M               1.33 M       23.42×",
        "MACs                                482.80 G              18.84 G       25.63×",
        "FLOPs                               965.60 G              37.67 G       25.63×",
        "activations, batch 2                6.00 GiB             8.00 GiB        0.75×",
        "latency, ms (10-90 %)   900.0 (800.0-1000.0)  300.0 (290.0-310.0)        3.00×",
    ]
    assert [line.split(":")[0] for line in lines[10:]] == list(known().conventions)


def test_markdown_has_the_same_figures():
    lines = known().markdown().splitlines()
    assert lines[3:6] == [
        "|  | PlainConvUNet (stock) | GSPUNet | stock / GSP |",
        "|---|---:|---:|---:|",
        "| parameters | 31.20 M | 1.33 M | 23.42× |",
    ]
    assert [line.split()[1].rstrip(",") for line in lines[5:10]] == [
        "parameters",
        "MACs",
        "FLOPs",
        "activations",
        "latency",
    ]
    assert [line.split(":")[0] for line in lines[11:]] == [f"- {name}" for name in known().conventions]


def test_json_has_whole_figures():
    content = json.loads(json.dumps(known().to_dict()))
    assert content["stock"]["macs"] == 482_801_614_848
    assert content["gsp"]["latency"] == {"median_ms": 300.0, "low_ms": 290.0, "high_ms": 310.0}
    assert content["ratios"]["activation_bytes"] == 0.75
    assert content["ratios"]["latency"] == 3.0
    assert content["conventions"]["FLOPs"] == "2 per MAC."
    assert (content["patch_size"], content["environment"]["torch"]) == ([128, 128, 128], "2")


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("905", "3d_fullres", "nnUNetPlans", "cpu", 1), r"\(2d, 3d_lowres, .*got 3d_fullres; change configuration"),
        (
            ("905", "2d", "other", "cpu", 1),
            r"other\.json: expected plans, got no such file; run nnUNetv2_plan_and_preprocess -d 905",
        ),
        (("Dataset906_No", "2d", "nnUNetPlans", "cpu", 1), "got no such folder"),
        (("905", "2d", "nnUNetPlans", "tpu", 1), "Expected a tpu device, got none; torch finds cpu"),
        (("905", "2d", "nnUNetPlans", "cpu", 0), "at least 1 round, got 0"),
    ],
)
def test_what_is_not_there_is_named(planned, arguments, message):
    with pytest.raises(InputError, match=message):
        profile_dataset(*arguments)


def test_a_gpu_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError, match="Expected a cuda device, got none"):
        profile_template(template(), [16, 16, 16], 1, 2, "cuda", 1)


def test_a_missing_dataset_json_is_named(planned):
    (planned / "dataset.json").unlink()
    with pytest.raises(InputError, match=r"dataset\.json: expected .*, got no such file"):
        profile_dataset("905", "2d", "nnUNetPlans", "cpu", 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": [18, 24]}, "Dataset905_Profile, nnUNetPlans, 2d: The strides must divide the patch"),
        (
            {"patch_size": [16, 24, 24]},
            "Dataset905_Profile, nnUNetPlans, 2d: strides of stage 0 must be .* or 3 of them, one an axis",
        ),
        (
            {"architecture": {**stock_architecture((8, 16), isotropic(2)), "network_class_name": "somewhere.Primus"}},
            "GSP replaces the convolutions of .* name somewhere.Primus",
        ),
    ],
)
def test_plans_that_make_no_network_are_named(planned, changes, message):
    plans = stock_plans()
    plans["configurations"]["2d"].update(changes)
    write(planned / "nnUNetPlans.json", plans)
    with pytest.raises(InputError, match=message):
        profile_dataset("905", "2d", "nnUNetPlans", "cpu", 1)


def test_gsp_plans_whose_settings_do_not_fit_are_named(planned):
    plans = gsp_plans()
    plans["configurations"]["2d"]["architecture"]["arch_kwargs"]["shift_channels"] = [3, 3, 3]
    write(planned / "mine.json", plans)
    with pytest.raises(InputError, match="mine, 2d: shift_channels of stage 0 must be a multiple"):
        profile_dataset("905", "2d", "mine", "cpu", 1)


@pytest.mark.parametrize(
    ("settings", "patch", "message"),
    [
        ({}, None, "a patch size, which template mine leaves to a dataset's plans, got none; change patch_size"),
        ({}, [16], "2 or 3 positive sizes for template mine, got 16; change patch_size"),
        ({}, [16, 0, 16], "got 16×0×16"),
        ({"spatial_groups": [[2, 2, 2]]}, [16, 16], "a patch of 3 positive sizes for template mine, got 16×16"),
        ({}, [30, 32, 32], r"patch 30×32×32\); take a patch whose axes are multiples of 8×8×8, the product of"),
        (
            {
                "strides": [[1, 1, 1], [1, 2, 2]],
                "features_per_stage": [8, 8],
                "n_conv_per_stage": 2,
                "n_conv_per_stage_decoder": 2,
            },
            [5, 6, 7],
            "multiples of 1×2×2, the product of the strides",
        ),
        ({}, [8, 7, 4], "A U-Net needs at least two stages, got n_stages = 1"),
        (
            {
                "strides": [[1, 1, 1], [2, 2, 2]],
                "features_per_stage": [8, 8],
                "n_conv_per_stage": 2,
                "n_conv_per_stage_decoder": 2,
            },
            [2, 2, 2],
            "leaves one voxel after the last of 2 stages",
        ),
        ({"spatial_groups": [[2, 2, 2]]}, [16, 16, 16], "Template mine: "),
    ],
)
def test_a_patch_or_settings_that_do_not_fit_are_named(settings, patch, message):
    with pytest.raises(InputError, match=message):
        profile_template(template(**settings), patch, 1, 2, "cpu", 1)


@pytest.mark.parametrize(
    ("patch", "batch_size"),
    [
        ([2**24] * 2, 2),  # 2**50 bytes: beyond what a process can address, but countable
        ([16] * 3, 10**16),  # more bytes than 64 bits can count
    ],
)
def test_what_does_not_fit_into_memory_is_refused(patch, batch_size):
    with pytest.raises(InputError, match="Template mine: expected feature maps that fit into memory"):
        profile_template(template(batch_size=batch_size), patch, 1, 2, "cpu", 1)


def test_other_failures_of_pytorch_are_not_taken_for_a_lack_of_memory(monkeypatch):
    def fail(*_):
        raise RuntimeError("quite another thing")

    monkeypatch.setattr("nnunetv2_gsp.counting.interleaved", fail)
    with pytest.raises(RuntimeError, match="quite another thing"):
        profile_template(template(), [16] * 3, 1, 2, "cpu", 1)


@pytest.mark.parametrize(("n_channels", "n_classes"), [(0, 2), (1, 0)])
def test_no_channels_or_classes_are_named(n_channels, n_classes):
    with pytest.raises(InputError, match=f"got {n_channels} and {n_classes}"):
        profile_template(template(), [16, 16, 16], n_channels, n_classes, "cpu", 1)


@pytest.mark.parametrize(
    ("value", "base", "text"),
    [
        (0, 1000, "0.00"),
        (999, 1000, "999.00"),
        (999_994, 1000, "999.99 k"),
        (999_996, 1000, "1.00 M"),  # not 1000.00 k
        (31_195_784, 1000, "31.20 M"),
        (2**20 - 1, 1024, "1.00 M"),
        (5e12, 1000, "5000000.00 M"),
    ],
)
def test_a_number_is_given_in_the_unit_that_keeps_it_short(value, base, text):
    assert _scaled(value, base, ("", " k", " M")) == text
