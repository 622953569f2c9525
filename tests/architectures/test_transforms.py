"""What PyTorch's tools do with stock nnU-Net's network they do with GSPUNet: one test for both."""

import copy
import warnings

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jvp, stack_module_state, vmap

from nnunetv2_gsp.architectures import GSPUNet
from tests.architectures.networks import gsp_unet, isotropic, located, stock_architecture

PATCH, FEATURES = (4, 8, 4), (8, 16)


def stock_unet(**_):
    return PlainConvUNet(
        input_channels=2, num_classes=3, deep_supervision=False, **located(stock_architecture(FEATURES, isotropic(2)))
    )


def with_local_shift():
    return gsp_unet(PATCH, FEATURES, isotropic(2), shift_position="CSCSUpShift", local_shift_channels=[0, 6])


OLD_EXPORTER = torch.__version__.startswith("2.5.")
NETWORKS = {"stock": stock_unet, "GSP": lambda: gsp_unet(PATCH, FEATURES, isotropic(2)), "GSP local": with_local_shift}


@pytest.fixture(
    params=[("stock", True), ("GSP", True), *((name, False) for name in NETWORKS)],
    ids=lambda case: f"{case[0]}, {'training' if case[1] else 'evaluation'}",
)
def network(request):
    name, training = request.param
    torch.manual_seed(0)
    return NETWORKS[name]().double().train(training)


@pytest.fixture(params=NETWORKS)
def prediction_network(request):
    torch.manual_seed(0)
    return NETWORKS[request.param]().eval()


@pytest.fixture(autouse=True)
def _no_warnings_of_tracers():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def images(n, dtype=torch.double):
    return torch.randn(n, 2, *PATCH, dtype=dtype, generator=torch.Generator().manual_seed(n))


def assert_close(ours, expected):
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-9 if ours.dtype is torch.double else 1e-4)


@pytest.mark.parametrize("with_gradients", [True, False])
def test_traced(network, with_gradients):
    with torch.set_grad_enabled(with_gradients):
        traced = torch.jit.trace(network, images(2))
        for batch in (2, 5):
            assert_close(traced(images(batch)), network(images(batch)))


@pytest.mark.parametrize("strict", [True, False])
def test_exported_for_any_batch(network, strict):
    if strict and network.training and isinstance(network, GSPUNet):
        pytest.skip("taken for compiling, whose recomputation torch.export does not know")
    batch = torch.export.Dim("batch", min=1, max=8)
    exported = torch.export.export(network, (images(2),), dynamic_shapes=({0: batch},), strict=strict).module()
    for batch in (1, 5):
        assert_close(exported(images(batch)), network(images(batch)))


@pytest.mark.parametrize("exporter", ["dynamo", "legacy"])
def test_onnx_for_any_batch(prediction_network, exporter, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    if exporter == "dynamo" and isinstance(prediction_network, GSPUNet) and OLD_EXPORTER:
        pytest.skip("this torch exports strictly, and fails at a product for any batch; the other exporter works")
    how = {
        "dynamo": {"dynamo": True, "dynamic_shapes": ({0: torch.export.Dim("batch", min=1, max=8)},)},
        "legacy": {"dynamo": False, "dynamic_axes": {"image": {0: "batch"}, "logits": {0: "batch"}}},
    }[exporter]
    file = tmp_path / "network.onnx"
    torch.onnx.export(
        prediction_network,
        (images(2, torch.float32),),
        str(file),
        input_names=["image"],
        output_names=["logits"],
        **how,
    )
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for batch in (1, 5):
        image = images(batch, torch.float32)
        (logits,) = session.run(None, {"image": image.numpy()})
        assert_close(torch.from_numpy(logits), prediction_network(image).detach())


@pytest.mark.parametrize("with_gradients", [True, False])
def test_mapped_over_batches(network, with_gradients):
    batches = torch.stack([images(2), images(2) + 1, images(2) * 2])
    with torch.set_grad_enabled(with_gradients):
        mapped = vmap(network)(batches)
        assert_close(mapped, torch.stack([network(batch) for batch in batches]))
        assert_close(vmap(network, in_dims=3)(batches.movedim(0, 3)), mapped)


def test_gradient_behind_a_map(network):
    batches = torch.stack([images(2), images(2) + 1]).requires_grad_()
    (ours,) = torch.autograd.grad(vmap(network)(batches).square().mean(), batches)
    (expected,) = torch.autograd.grad(torch.stack([network(batch) for batch in batches]).square().mean(), batches)
    assert_close(ours, expected)


def test_mapped_over_networks(network):
    networks = [network, copy.deepcopy(network)]
    with torch.no_grad():
        for parameter in networks[1].parameters():
            parameter += 0.1
    skeleton, batch = copy.deepcopy(network).to("meta"), images(2)
    logits = vmap(lambda *state: functional_call(skeleton, state, (batch,)))(*stack_module_state(networks))
    assert_close(logits, torch.stack([each(batch) for each in networks]))


def test_gradient_of_each_image(network):
    parameters, buffers = dict(network.named_parameters()), dict(network.named_buffers())

    def loss(parameters, image):
        return functional_call(network, (parameters, buffers), (image[None],)).square().mean()

    gradients = vmap(grad(loss), (None, 0))(parameters, images(2))
    for number, image in enumerate(images(2)):
        loss(parameters, image).backward()
        for name, parameter in network.named_parameters():
            if parameter.grad is not None:
                assert_close(gradients[name][number], parameter.grad)
        network.zero_grad()


def finite_difference(function, x, direction, step=1e-7):
    return (function(x + step * direction) - function(x - step * direction)) / (2 * step)


def test_forward_derivative(network):
    image, direction = images(1), images(2)[1:]
    expected = finite_difference(network, image, direction).detach()
    logits, tangent = jvp(network, (image,), (direction,))
    assert_close(logits, network(image))
    torch.testing.assert_close(tangent, expected, rtol=1e-4, atol=1e-6)
    for with_gradients in (True, False):
        with forward_ad.dual_level(), torch.set_grad_enabled(with_gradients):
            dual = network(forward_ad.make_dual(image, direction))
            assert_close(forward_ad.unpack_dual(dual).tangent, tangent)


def test_second_derivative(network):
    image = images(1).requires_grad_()
    name, weight = next((name, weight) for name, weight in network.named_parameters() if weight.ndim == 5)
    direction, other, other_weight = images(2)[1:], images(3)[2:], torch.randn_like(weight)

    def slope(image, weight):
        logits = functional_call(network, {name: weight}, (image,))
        (gradient,) = torch.autograd.grad(logits.square().sum(), image, create_graph=True)
        return (gradient * direction).sum()

    ours = torch.autograd.grad(slope(image, weight), (image, weight))
    expected = (
        finite_difference(lambda image: slope(image, weight), image, other),
        finite_difference(lambda weight: slope(image, weight), weight, other_weight),
    )
    for gradient, change, difference in zip(ours, (other, other_weight), expected, strict=True):
        torch.testing.assert_close((gradient * change).sum(), difference.detach(), rtol=1e-4, atol=1e-6)
