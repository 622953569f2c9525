"""A block against its layers in plain PyTorch, with the shifts of the paper's equations where Fig. 2 has them."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, instance_norm, leaky_relu

from nnunetv2_gsp.architectures.blocks import GSPConvBlock, is_shifted_after, shift_or_identity
from nnunetv2_gsp.ops import GroupShift, LocalShift
from nnunetv2_gsp.ops.reference import group_shift_reference, local_shift_reference
from tests.architectures.networks import gsp_unet, isotropic

# Fig. 2: C is a convolution with norm and nonlinearity, S a shift; blocks of one, two and three convolutions
FIGURE_2 = {
    "none": ("C", "CC", "CCC"),
    "CSC": ("C", "CSC", "CSCSC"),
    "CCS": ("CS", "CCS", "CCCS"),
    "CSCS": ("CS", "CSCS", "CSCSCS"),
    "CSCSUpShift": ("CS", "CSCS", "CSCSCS"),
}
CONVOLUTION = {
    "conv_op": nn.Conv2d,
    "kernel_size": 1,
    "stride": 1,
    "conv_bias": True,
    "norm_op": nn.InstanceNorm2d,
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "nonlin": nn.LeakyReLU,
    "nonlin_kwargs": {"negative_slope": 0.1},
}


def block_of(n_convolutions, position):
    torch.manual_seed(0)
    block = GSPConvBlock(n_convolutions, 3, 10, lambda: shift_or_identity((2, 2), 4, 4), position, CONVOLUTION)
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    return block.double()


@pytest.mark.parametrize(("position", "n_convolutions"), [*itertools.product(FIGURE_2, (1, 2, 3))])
def test_a_block_computes_what_figure_2_draws(position, n_convolutions):
    block = block_of(n_convolutions, position)
    expected = x = torch.randn(2, 3, 4, 6, dtype=torch.float64)
    parameters = iter(block.parameters())
    for letter in FIGURE_2[position][n_convolutions - 1]:
        if letter == "C":
            weight, bias, scale, offset = itertools.islice(parameters, 4)
            normed = instance_norm(conv2d(expected, weight, bias), weight=scale, bias=offset, eps=1e-5)
            expected = leaky_relu(normed, 0.1)
        else:
            expected = local_shift_reference(group_shift_reference(expected, (2, 2), 4), 4, 4)
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("position", FIGURE_2)
def test_a_shift_follows_where_figure_2_has_one(position):
    for n_convolutions, drawn in enumerate(FIGURE_2[position], 1):
        letters = "".join("CS" if is_shifted_after(i, n_convolutions, position) else "C" for i in range(n_convolutions))
        assert letters == drawn


def test_weights_have_the_same_names_wherever_the_shifts_are():
    names = {position: list(block_of(2, position).state_dict()) for position in FIGURE_2}
    assert all(each == names["none"] for each in names.values())


@pytest.mark.parametrize("n_convolutions", [1, 3])
@pytest.mark.parametrize("size", [(4, 6), (2, 2)])
def test_elements_are_counted_as_a_hook_counts_them(n_convolutions, size):
    block, elements = block_of(n_convolutions, "CSC"), []
    for layer in block.convs:
        layer.conv.register_forward_hook(lambda _, __, output: elements.append(output.numel()))
    block(torch.zeros(1, 3, *size, dtype=torch.float64))
    assert block.compute_conv_feature_map_size(size) == sum(elements)


@pytest.mark.parametrize(
    ("groups", "shifted", "local", "kinds"),
    [
        ((2, 2), 4, 0, [GroupShift]),
        ((2, 1), 2, 0, [GroupShift]),
        ((1, 1), 4, 0, []),  # a single block, which moves to itself
        ((2, 2), 0, 0, []),
        ((1, 1), 4, 4, [LocalShift]),
        ((2, 2), 0, 4, [LocalShift]),
        ((2, 2), 4, 4, [GroupShift, LocalShift]),
    ],
)
def test_what_moves_is_what_there_is_a_module_for(groups, shifted, local, kinds):
    module = shift_or_identity(groups, shifted, local)
    assert [type(each) for each in module.modules() if not isinstance(each, nn.Sequential)] == kinds
    x = torch.arange(2 * 9 * 4 * 6).reshape(2, 9, 4, 6)
    expected = group_shift_reference(x, groups, shifted) if shifted else x
    expected = local_shift_reference(expected, shifted, local) if local else expected
    assert torch.equal(module(x), expected)
    if not kinds:
        assert module(x) is x


def test_with_a_local_shift_alone_a_voxel_sees_its_neighbours():
    torch.manual_seed(0)
    network = gsp_unet(
        (8, 8, 8),
        (8, 8),
        isotropic(2),
        input_channels=1,
        shift_channels=[0, 0],
        local_shift_channels=[6, 6],
        norm_op=None,
        shift_location="encoder",
    )
    x = torch.randn(1, 1, 8, 8, 8, requires_grad=True)
    network.encoder.stages[0](x)[0, :, 3, 3, 3].sum().backward()
    offsets = {tuple(int(i) - 3 for i in voxel) for voxel in x.grad[0, 0].nonzero()}
    assert offsets == {(0, 0, 0), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)}
