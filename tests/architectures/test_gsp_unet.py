import itertools
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import torchinfo
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nnunetv2_gsp.architectures import GSPUNet
from nnunetv2_gsp.ops import GroupShift
from nnunetv2_gsp.plans import with_shifts, with_topology
from nnunetv2_gsp.plans_templates import load_template
from tests.architectures.networks import gsp_unet, isotropic, located, stock_architecture

NETWORKS = {
    "3 stages": ((8, 8, 8), (8, 16, 16), isotropic(3)),
    "anisotropic": ((4, 24, 16), (8, 16, 16), [(1, 1, 1), (1, 2, 2), (2, 2, 2)]),
    "strides of 3 and 4": ((9, 16, 8), (8, 8, 8), [(1, 1, 1), (3, 2, 1), (1, 4, 2)]),
    "2d": ((16, 24), (8, 16, 16), isotropic(3, dim=2)),
    "8 stages": ((256, 256), (8,) * 8, isotropic(8, dim=2)),
}


@pytest.fixture(params=NETWORKS, ids=str)
def description(request):
    return NETWORKS[request.param]


def test_logits_have_the_planned_sizes_with_and_without_deep_supervision(description):
    patch_size, features, strides = description
    network = gsp_unet(patch_size, features, strides, deep_supervision=True)
    logits = network(torch.randn(2, 2, *patch_size))
    scales = np.cumprod(np.vstack(strides), axis=0)[:-1]  # as nnU-Net's deep supervision computes them
    assert [tuple(level.shape) for level in logits] == [
        (2, 3, *(int(voxels) for voxels in patch_size // scale)) for scale in scales
    ]
    network.decoder.deep_supervision = False
    assert network(torch.randn(2, 2, *patch_size)).shape == (2, 3, *patch_size)


def test_every_parameter_gets_a_gradient(description):
    patch_size, features, strides = description
    network = gsp_unet(patch_size, features, strides, deep_supervision=True)
    sum(level.square().mean() for level in network(torch.randn(2, 2, *patch_size))).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())


def test_everything_learnable_is_pointwise_but_norms(description):
    patch_size, features, strides = description
    for module in gsp_unet(patch_size, features, strides).modules():
        if list(module.parameters(recurse=False)):
            assert isinstance(module, nn.InstanceNorm2d | nn.InstanceNorm3d) or set(module.kernel_size) == {1}


def test_feature_map_elements_are_counted_as_hooks_count_them(description):
    patch_size, features, strides = description
    for deep_supervision in (True, False):
        network = gsp_unet(patch_size, features, strides, deep_supervision=deep_supervision)
        assert network.compute_conv_feature_map_size(patch_size) == elements_of_convolutions(network, patch_size)


def elements_of_convolutions(network, patch_size):
    elements = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            module.register_forward_hook(lambda _, __, output: elements.append(output.numel()))
    network(torch.zeros(1, 2, *patch_size))
    return sum(elements)


def test_takes_stock_arch_kwargs_as_they_are():
    """What nnU-Net passes to its own network builds ours, with only the groups added."""
    kwargs = located(
        stock_architecture(
            (8, 16, 16), isotropic(3), dropout_op="torch.nn.Dropout3d", dropout_op_kwargs={"p": 0.5}, conv_bias=False
        )
    )
    network = GSPUNet(input_channels=1, num_classes=2, **kwargs, spatial_groups=[(1, 1, 1), (2, 2, 2), (1, 2, 2)])
    assert sum(isinstance(module, nn.Dropout3d) for module in set(network.modules())) == 12
    assert [conv.bias is None for conv in network.modules() if isinstance(conv, nn.Conv3d)].count(False) == 2  # heads


def test_kernel_3_is_the_papers_3d_fcn_with_everything_else_equal(description):
    """Every convolution but the heads has 3×3×3 weights; the weights are named as in the pointwise network."""
    patch_size, features, strides = description
    pointwise, conv3d = (
        gsp_unet(patch_size, features, strides, shift_position="none", kernel=kernel) for kernel in (1, 3)
    )
    weights = pointwise.state_dict()
    n_taps = 3 ** len(patch_size)
    for name, weight in conv3d.state_dict().items():
        is_kernel = weight.ndim > 1 and "seg_layers" not in name
        assert weight.numel() == weights[name].numel() * (n_taps if is_kernel else 1)
    assert conv3d(torch.randn(1, 2, *patch_size)).shape == (1, 3, *patch_size)


def test_local_shift_stands_behind_the_group_shift_at_the_same_places():
    network = gsp_unet((8, 8, 8), (16, 32, 32), isotropic(3), local_shift_channels=[6, 12, 0])
    for index, stage in enumerate(network.encoder.stages):
        shift, after_last = stage.shifts
        assert isinstance(after_last, nn.Identity)
        if index == 2:
            assert isinstance(shift, GroupShift)
        else:
            group, local = shift
            assert (group.shift_channels, local.first_channel) == (network.shift_settings.shift_channels[index],) * 2
            assert local.shift_channels == [6, 12][index]
    plain = gsp_unet((8, 8, 8), (16, 32, 32), isotropic(3))
    assert {name: value.shape for name, value in plain.state_dict().items() if name != "gsp_settings"} == {
        name: value.shape for name, value in network.state_dict().items() if name != "gsp_settings"
    }


def shift_positions(block):
    return "".join("CS" if isinstance(shift, GroupShift) else "C" for shift in block.shifts)


@pytest.mark.parametrize(
    ("position", "block"), [("none", "CC"), ("CSC", "CSC"), ("CCS", "CCS"), ("CSCS", "CSCS"), ("CSCSUpShift", "CSCS")]
)
@pytest.mark.parametrize("location", ["encoder", "decoder", "both"])
def test_shifts_stand_where_figure_2_has_them(position, block, location):
    network = gsp_unet((8, 8, 8), (16, 16, 16), isotropic(3), shift_position=position, shift_location=location)
    in_encoder, in_decoder = location != "decoder", location != "encoder"
    assert {shift_positions(stage) for stage in network.encoder.stages} == {block if in_encoder else "CC"}
    assert {shift_positions(stage) for stage in network.decoder.stages} == {block if in_decoder else "CC"}
    assert all(
        isinstance(upsampling.shift, GroupShift) == (position == "CSCSUpShift" and in_decoder)
        for upsampling in network.decoder.upsamplings
    )


def test_shift_has_the_groups_of_its_map():
    """Every shift runs on a map that its groups divide, at its own resolution in encoder and decoder alike."""
    network = gsp_unet((16, 32, 32), (32, 64, 64), isotropic(3), shift_position="CSCSUpShift")
    seen = []
    for module in network.modules():
        if isinstance(module, GroupShift):
            module.register_forward_hook(
                lambda shift, inputs, _: seen.append(
                    (tuple(inputs[0].shape[2:]), shift.spatial_groups, shift.shift_channels)
                )
            )
    network(torch.zeros(1, 2, 16, 32, 32))
    per_map = {(16, 32, 32): ((1, 4, 4), 16), (8, 16, 16): ((2, 4, 4), 32), (4, 8, 8): ((2, 4, 4), 32)}
    assert len(seen) == 3 * 2 + 2 * 3
    assert all(per_map[size] == (groups, shifted) for size, groups, shifted in seen)


def test_a_voxel_sees_its_counterparts_in_other_blocks_and_without_shift_only_itself():
    def receptive_field(position):
        torch.manual_seed(0)
        network = gsp_unet((8, 8, 8), (16, 16), isotropic(2), input_channels=1, shift_position=position, norm_op=None)
        x = torch.randn(1, 1, 8, 8, 8, requires_grad=True)
        network(x)[0, 0, 1, 1, 1].backward()
        return x.grad[0, 0] != 0

    far = receptive_field("CSC")
    assert all(far[1 + d, 1 + h, 1 + w] for d, h, w in itertools.product((0, 4), repeat=3))
    # interpolation reaches two low-resolution voxels, each the maximum of 2×2×2 voxels
    assert not receptive_field("none")[4:].any()


def test_parameters_and_macs_beside_stock():
    """At 4×128³ and nnU-Net's widths: 31.2 M and 482.8 GMACs become 1.33 M and 18.8 GMACs."""
    architecture = stock_architecture((32, 64, 128, 256, 320, 320), isotropic(6))
    with torch.device("meta"):
        stock = PlainConvUNet(input_channels=4, num_classes=4, **located(architecture))
        x = torch.empty(1, 4, 128, 128, 128)
    gsp = gsp_unet((128,) * 3, (32, 64, 128, 256, 320, 320), isotropic(6), input_channels=4, num_classes=4).to("meta")

    def cost(network):
        with FlopCounterMode(display=False) as counter:
            network(x)
        return sum(p.numel() for p in network.parameters()) / 1e6, counter.get_total_flops() / 2e9

    assert cost(stock) == pytest.approx((31.2, 482.8), abs=0.05)
    assert cost(gsp) == pytest.approx((1.332, 18.84), abs=0.005)


@pytest.mark.parametrize("patch", [[64, 128, 128], [128, 128, 128]])
def test_the_tiny_network_costs_no_more_than_table_3_says(patch):
    """At most 0.25 M parameters and, at 4×128³, 7.91 GMACs; by torch's counter and by torchinfo."""
    template = load_template("brats18_csc_dec", {"patch_size": patch})
    stock = {
        "architecture": stock_architecture((32, 64, 128, 256, 320, 320), isotropic(6)),
        "patch_size": [128] * 3,
        "use_mask_for_norm": [True] * 4,
    }
    configuration = with_shifts(with_topology(stock, template), template)
    assert configuration["patch_size"] == patch
    with torch.device("meta"):
        network = GSPUNet(input_channels=4, num_classes=4, **located(configuration["architecture"]))
        x = torch.empty(1, 4, *patch)
    with FlopCounterMode(display=False) as counter:
        network(x)
    macs = counter.get_total_flops() / 2
    other_counter = torchinfo.summary(network, input_data=x, device="meta", verbose=0)
    assert sum(p.numel() for p in network.parameters()) == other_counter.total_params <= 0.25e6
    assert macs <= 7.91e9
    assert macs <= other_counter.total_mult_adds <= 1.05 * macs  # it counts biases and norms too


class Doubled(GSPUNet):
    """A network with a forward of its own."""

    def forward(self, x):
        return 2 * super().forward(x)


def tripled(module, inputs, logits):
    return 3 * logits if isinstance(module, GSPUNet) else None


@contextmanager
def usual(network):
    yield


@contextmanager
def of_a_subclass(network):
    network.__class__ = Doubled
    yield


@contextmanager
def hooked(network):
    with network.register_forward_hook(tripled):
        yield


@contextmanager
def with_a_hook_of_all_modules(network):
    with nn.modules.module.register_module_forward_hook(tripled):
        yield


@contextmanager
def compiled_in_place(network):
    torch._dynamo.reset()
    network.compile(fullgraph=True, backend=lambda graph, _: lambda *inputs: [3 * each for each in graph(*inputs)])
    yield


@pytest.mark.parametrize(
    ("changed", "factor"),
    [(usual, 1), (of_a_subclass, 2), (hooked, 3), (with_a_hook_of_all_modules, 3), (compiled_in_place, 3)],
)
def test_logits_that_are_added_are_those_of_a_call(changed, factor):
    patch = (8, 16, 8)
    network, image = gsp_unet(patch, [8, 16], isotropic(2)).eval(), torch.randn(1, 2, *patch)
    sums, weights = torch.ones(3, *patch), torch.rand(patch)
    with torch.no_grad():
        expected = 1 + factor * weights * network(image)[0].flip(1, 3)
        with changed(network):
            network.add_logits(image, weights, sums, mirrored=(0, 2))
    assert torch.allclose(sums, expected, atol=1e-4)


def test_weights_load_strictly_from_deep_supervision_to_none():
    trained = gsp_unet((8, 8, 8), (8, 16), isotropic(2), deep_supervision=True)
    inference = gsp_unet((8, 8, 8), (8, 16), isotropic(2), deep_supervision=False)
    inference.load_state_dict(trained.state_dict(), strict=True)
    x = torch.randn(1, 2, 8, 8, 8)
    assert torch.equal(trained(x)[0], inference(x))


@pytest.mark.parametrize(
    "other",
    [
        {"shift_position": "CCS"},
        {"shift_location": "decoder"},
        {"spatial_groups": [(2, 1, 2), (2, 2, 2)]},
        {"shift_channels": [0, 8]},
        {"shift_channels": [0, 8], "local_shift_channels": [6, 0]},
    ],
)
def test_weights_of_other_settings_are_refused_in_a_sentence_that_names_both(other):
    network = gsp_unet((8, 8, 8), (8, 16), isotropic(2))
    foreign = gsp_unet((8, 8, 8), (8, 16), isotropic(2), **other)
    assert {name: value.shape for name, value in network.state_dict().items() if name != "gsp_settings"} == {
        name: value.shape for name, value in foreign.state_dict().items() if name != "gsp_settings"
    }  # only it can tell
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ValueError, match="other GSP settings") as refusal:
        network.load_state_dict(foreign.state_dict())
    assert str(foreign.shift_settings) in str(refusal.value)
    assert str(network.shift_settings) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_initialised_as_stock():
    torch.manual_seed(0)
    network = gsp_unet((8, 8, 8), (64, 64), isotropic(2))
    network.apply(network.initialize)
    second = network.encoder.stages[0].convs[1].conv
    assert second.weight.std().item() == pytest.approx((2 / (1 + 1e-4) / 64) ** 0.5, rel=0.05)  # He et al. 2015, Eq. 15
    assert not second.bias.any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spatial_groups": [(2, 2, 2)]}, r"spatial_groups must have one entry a stage, 2 here, got \[\(2, 2, 2\)\]"),
        ({"local_shift_channels": [6]}, r"local_shift_channels must have one entry a stage, 2 here, got \[6\]"),
        ({"local_shift_channels": [0, 4]}, "stage 1 must be a multiple of 6"),
        ({"local_shift_channels": [6, 0]}, r"from 0 to 4 \(the channels behind shift_channels\), got 6"),
        ({"kernel": 5}, "kernel must be one of 1, 3, got 5"),
        ({"spatial_groups": [(2, 2), (2, 2)]}, "3 positive counts"),
        ({"shift_channels": [3, 8]}, "multiple of 4"),
        ({"shift_channels": [16, 8], "features_per_stage": [8, 16]}, "from 0 to 8, got 16"),
        ({"shift_position": "SCS"}, "CSCSUpShift, got 'SCS'"),
        ({"shift_location": "everywhere"}, "encoder, decoder, both, got 'everywhere'"),
        ({"n_conv_per_stage": [2, 2, 2]}, r"n_conv_per_stage must have one entry a stage, 2 here, got \[2, 2, 2\]"),
    ],
)
def test_settings_that_do_not_fit_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        gsp_unet((8, 8, 8), (8, 16), isotropic(2), **changes)


def test_an_input_that_the_groups_do_not_divide_is_named():
    with pytest.raises(ValueError, match="divide the map"):
        gsp_unet((8, 8, 8), (16, 16), isotropic(2))(torch.zeros(1, 2, 10, 10, 9))


@pytest.mark.parametrize("training", [True, False])
def test_compiles_without_graph_breaks(training):
    network = gsp_unet((8, 8, 8), (16, 16), isotropic(2), deep_supervision=training).train(training)
    x = torch.randn(1, 2, 8, 8, 8)
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    expected, got = network(x), compiled(x)
    torch.testing.assert_close(got, expected)
