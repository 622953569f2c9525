"""What a network is built from, beside the arguments of `GSPUNet` and of dynamic-network-architectures' own network."""

import inspect
from dataclasses import FrozenInstanceError, fields

import pytest
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from torch import nn

from nnunetv2_gsp.architectures import GSPUNet
from nnunetv2_gsp.architectures.architecture import Architecture, Operators, Stages, entry_schemas
from nnunetv2_gsp.architectures.settings import ShiftSettings


def parameters_of(network):
    return set(inspect.signature(network).parameters)


def stages(**changes):
    given = {
        "n_stages": 3,
        "features_per_stage": 16,
        "strides": [1, (2, 1), 2],
        "n_conv_per_stage": 2,
        "n_conv_per_stage_decoder": [1, 2],
    }
    return Stages.checked(2, **{**given, **changes})


def test_every_entry_is_an_argument_of_the_network_by_its_name():
    operators = {field.name for field in fields(Operators)}
    of_the_call = {"input_channels", "num_classes", "deep_supervision"}
    assert {*entry_schemas(), *operators, *of_the_call, "kernel_sizes"} == parameters_of(GSPUNet)
    assert operators < parameters_of(PlainConvUNet)
    assert {field.name for field in fields(Stages)} < parameters_of(PlainConvUNet)


def test_one_number_counts_for_every_stage_and_axis():
    assert stages() == Stages((16, 16, 16), ((1, 1), (2, 1), (2, 2)), (2, 2, 2), (1, 2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_stages": 1}, "A U-Net needs at least two stages, got n_stages = 1"),
        (
            {"n_stages": 10**12, "features_per_stage": [16] * 3},
            "strides must have one entry a stage, 1000000000000 here",
        ),
        ({"features_per_stage": [16, 0, 16]}, "features_per_stage of stage 1 must be a whole number from 1 on, got 0"),
        ({"features_per_stage": 0}, "features_per_stage of stage 0 must be a whole number from 1 on, got 0"),
        ({"features_per_stage": "16"}, "features_per_stage must have one entry a stage, 3 here, got '16'"),
        ({"strides": [1, (2, 2, 2), 2]}, r"strides of stage 1 must be a whole number from 1 on, or 2 of them, .* got"),
        ({"n_conv_per_stage": 2.0}, "n_conv_per_stage must have one entry a stage, 3 here, got 2.0"),
        ({"n_conv_per_stage_decoder": [2, 2, 2]}, "n_conv_per_stage_decoder must have one entry a stage, 2 here"),
    ],
)
def test_stages_that_make_no_network(changes, message):
    with pytest.raises(ValueError, match=message) as refusal:
        stages(**changes)
    assert "\n" not in str(refusal.value)


def test_an_architecture_does_not_change():
    architecture = Architecture(stages(), ShiftSettings(((1, 1),) * 3, (0,) * 3, "CSC", "both", (0,) * 3))
    with pytest.raises(FrozenInstanceError):
        architecture.kernel = 3


@pytest.mark.parametrize("kernel", [1, 3])
def test_operators_are_those_of_a_convolution_block(kernel):
    operators = Operators(
        nn.Conv3d, True, nn.InstanceNorm3d, {"eps": 1e-5}, None, None, nn.LeakyReLU, {"inplace": True}, False
    )
    block = ConvDropoutNormReLU(input_channels=2, output_channels=3, **operators.of_convolution(kernel))
    assert isinstance(block.conv, nn.Conv3d)
    assert block.conv.kernel_size == (kernel,) * 3
    assert block.conv.stride == (1, 1, 1)
    assert isinstance(block.norm, nn.InstanceNorm3d)
    assert isinstance(block.nonlin, nn.LeakyReLU)
