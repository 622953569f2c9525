"""What the engines that compute layers themselves take of a module, and what they leave to others."""

import pytest
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from torch import nn

from nnunetv2_gsp.engines.engine import NotApplicable
from nnunetv2_gsp.engines.known import (
    check_modules,
    check_pointwise,
    norm_and_nonlinearity,
    pooling_stride,
    shifts_in,
    whole_factors,
)
from nnunetv2_gsp.ops import GroupShift, LinearUpsampling, LocalShift, SteadyInstanceNorm2d
from tests.engines.networks import small_network


def refused(reason):
    return pytest.raises(NotApplicable, match=reason)


@pytest.mark.parametrize(
    "convolution",
    [
        nn.Conv2d(4, 8, 1),
        nn.Conv3d(4, 8, 3, padding=1),
        nn.Conv3d(4, 8, 1, stride=(1, 1, 2)),
        nn.Conv3d(4, 8, 1, padding=1),
        nn.Conv3d(4, 8, 1, padding="same"),
        nn.Conv3d(4, 8, 1, groups=2),
        nn.ConvTranspose3d(4, 8, 1),
        nn.Identity(),
    ],
    ids=str,
)
def test_other_convolutions_than_pointwise_ones(convolution):
    check_pointwise(nn.Conv3d(4, 8, 1), 4, n_axes=3)
    with refused(type(convolution).__name__):
        check_pointwise(convolution, 4, n_axes=3)


def test_a_convolution_of_other_channels():
    with refused("a convolution of 4 channels for a map of 5"):
        check_pointwise(nn.Conv2d(4, 8, 1), 5, n_axes=2)


def layer_of(**changes):
    return ConvDropoutNormReLU(nn.Conv2d, 4, 8, 1, 1, **{"nonlin": nn.LeakyReLU, **changes})


@pytest.mark.parametrize("norm", [None, SteadyInstanceNorm2d])
@pytest.mark.parametrize("nonlinearity", [None, nn.ReLU, nn.LeakyReLU])
@pytest.mark.parametrize("dropout", [None, nn.Dropout2d])
def test_what_follows_a_convolution(norm, nonlinearity, dropout):
    layer = layer_of(norm_op=norm, nonlin=nonlinearity, dropout_op=dropout, dropout_op_kwargs={"p": 0.5}).eval()
    expected = getattr(layer, "norm", None), getattr(layer, "nonlin", None)
    assert norm_and_nonlinearity(layer, n_axes=2) == expected


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"norm_op": nn.BatchNorm2d}, "BatchNorm2d"),
        ({"norm_op": nn.InstanceNorm2d}, "InstanceNorm2d"),  # which makes noise of constant maps
        ({"norm_op": SteadyInstanceNorm2d, "norm_op_kwargs": {"track_running_stats": True}}, "track_running_stats"),
        ({"nonlin": nn.GELU}, "GELU"),
        ({"nonlin_first": True, "norm_op": SteadyInstanceNorm2d}, "LeakyReLU"),
        ({"dropout_op": nn.Dropout2d, "dropout_op_kwargs": {"p": 0.5}}, "Dropout2d"),
    ],
    ids=str,
)
def test_layers_of_other_modules(changes, reason):
    with refused(reason):
        norm_and_nonlinearity(layer_of(**changes), n_axes=2)


def test_poolings():
    assert pooling_stride(nn.MaxPool3d((1, 2, 3), (1, 2, 3)), (5, 4, 9)) == (1, 2, 3)
    assert pooling_stride(nn.MaxPool2d(2), (4, 6)) == (2, 2)


@pytest.mark.parametrize(
    "pool",
    [
        nn.AvgPool2d(2),
        nn.MaxPool3d(2),
        nn.MaxPool2d(3, stride=2),
        nn.MaxPool2d(2, padding=1),
        nn.MaxPool2d(2, dilation=(1, 2)),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.MaxPool2d(2, return_indices=True),
        nn.MaxPool2d(3),
    ],
    ids=str,
)
def test_poolings_that_are_no_maxima_of_equal_blocks(pool):
    with refused("Pool|pooling"):
        pooling_stride(pool, (4, 8))


def test_interpolations():
    assert whole_factors(LinearUpsampling(scale_factor=(1.0, 2.0, 3.0), mode="trilinear"), n_axes=3) == (1, 2, 3)


@pytest.mark.parametrize(
    "interpolation",
    [
        LinearUpsampling(scale_factor=(1.5, 2.0), mode="bilinear"),
        LinearUpsampling(scale_factor=2.0, mode="bilinear"),
        LinearUpsampling(scale_factor=(2.0, 2.0), mode="nearest"),
        LinearUpsampling(scale_factor=(2.0, 2.0), mode="bilinear", align_corners=True),
        LinearUpsampling(scale_factor=(2.0, 2.0, 2.0), mode="trilinear"),
        LinearUpsampling(size=(4, 4), mode="bilinear"),
        nn.Upsample(scale_factor=(2.0, 2.0), mode="bilinear"),
    ],
    ids=str,
)
def test_other_interpolations(interpolation):
    with refused(type(interpolation).__name__):
        whole_factors(interpolation, n_axes=2)


def test_shifts_in_any_order():
    group_shift, local_shift = GroupShift((2, 2), 4), LocalShift(4, 4)
    for parts in ([group_shift, local_shift], [local_shift, nn.Identity(), group_shift]):
        assert shifts_in(nn.Sequential(*parts), 8, (4, 6)) == (group_shift, local_shift)
    assert shifts_in(nn.Identity(), 8, (4, 6)) == (None, None)
    assert shifts_in(local_shift, 8, (4, 6)) == (None, local_shift)


@pytest.mark.parametrize(
    "shift",
    [
        GroupShift((2, 2, 1), 4),
        GroupShift((3, 2), 6),
        GroupShift((2, 2), 12),
        LocalShift(6, 4),
        LocalShift(4, 6),
        nn.Sequential(GroupShift((2, 2), 4), GroupShift((2, 2), 4)),
        nn.Sequential(LocalShift(0, 4), LocalShift(4, 4)),
        nn.Sequential(GroupShift((2, 2), 4), LocalShift(2, 4)),
        nn.ReLU(),
    ],
    ids=str,
)
def test_shifts_that_do_not_fit_or_meet(shift):
    with refused("Shift|ReLU"):
        shifts_in(shift, 8, (4, 8))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda network: network.decoder.register_forward_pre_hook(lambda *_: None), "hooks .* in GSPDecoder"),
        (lambda network: setattr(network.encoder, "forward", lambda x: x), "a forward of its own in GSPEncoder"),
        (lambda network: setattr(network.encoder.pools[1], "forward", lambda x: x), "of its own in MaxPool3d"),
        (lambda network: network.encoder.stages.append(Elsewhere()), "Elsewhere"),
    ],
)
def test_code_that_an_engine_would_not_run(change, reason):
    network = small_network()
    network.register_forward_hook(lambda *_: None)  # which sees one call, whoever computes it
    check_modules(network)
    change(network)
    with refused(reason):
        check_modules(network)


class Elsewhere(nn.Module):
    """A module of nobody that is known."""
