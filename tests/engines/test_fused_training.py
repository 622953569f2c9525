"""A fused training step has PyTorch's gradients, keeps less, and leaves to PyTorch what it does not know."""

import copy
import gc
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, grad
from torch.utils.flop_counter import FlopCounterMode

from nnunetv2_gsp.architectures.settings import SHIFT_LOCATIONS, SHIFT_POSITIONS
from nnunetv2_gsp.counting import count_activation_bytes
from nnunetv2_gsp.engines import choice, computed_by, fused_training
from nnunetv2_gsp.ops.instance_norm import SteadyInstanceNorm3d
from tests.architectures.networks import gsp_unet, isotropic, located, stock_architecture
from tests.conftest import torch_threads
from tests.engines.networks import (
    PATCH,
    as_list,
    by_engine,
    needs_build,
    networks_and_images,
    small_network,
    with_random_parameters,
)
from tests.engines.test_memory import resident_bytes

pytestmark = needs_build


def gradients(network, image, engine="fused_training", weights=None):
    """Return the logits and the gradients of the image and of every parameter, None where there is none."""
    image = image.clone().requires_grad_()
    network.zero_grad()
    logits = as_list(by_engine(engine, network, image))
    generator = torch.Generator().manual_seed(1)
    loss = 0
    for weight, level in zip(weights or [1] * len(logits), logits, strict=True):
        direction = torch.randn(level.shape, generator=generator, dtype=torch.float32).to(level.dtype)
        loss = loss + weight * ((level * direction).mean() + level.square().mean()) if weight else loss
    loss.backward()
    return [level.detach() for level in logits], [image.grad, *(each.grad for each in network.parameters())]


def flat(gradients):
    return torch.cat([each.flatten().double() for each in gradients if each is not None])


def assert_gradients_are_right(network, image, weights=None):
    """Compare with PyTorch in fp64, where PyTorch in fp32 is compared, too."""
    logits, ours = gradients(network, image, weights=weights)
    plain_logits, plain = gradients(network, image, "plain", weights)
    exact_logits, exact = gradients(copy.deepcopy(network).double(), image.double(), "plain", weights)
    assert [each is None for each in ours] == [each is None for each in plain]
    whole = flat(exact).norm()
    assert_as_close(logits, plain_logits, exact_logits)
    assert_as_close([flat(ours)], [flat(plain)], [flat(exact)])
    assert_as_close(ours, plain, exact, 1e-6 * whole)


def assert_as_close(ours, plain, exact, allowed=0):
    for mine, theirs, right in zip(ours, plain, exact, strict=True):
        if mine is not None:
            error, of_pytorch = ((each - right).norm() for each in (mine, theirs))
            assert error <= max(1e-4 * right.norm(), 4 * of_pytorch, allowed)


@settings(max_examples=40, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(networks_and_images(training=True), st.integers(1, 3))
def test_any_network_has_pytorch_s_gradients(network_and_image, n_threads):
    network, image = network_and_image
    with torch_threads(n_threads):
        assert_gradients_are_right_off_kinks(network, image)
        first = gradients(network, image)
        torch.set_num_threads(n_threads % 3 + 1)
        for ours, again in zip(first, gradients(network, image), strict=True):
            assert all(a is b is None or torch.equal(a, b) for a, b in zip(ours, again, strict=True))


def assert_gradients_are_right_off_kinks(network, image):
    """Move the image by a thousandth where a voxel changes sides of the leaky ReLU, or of a maximum, by its last digit.

    One in a few million does; what is wrong for another reason is wrong beside, too.
    """
    moved = image
    for _ in range(7):
        with suppress(AssertionError):
            return assert_gradients_are_right(network, moved)
        moved = image * (1 + 1e-3 * torch.randn_like(image))
    return assert_gradients_are_right(network, moved)


@pytest.mark.parametrize("position", SHIFT_POSITIONS)
@pytest.mark.parametrize("location", SHIFT_LOCATIONS)
def test_every_position_and_location(position, location):
    assert_gradients_are_right_off_kinks(
        small_network(
            shift_position=position, shift_location=location, deep_supervision=True, local_shift_channels=[0, 6, 6]
        ).train(),
        torch.randn(2, 2, *PATCH),
    )


def test_many_tiles_and_chunks():
    torch.manual_seed(0)
    network = with_random_parameters(gsp_unet((64, 64, 48), (8, 16), isotropic(2))).train()
    assert_gradients_are_right(network, torch.randn(1, 2, 64, 64, 48) + torch.linspace(-3, 3, 64).view(-1, 1, 1))


@pytest.mark.parametrize("offset", [30, 1000])
def test_an_image_far_from_zero_keeps_its_precision(offset):
    """Of several images, since in most of them a voxel may change sides of the leaky ReLU by its last digit."""
    errors = {"fused_training": [], "plain": []}
    for seed in range(5):
        network = small_network().train()
        image = torch.randn(2, 2, *PATCH, generator=torch.Generator().manual_seed(seed)) + offset
        exact = gradients(copy.deepcopy(network).double(), image.double(), "plain")[1][1]
        for engine, found in errors.items():
            found.append((gradients(network, image, engine)[1][1] - exact).norm() / exact.norm())
    ours, of_pytorch = (torch.stack(found).sort().values[1] for found in errors.values())
    assert ours <= 2 * of_pytorch


@pytest.mark.parametrize("value", [0.0, -1.5])
@pytest.mark.parametrize("n_constant", [1, 2])
def test_constant_samples(value, n_constant):
    """keep counts as a constant in derivatives, and a constant channel moves nothing but β."""
    image = torch.randn(2, 2, *PATCH)
    image[:n_constant] = value
    network = small_network().train()
    ours, exact = gradients(network, image)[1], gradients(copy.deepcopy(network).double(), image.double(), "plain")[1]
    assert (flat(ours) - flat(exact)).norm() <= 1e-4 * flat(exact).norm()


@pytest.mark.parametrize("stride", [(2, 2, 2), (1, 3, 3), (3, 1, 4)])
def test_ties_go_to_the_first_maximum_as_in_pytorch(stride):
    torch.manual_seed(0)
    network = with_random_parameters(
        gsp_unet((6, 12, 24), (8, 16), [(1, 1, 1), stride], norm_op=None, shift_position="none")
    ).train()
    image = torch.randint(0, 2, (2, 2, 6, 12, 24)).float()  # few values, so most windows have ties
    assert_gradients_are_right(network, image)


@pytest.mark.parametrize("deviation", [3e-5, 6e-5, 8e-5, 1e-4, 2e-4])
def test_what_is_partly_rounding_counts_in_part(deviation):
    network = small_network().train()
    image = -1.5 * (1 + deviation * torch.randn(1, 2, *PATCH))
    number = 1 + [name for name, _ in network.named_parameters()].index("encoder.stages.0.convs.0.norm.weight")
    ours = gradients(network, image)[1][number]
    exact = gradients(copy.deepcopy(network).double(), image.double(), "plain")[1][number]
    assert (ours - exact).norm() <= 0.1 * exact.norm()  # PyTorch's own is off by 0.09


def test_only_the_resolutions_that_are_asked_for_get_gradients():
    network, image = small_network(deep_supervision=True).train(), torch.randn(1, 2, *PATCH)
    for weights in ([1, 0], [0, 1]):
        assert_gradients_are_right(network, image, weights)
    assert network.decoder.seg_layers[-1].weight.grad is None
    assert network.decoder.stages[-1].convs[0].conv.weight.grad is None


def test_frozen_parameters_and_the_image_alone():
    network, image = small_network().train(), torch.randn(1, 2, *PATCH)
    network.encoder.requires_grad_(False)
    assert_gradients_are_right(network, image)
    network.requires_grad_(False)
    assert_gradients_are_right(network, image)
    assert not by_engine("fused_training", network, image).requires_grad


def test_gradients_can_be_asked_for_twice_and_add_up():
    network, image = small_network().train(), torch.randn(1, 2, *PATCH)
    loss = by_engine("fused_training", network, image).square().mean()
    weights = list(network.encoder.parameters())
    first, second = (torch.autograd.grad(loss, weights, retain_graph=True) for _ in range(2))
    assert all(map(torch.equal, first, second))
    for _ in range(2):
        loss.backward(retain_graph=True)
    assert torch.equal(weights[0].grad, 2 * first[0])
    loss.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


def test_two_graphs_at_once():
    """The memory of a step is not taken for another before its graph is gone."""
    network, images = small_network().train(), torch.randn(2, 1, 2, *PATCH)
    weights = list(network.encoder.parameters())
    expected = [torch.autograd.grad(by_engine("plain", network, image).square().mean(), weights) for image in images]
    losses = [by_engine("fused_training", network, image).square().mean() for image in images]
    for loss, right in zip(losses, expected, strict=True):
        ours = torch.autograd.grad(loss, weights)
        assert (flat(ours) - flat(right)).norm() <= 1e-4 * flat(right).norm()


def test_threads_do_not_disturb_each_other():
    networks = [small_network().train(), small_network(shift_position="none").train()]
    images = torch.randn(8, 1, 2, *PATCH)

    def gradient(number):
        network, image = networks[number % 2], images[number // 2]
        weights = list(network.encoder.parameters())
        return flat(torch.autograd.grad(by_engine("fused_training", network, image).square().mean(), weights))

    expected = [gradient(number) for number in range(16)]
    with torch_threads(2), ThreadPoolExecutor(4) as pool:
        for ours, alone in zip(pool.map(gradient, range(16)), expected, strict=True):
            assert torch.equal(ours, alone)


def test_weights_that_changed_meanwhile_are_refused():
    network = small_network().train()
    loss = by_engine("fused_training", network, torch.randn(1, 2, *PATCH)).mean()
    with torch.no_grad():
        network.encoder.stages[0].convs[0].conv.weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_second_derivatives_are_pytorch_s():
    """A penalty on the gradient of the image, as gradient penalties have it."""
    network, image = small_network().train().double(), torch.randn(1, 2, *PATCH)

    def penalty(network, image, engine):
        image = image.clone().requires_grad_()
        logits = by_engine(engine, network, image)
        [of_image] = torch.autograd.grad(logits.square().mean(), image, create_graph=True)
        network.zero_grad()
        (of_image.square().sum() + logits.mean()).backward()
        return [image.grad, *(each.grad for each in network.parameters())]

    expected = penalty(network, image.double(), "plain")
    ours = penalty(network.float(), image, "fused_training")
    assert (flat(ours) - flat(expected)).norm() <= 1e-3 * flat(expected).norm()


def test_gradients_of_gradients_of_logits():
    """The derivative with regard to what comes down from the loss is the forward derivative."""
    network, image = small_network().train(), torch.randn(1, 2, *PATCH, requires_grad=True)
    products = []
    for engine in ("plain", "fused_training"):
        direction = torch.ones(1, 3, *PATCH, requires_grad=True)
        [of_image] = torch.autograd.grad(by_engine(engine, network, image), image, direction, create_graph=True)
        products += torch.autograd.grad(of_image.sum(), direction)
    assert (products[0] - products[1]).norm() <= 1e-4 * products[0].norm()


def test_trains_as_plain():
    trained = []
    for engine in ("plain", "fused_training"):
        network, generator = small_network(deep_supervision=True).train(), torch.Generator().manual_seed(0)
        optimiser = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, nesterov=True, weight_decay=3e-5)
        for _ in range(5):
            image = torch.randn(2, 2, *PATCH, generator=generator)
            optimiser.zero_grad()
            sum(level.square().mean() for level in by_engine(engine, network, image)).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1)
            optimiser.step()
        trained.append(flat(network.parameters()))
    assert (trained[0] - trained[1]).norm() <= 1e-4 * trained[0].norm()


@pytest.mark.parametrize("deep_supervision", [False, True])
def test_keeps_at_most_half_of_what_plain_keeps(deep_supervision):
    network, image = small_network(deep_supervision=deep_supervision).train(), torch.randn(2, 2, *PATCH)
    kept = {}
    for engine in ("plain", "fused_training"):
        network.engine = engine
        kept[engine] = count_activation_bytes(network, image)
    assert 0 < kept["fused_training"] <= 0.5 * kept["plain"]


def test_keeps_at_most_half_of_what_stock_keeps():
    features, patch = (16, 32, 64), (32, 32, 32)
    kwargs = located(stock_architecture(features, isotropic(3)))
    stock = PlainConvUNet(input_channels=4, num_classes=4, deep_supervision=True, **kwargs)
    gsp = gsp_unet(patch, features, isotropic(3), input_channels=4, num_classes=4, deep_supervision=True)
    gsp.engine = "fused_training"
    image = torch.zeros(2, 4, *patch)
    assert 0 < count_activation_bytes(gsp, image) <= 0.5 * count_activation_bytes(stock, image)


def test_memory_is_used_again():
    network, image = small_network().train(), torch.randn(1, 2, *PATCH)
    places = []
    for _ in range(3):
        loss = by_engine("fused_training", network, image).mean()
        assert len(fused_training._kept.idle(network)) == 0
        loss.backward()  # frees the graph, though the loss is still there
        places.append(
            [arenas.idle(network)[0].data_ptr() for arenas in (fused_training._kept, fused_training._meanwhile)]
        )
    assert places[0] == places[1] == places[2]
    loss = by_engine("fused_training", network, image).mean()
    del loss
    gc.collect()
    assert len(fused_training._kept.idle(network)) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_five_hundred_steps_leave_nothing_behind():
    network, image = gsp_unet((8, 8, 8), (4, 8), isotropic(2)).train(), torch.randn(1, 2, 8, 8, 8)
    for number in range(600):
        by_engine("fused_training", network, image).mean().backward()
        network.zero_grad()
        if number == 100:
            before = resident_bytes()
    assert resident_bytes() - before < 4 << 20


def test_a_network_and_its_images_are_forgotten_with_the_last_reference():
    network, image = small_network().train(), torch.randn(1, 2, *PATCH)
    kept = [weakref.ref(network), weakref.ref(image)]
    by_engine("fused_training", network, image).mean().backward()
    del network, image
    gc.collect()
    assert [reference() for reference in kept] == [None, None]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"norm_op": nn.BatchNorm3d}, "BatchNorm3d"),
        ({"kernel": 3}, "Conv3d"),
        ({"nonlin": nn.GELU, "nonlin_kwargs": {}}, "GELU"),
        ({"dropout_op": nn.Dropout3d, "dropout_op_kwargs": {"p": 0.5}}, "Dropout3d"),
    ],
    ids=str,
)
def test_networks_that_are_left_to_the_checkpointed_engine(changes, reason):
    ran = computed_by(small_network(**changes).train(), torch.randn(1, 2, *PATCH))
    assert ran.engine == "checkpointed"
    assert ran.obstacle.startswith("fused_training: ")
    assert reason in ran.obstacle


def test_dropout_of_nothing_is_taken():
    network = small_network(dropout_op=nn.Dropout3d, dropout_op_kwargs={"p": 0.0}).train()
    assert_gradients_are_right(network, torch.randn(1, 2, *PATCH))


def test_shared_weights_are_left_to_the_checkpointed_engine():
    network = small_network().train()
    network.encoder.stages[1].convs[1].norm.weight = network.encoder.stages[1].convs[0].norm.weight
    assert computed_by(network, torch.randn(1, 2, *PATCH)).obstacle.endswith("layers that share parameters")


def test_hooks_see_every_module():
    network, seen = small_network().train(), []
    network.encoder.stages[0].convs[0].register_full_backward_hook(lambda *_: seen.append(1))
    assert computed_by(network, torch.randn(1, 2, *PATCH)).engine == "plain"
    network(torch.randn(1, 2, *PATCH, requires_grad=True)).mean().backward()
    assert seen == [1]


def test_hooks_of_all_modules_see_each_once():
    network, seen = small_network().train(), []
    with nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(module)):
        assert computed_by(network, torch.randn(1, 2, *PATCH)).engine == "plain"
    once = [module for module in network.modules() if isinstance(module, (ConvDropoutNormReLU, SteadyInstanceNorm3d))]
    assert once
    assert all(sum(each is module for each in seen) == 1 for module in once)


def test_calls_that_are_not_fused_say_nothing(caplog):
    choice._say_once.cache_clear()
    network, image = small_network().train(), torch.randn(1, 2, *PATCH)
    with FlopCounterMode(display=False) as counter:
        network(image).mean().backward()
    assert counter.get_total_flops() > 0
    twin = copy.deepcopy(network)  # functional_call does not give back weights that modules list twice
    found = grad(lambda weights: functional_call(twin, weights, image).square().mean())(dict(twin.named_parameters()))
    network.zero_grad()
    network(image).square().mean().backward()
    for name, parameter in network.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-2, atol=1e-4)
    assert [record.message for record in caplog.records] == []


@pytest.mark.filterwarnings("ignore")
def test_a_trace_has_pytorch_s_operators():
    network, image = small_network().train(), torch.randn(1, 2, *PATCH)
    traced = torch.jit.trace(network, image, check_trace=False)
    torch.testing.assert_close(traced(2 * image), network(2 * image), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "in_layout",
    [lambda image: image.transpose(2, 4).contiguous().transpose(2, 4), torch._neg_view],
    ids=["strides", "negative"],
)
def test_images_of_another_layout(in_layout):
    network, image = small_network().train(), in_layout(torch.randn(1, 2, *PATCH))
    _, ours = gradients_of_parameters(network, image, "fused_training")
    _, expected = gradients_of_parameters(network, image, "plain")
    assert (flat(ours) - flat(expected)).norm() <= 1e-3 * flat(expected).norm()


def gradients_of_parameters(network, image, engine):
    network.zero_grad()
    logits = network(image) if engine != "plain" else by_engine(engine, network, image)
    logits.square().mean().backward()
    return logits, [each.grad for each in network.parameters()]
