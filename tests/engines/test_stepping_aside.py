"""Where PyTorch itself is wanted, or the network is no plain GSPUNet, the fused layers step aside."""

from functools import partial

import pytest
import torch
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.flop_counter import FlopCounterMode

from nnunetv2_gsp.ops import GroupShift, LocalShift, PointwiseConv3d
from tests.engines.networks import PATCH, assert_close, needs_build, plain, small_network, steps_aside


def unusual_networks():
    yield "training", small_network().train()
    yield "3×3×3", small_network(kernel=3)
    yield "another nonlinearity", small_network(nonlin=nn.GELU, nonlin_kwargs={})
    yield "another norm", small_network(norm_op=nn.BatchNorm3d)
    yield "norm after nonlinearity", small_network(nonlin_first=True)
    yield "fp64", small_network().double()
    yield "a hook", changed(lambda network: network.encoder.stages[0].register_forward_hook(lambda *_: None))
    yield "a hook before", changed(lambda network: network.decoder.register_forward_pre_hook(lambda *_: None))
    yield "a module in training", changed(lambda network: network.encoder.stages[1].convs[0].train())
    yield (
        "a method of one module",
        changed(
            lambda network: setattr(
                network.encoder.stages[0], "forward", lambda x, stage=network.encoder.stages[0].convs[0]: stage(x) + 1
            )
        ),
    )
    yield (
        "a class of one's own",
        changed(lambda network: setattr(network.encoder.stages[0].convs[0], "__class__", ConvolutionPlusOne)),
    )
    yield "a decoder of one's own", changed(lambda network: setattr(network, "decoder", FirstFeatures().eval()))
    yield (
        "two group shifts",
        changed(
            lambda network: network.encoder.stages[1].shifts.__setitem__(
                0, nn.Sequential(GroupShift((2, 2, 2), 8), GroupShift((2, 2, 2), 8)).eval()
            )
        ),
    )
    yield (
        "shifts of the same channels",
        changed(
            lambda network: network.encoder.stages[1].shifts.__setitem__(
                0, nn.Sequential(LocalShift(0, 6), GroupShift((2, 2, 2), 8)).eval()
            )
        ),
    )
    yield "weight norm", changed(lambda network: weight_norm(network.encoder.stages[0].convs[0].conv))
    yield "running statistics", small_network(norm_op_kwargs={"track_running_stats": True})
    yield (
        "half an interpolation",
        changed(lambda network: setattr(network.decoder.upsamplings[0].interpolation, "align_corners", True)),
    )


def changed(change):
    network = small_network()
    change(network)
    return network


class ConvolutionPlusOne(ConvDropoutNormReLU):
    seen = None

    def forward(self, x):
        if self.seen is not None:
            self.seen.append(1)
        return super().forward(x) + 1


class FirstFeatures(nn.Module):
    def forward(self, features):
        return features[0]


@needs_build
@pytest.mark.parametrize("network", [pytest.param(network, id=name) for name, network in unusual_networks()])
def test_networks_that_are_left_to_pytorch(network):
    image = torch.randn(1, 2, *PATCH)
    with torch.no_grad():
        assert not steps_aside(small_network(), image)
        assert steps_aside(network, image.to(next(network.parameters()).dtype))


@pytest.mark.parametrize("engine", ["auto", "plain"])
@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize("of", ["class", "instance"])
def test_a_layer_s_own_forward_runs(of, is_training, engine):
    network, image = small_network().train(is_training), torch.randn(1, 2, *PATCH)
    network.engine = engine
    layer, calls = network.encoder.stages[0].convs[0], []
    if of == "class":
        layer.__class__ = ConvolutionPlusOne
        layer.seen = calls
    else:
        own = layer.forward
        layer.forward = lambda x: calls.append(1) or own(x)
    with torch.set_grad_enabled(is_training):
        network(image)
    assert calls == [1]


def broken_networks():
    yield (
        "a smaller weight",
        lambda network: setattr(
            network.encoder.stages[1].convs[0].conv, "weight", nn.Parameter(torch.randn(16, 7, 1, 1, 1))
        ),
    )
    yield (
        "a smaller bias",
        lambda network: setattr(network.encoder.stages[1].convs[0].conv, "bias", nn.Parameter(torch.randn(15))),
    )
    yield (
        "a smaller norm",
        lambda network: setattr(
            network.encoder.stages[1].convs[0],
            "norm",
            network.encoder.stages[1].convs[0].all_modules.__setitem__(1, nn.InstanceNorm3d(15, affine=True)),
        ),
    )
    yield "a narrower head", lambda network: network.decoder.seg_layers.__setitem__(-1, nn.Conv3d(7, 3, 1).eval())
    yield "another width", lambda network: network.encoder.stages.__setitem__(1, nn.Identity())
    yield (
        "more groups than channels",
        lambda network: setattr(network.encoder.stages[1].shifts[0], "shift_channels", 24),
    )
    yield (
        "groups that do not divide",
        lambda network: setattr(network.encoder.stages[1].shifts[0], "spatial_groups", (3, 1, 1)),
    )
    yield "groups of a plane", lambda network: setattr(network.encoder.stages[1].shifts[0], "spatial_groups", (2, 2))


def assert_says_what_pytorch_says(network, image):
    said = []
    for compute in (network, partial(plain, network)):
        with torch.no_grad(), pytest.raises((RuntimeError, ValueError, AttributeError)) as refused:
            compute(image)
        said.append((refused.type, str(refused.value)))
    assert said[0] == said[1]


@needs_build
@pytest.mark.parametrize("change", [pytest.param(change, id=name) for name, change in broken_networks()])
def test_pytorch_says_what_is_wrong_with_a_network(change):
    network = small_network()
    change(network)
    assert_says_what_pytorch_says(network, torch.randn(1, 2, *PATCH))


@needs_build
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda image: image.double(), id="fp64"),
        pytest.param(lambda image: image[:0], id="an empty batch"),
        pytest.param(lambda image: image[..., :30], id="a size that groups do not divide"),
        pytest.param(lambda image: image[:, :1], id="a channel too few"),
    ],
)
def test_pytorch_says_what_is_wrong_with_an_image(change):
    assert_says_what_pytorch_says(small_network(), change(torch.randn(1, 2, *PATCH)))


@needs_build
def test_calls_that_are_left_to_pytorch():
    network, image = small_network(), torch.randn(1, 2, *PATCH)
    assert steps_aside(network, image)  # gradients
    with torch.no_grad():
        assert not steps_aside(network, image)
        assert steps_aside(network, torch._efficientzerotensor(image.shape))  # it has no memory
        assert steps_aside(network, nn.Parameter(image))
        with torch.autocast("cpu", torch.bfloat16):
            assert steps_aside(network, image)
        with FlopCounterMode(display=False) as counter:
            network(image)
        assert counter.get_total_flops() > 0


def test_a_hook_of_all_modules_is_called():
    network, image, seen = small_network(), torch.randn(1, 2, *PATCH), []
    hook = nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(type(module)))
    try:
        with torch.no_grad():
            network(image)
    finally:
        hook.remove()
    assert PointwiseConv3d in seen


def test_a_torch_that_lacks_a_private_name_predicts(monkeypatch):
    monkeypatch.delattr(torch._C, "_len_torch_function_stack")
    network, image = small_network(), torch.randn(1, 2, *PATCH)
    with torch.no_grad():
        assert torch.equal(network(image), plain(network, image))


@pytest.mark.filterwarnings("ignore")
def test_tracing_and_vmap_see_pytorch_s_operators():
    network, image = small_network(), torch.randn(1, 2, *PATCH)
    with torch.no_grad():
        expected = plain(network, image)
        assert_close(torch.jit.trace(network, torch.randn_like(image))(image), expected)
        assert_close(torch.vmap(network)(image[None])[0], expected)
        exported = torch.export.export(network, (image,))
        assert_close(exported.module()(image), expected)
