"""The engine of GPUs, in Triton's interpreter, against the network's modules in fp64."""

import copy
import math
import sys
from collections import Counter
from unittest.mock import MagicMock

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_func
from torch._functorch.partitioners import min_cut_rematerialization_partition
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from nnunetv2_gsp.architectures.settings import SHIFT_LOCATIONS, SHIFT_POSITIONS
from nnunetv2_gsp.counting import count_activation_bytes
from nnunetv2_gsp.engines import computed_by
from nnunetv2_gsp.engines import triton as engine
from nnunetv2_gsp.errors import UnavailableError
from nnunetv2_gsp.ops import SteadyInstanceNorm2d, gpu_layer
from nnunetv2_gsp.ops.gpu_layer import Affine
from nnunetv2_gsp.ops.instance_norm import least_deviation
from tests.architectures.networks import gsp_unet, isotropic
from tests.engines.networks import by_engine, with_random_parameters
from tests.interpreted import layer_kernels, needs_triton

pytestmark = needs_triton
DROPOUT = {"dropout_op": nn.Dropout2d, "dropout_op_kwargs": {"p": 0.5}}


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """The CPU counts as a GPU, and its kernels run in the interpreter."""
    monkeypatch.setattr(engine, "_is_on_gpu", lambda image: True)
    with layer_kernels():
        yield


def network_of(n_axes=2, patch=(4, 8), features=(8, 12), **changes):
    torch.manual_seed(0)
    network = gsp_unet(patch, features, isotropic(len(features), n_axes), **{"deep_supervision": True, **changes})
    return with_random_parameters(network).train()


def step(network, image, engine_name, device="cpu"):
    """Return logits of all resolutions, and by name the gradients of the image and of every parameter, in fp64."""
    network, x = copy.deepcopy(network).to(device), image.detach().to(device).requires_grad_()
    logits = by_engine(engine_name, network, x)
    logits = logits if isinstance(logits, list) else [logits]
    # of different weights for each class and voxel
    sum(
        (level.double() * torch.linspace(-1, 2, level.numel(), device=device).view(level.shape)).sum()
        for level in logits
    ).backward()
    gradients = {"image": x.grad, **{name: parameter.grad for name, parameter in network.named_parameters()}}
    return (
        [level.detach().cpu() for level in logits],
        {name: None if gradient is None else gradient.cpu().double() for name, gradient in gradients.items()},
    )


def assert_trains_as_the_modules(network, image, allowed_of_gradients=1e-4, device="cpu"):
    """Compare with the modules in fp64; a bias in front of a norm has a gradient of rounding alone, ours none."""
    logits, gradients = step(network, image, "triton", device)
    exact_logits, exact = step(copy.deepcopy(network).double(), image.double(), "plain")
    assert len(logits) == len(exact_logits)
    for level, exact_level in zip(logits, exact_logits, strict=True):
        assert (level - exact_level).norm() <= 1e-4 * exact_level.norm()
    largest = max(gradient.norm() for gradient in exact.values() if gradient is not None)
    for name, gradient in exact.items():
        if gradient is None:
            assert gradients[name] is None, name
        else:
            assert (gradients[name] - gradient).norm() <= allowed_of_gradients * gradient.norm() + 1e-7 * largest, name


@pytest.mark.parametrize(
    ("position", "location"),
    [*((position, "both") for position in SHIFT_POSITIONS), *(("CSCS", location) for location in SHIFT_LOCATIONS[:2])],
)
def test_every_position_and_location_of_shifts(as_on_a_gpu, position, location):
    network = network_of(shift_position=position, shift_location=location)
    assert_trains_as_the_modules(network, torch.randn(2, 2, 4, 8))


@pytest.mark.parametrize(
    "changes",
    [
        {"deep_supervision": False, "conv_bias": False},
        {"norm_op": None},
        {"norm_op": None, "conv_bias": False},
        {"norm_op_kwargs": {"affine": False}},
        {"nonlin": nn.ReLU, "nonlin_kwargs": {"inplace": True}},
        {"nonlin": None},
        {"nonlin_kwargs": {"negative_slope": 0.2}},
        {"shift_channels": [4, 0], "local_shift_channels": [4, 8]},
        {"dropout_op": nn.Dropout2d, "dropout_op_kwargs": {"p": 0.0}},
    ],
    ids=str,
)
def test_every_layer_that_plans_ask_for(as_on_a_gpu, changes):
    assert_trains_as_the_modules(network_of(**changes), torch.randn(2, 2, 4, 8))


def test_in_3d_with_odd_sizes_and_strides_that_differ(as_on_a_gpu):
    torch.manual_seed(0)
    network = gsp_unet((3, 4, 10), (6, 10, 17), [(1, 1, 1), (1, 2, 2), (3, 1, 1)], local_shift_channels=[0, 0, 6])
    assert_trains_as_the_modules(with_random_parameters(network).train(), torch.randn(1, 2, 3, 4, 10))


def test_a_prediction(as_on_a_gpu):
    network, image = network_of(deep_supervision=False, **DROPOUT).eval(), torch.randn(1, 2, 4, 8)
    with torch.no_grad():
        torch.testing.assert_close(by_engine("triton", network, image), by_engine("plain", network, image))


NO_LAUNCHES = {"empty", "new_empty", "empty_like", "view", "flatten", "slice", "select", "unbind", "as_strided", "to"}


def test_a_prediction_launches_little_but_its_kernels(as_on_a_gpu, monkeypatch):
    """An operator of PyTorch takes the host as long as a small map takes the GPU."""
    network, image = network_of(features=(8, 8, 12), patch=(8, 8), deep_supervision=False), torch.randn(1, 2, 8, 8)
    launches = Counter()
    for name in ("_product", "_moments", "_norm"):
        launched = MagicMock()  # whose launches cannot be mistaken for operators, as the interpreter's are
        launched.__getitem__.return_value = lambda *_, name=name, **constants: launches.update([name])
        monkeypatch.setattr(sys.modules["nnunetv2_gsp.ops.layer_kernels"], name, launched)
    with torch.no_grad(), torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        by_engine("triton", network, image)
    n_joins, n_norms = len(network.decoder.stages), count_of(network, SteadyInstanceNorm2d)
    n_products = count_of(network, nn.Conv2d) - (n_joins - 1) + n_joins  # no deep supervision: of one head
    assert launches == {"_product": n_products, "_moments": n_norms, "_norm": n_norms}
    operators = Counter(event.name.partition("::")[2] for event in profile.events() if "::" in event.name)
    # the two halves of a weight behind a concatenation are copied, and the head's bias is added
    copies = {"clone": 2 * n_joins, "copy_": 2 * n_joins, "contiguous": 2 * n_joins}
    assert {name: n for name, n in operators.items() if name not in NO_LAUNCHES} == {**copies, "add": 1}


def count_of(network, kind):
    return sum(isinstance(module, kind) for module in network.modules())


def test_who_looks_at_operators_sees_the_layers(as_on_a_gpu, monkeypatch):
    torch._dynamo.reset()
    network, image = network_of(), torch.randn(1, 2, 4, 8)
    network.engine = "triton"

    def fail(*_):
        raise AssertionError("not by the operator")

    for name in ("compute_layer", "norm"):
        monkeypatch.setattr(gpu_layer, name, fail)
    network(image)
    with torch.no_grad():
        torch.compile(network, backend="aot_eager", fullgraph=True)(image)
        with pytest.raises(AssertionError, match="not by the operator"):
            network(image)
        assert engine._is_plain(image, None)
        assert not engine._is_plain(image, FakeTensorMode().from_tensor(image))


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_norm_without_a_gradient_is_that_with_one(as_on_a_gpu, data):
    n, channels = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 20))
    dtypes = st.sampled_from([torch.float32, torch.float16, torch.bfloat16])

    def numbers(*shape):
        return torch.tensor(data.draw(st.lists(st.floats(-4, 4, width=16), min_size=n_of(shape), max_size=n_of(shape))))

    n_of, dtype = math.prod, data.draw(dtypes)
    mean = numbers(n, channels).view(n, channels) * data.draw(st.sampled_from([0, 1e-3, 1, 1e4]))
    # constant, nearly constant and ordinary maps
    least = least_deviation(dtype) ** 2 * mean.square().mean(1, keepdim=True)
    part = torch.tensor(data.draw(st.lists(st.sampled_from([0, 0.5, 1, 1.5, 2, 1e6]), min_size=n, max_size=n)))
    variance = least * part[:, None] + numbers(n, channels).view(n, channels).square() * data.draw(st.integers(0, 1))
    norm = SteadyInstanceNorm2d(channels, data.draw(st.sampled_from([1e-5, 1e-3])), affine=data.draw(st.booleans()))
    if norm.affine:
        norm.weight.data, norm.bias.data = (numbers(channels).to(data.draw(dtypes)) for _ in range(2))
    bias = data.draw(st.sampled_from([None, numbers(channels).to(data.draw(dtypes))]))
    expected, ours = both_norms(norm, mean, variance, bias, dtype)
    assert ours.mean is mean
    # what is kept of a variance near the least is a small difference, as a part of what would be kept of any other
    whole = torch.rsqrt(variance + norm.eps) * (norm.weight.abs() if norm.affine else 1)
    assert ((ours.scale - expected.scale).abs() <= 1e-5 * whole).all()
    torch.testing.assert_close(ours.offset, expected.offset, rtol=0, atol=0)


def test_a_norm_of_what_is_not_a_number_is_none(as_on_a_gpu):
    mean, variance = torch.tensor([[1.0, torch.nan, 2.0], [1.0, 3.0, 2.0]]), torch.ones(2, 3)
    variance[1, 0] = torch.nan
    expected, ours = both_norms(SteadyInstanceNorm2d(3), mean, variance, None, torch.float32)
    assert ours.scale.isnan().tolist() == expected.scale.isnan().tolist() == [[True] * 3, [True, False, False]]


def both_norms(norm, mean, variance, bias, dtype):
    """Return the norm of a map of that dtype as it is where gradients are needed, and where none are."""
    with_gradient = engine._normed(norm, mean, variance, bias, mean.to(dtype))
    with torch.no_grad():
        return Affine(*map(torch.Tensor.detach, with_gradient)), engine._normed(
            norm, mean, variance, bias, mean.to(dtype)
        )


@pytest.mark.parametrize("dtype", [torch.float16], ids=str)  # the interpreter multiplies the bits of bfloat16
def test_half_precision_under_autocast(as_on_a_gpu, dtype):
    network, image = network_of(), torch.randn(2, 2, 4, 8)
    with torch.autocast("cpu", dtype):
        logits, gradients = step(network, image, "triton")
    assert {level.dtype for level in logits} == {dtype}
    exact_logits, exact = step(copy.deepcopy(network).double(), image.double(), "plain")
    for level, exact_level in zip(logits, exact_logits, strict=True):
        assert (level - exact_level).norm() <= 4e-3 * exact_level.norm()
    ours, theirs = (
        torch.cat([each[name].flatten() for name, gradient in exact.items() if gradient is not None])
        for each in (gradients, exact)
    )
    assert (ours - theirs).norm() <= 2e-2 * theirs.norm()


@pytest.mark.parametrize("value", [0.0, -1.5, 1e4])
@pytest.mark.parametrize("position", ["CSC", "CSCSUpShift"])
def test_a_constant_patch_gives_constant_logits(as_on_a_gpu, position, value):
    network, image = network_of(shift_position=position), torch.full((1, 2, 4, 8), value)
    image[0, 1] *= 1 + 1e-7 * torch.randn(4, 8)
    logits, gradients = step(network, image, "triton")
    exact, _ = step(copy.deepcopy(network).double(), torch.full((1, 2, 4, 8), value).double(), "plain")
    for level, exact_level in zip(logits, exact, strict=True):
        assert (level - exact_level).abs().max() <= 1e-5 * exact_level.abs().max()
    assert not any(gradient.any() for name, gradient in gradients.items() if name.endswith("norm.weight"))


@pytest.mark.parametrize("is_compiled", [False, True])
def test_nothing_is_kept_but_the_products(monkeypatch, is_compiled):
    """Counted without memory, at the size of a real training."""
    network, image = without_memory(monkeypatch)
    forward = torch.compile(network, backend=looked_at([]), fullgraph=True) if is_compiled else network
    # the statistics of each channel come to little
    least = 4 * sum(count_products(network, image))
    assert least <= count_activation_bytes(forward, image) <= 1.01 * least


def test_compiled_each_layer_is_one_operator_each_way_and_none_is_computed_again(monkeypatch):
    (network, image), graphs = without_memory(monkeypatch), []
    sum(level.sum() for level in torch.compile(network, backend=looked_at(graphs), fullgraph=True)(image)).backward()
    n_calls = [
        [
            sum(node.target is operator.default for node in graph.graph.nodes)
            for operator in (torch.ops.nnunetv2_gsp.layer, torch.ops.nnunetv2_gsp.layer_gradients)
        ]
        for graph in graphs
    ]
    # the convolution behind a concatenation is two products, one at each resolution
    n_products = len(count_products(network, image)) + len(network.decoder.stages)
    assert n_calls == [[n_products, 0], [0, n_products]]


def without_memory(monkeypatch):
    torch._dynamo.reset()
    monkeypatch.setattr(engine, "_is_on_gpu", lambda image: True)
    monkeypatch.setattr(engine, "_dtype_of", lambda y, weight: y.dtype)  # autocast knows no device without memory
    with torch.device("meta"):
        network = gsp_unet((64, 64, 64), (32, 64, 128), isotropic(3), input_channels=4, deep_supervision=True)
        network, image = network.to("meta"), torch.zeros(2, 4, 64, 64, 64)
    network.engine = "triton"
    return network, image


def looked_at(graphs):
    """Compile to nothing, and put the graphs of the forward and the backward pass into a list."""

    def look(graph, _):
        graphs.append(graph)
        return make_boxed_func(graph.forward)

    return aot_autograd(fw_compiler=look, bw_compiler=look, partition_fn=min_cut_rematerialization_partition)


def count_products(network, image):
    """Return the elements of each convolution's output."""
    sizes = []
    hooks = [
        module.register_forward_hook(lambda module, inputs, output: sizes.append(output.numel()))
        for module in network.modules()
        if isinstance(module, nn.Conv3d)
    ]
    network.decoder(network.encoder(image))
    for hook in hooks:
        hook.remove()
    return sizes


def test_compiled_whole_it_trains_alike(as_on_a_gpu):
    torch._dynamo.reset()
    network, image = network_of(features=(8, 8)), torch.randn(1, 2, 4, 8)
    network.engine = "triton"
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    gradients = [
        torch.autograd.grad(sum(level.square().sum() for level in forward(image)), [*network.encoder.parameters()])
        for forward in (network, compiled)
    ]
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected)


def unknown_networks():
    """Yield what the kernels do not know, and the words that say so."""
    yield {"norm_op": nn.BatchNorm2d}, "BatchNorm2d"
    yield {"kernel": 3}, r"kernel_size=\(3, 3\)"
    yield DROPOUT, "Dropout2d"
    yield {"nonlin": nn.GELU, "nonlin_kwargs": {}}, "GELU"
    yield {"nonlin_first": True}, "LeakyReLU"
    yield {"norm_op_kwargs": {"track_running_stats": True}}, "track_running_stats"


@pytest.mark.parametrize(("changes", "reason"), [*unknown_networks()], ids=str)
def test_what_it_does_not_know_is_named(as_on_a_gpu, changes, reason):
    with pytest.raises(UnavailableError, match=f"(?s)the engine triton computes, got .*{reason}"):
        by_engine("triton", network_of(**changes), torch.randn(2, 2, 4, 8))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda network: network.encoder.register_forward_hook(lambda *_: None), "hooks"),
        (lambda network: setattr(network.decoder, "forward", lambda x: x), "a forward of its own in GSPDecoder"),
        (
            lambda network: setattr(network.decoder.upsamplings[0].interpolation, "align_corners", True),
            "LinearUpsampling",
        ),
        (lambda network: network.half(), "weights of torch.float16 for a map of torch.float32"),
        (lambda network: setattr(network.encoder.stages[0].shifts[0], "spatial_groups", (3, 1)), "GroupShift"),
        (lambda network: setattr(network.encoder.pools[1], "padding", 1), "MaxPool2d"),
    ],
)
def test_changed_networks_are_left_to_others(as_on_a_gpu, change, reason):
    network = network_of()
    change(network)
    with pytest.raises(UnavailableError, match=f"(?s)the engine triton computes, got .*{reason}"):
        by_engine("triton", network, torch.randn(2, 2, 4, 8))


def test_calls_that_it_does_not_know(as_on_a_gpu, monkeypatch):
    network, image = network_of(), torch.randn(2, 2, 4, 8)

    def refuses(reason, image=image):
        with pytest.raises(UnavailableError, match=reason):
            by_engine("triton", network, image)

    refuses("an image of torch.float64", image.double())
    refuses("0 samples", image[:0])
    refuses("a convolution of 2 channels for a map of 1", image[:, :1])
    refuses("GroupShift", image[..., :7])
    network.engine = "triton"
    with FlopCounterMode(display=False):
        assert computed_by(network, image).engine != "triton"
    network.engine = None
    monkeypatch.setattr(engine, "_OBSTACLE", "Triton is not installed")
    refuses("Triton is not installed")


def test_a_cpu_is_no_gpu():
    with pytest.raises(UnavailableError, match="an image on the cpu, not on an NVIDIA GPU"):
        by_engine("triton", network_of(), torch.randn(2, 2, 4, 8))


def test_auto_does_not_try_it(as_on_a_gpu):
    assert computed_by(network_of(), torch.randn(2, 2, 4, 8)).engine != "triton"


on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@on_cuda
@pytest.mark.parametrize(
    "changes", [{}, {"shift_position": "CSCSUpShift"}, {"norm_op": None}, {"local_shift_channels": [6, 12]}], ids=str
)
def test_on_cuda_it_trains_as_the_modules(changes):
    network = network_of(3, (16, 16, 32), (24, 80), **changes)
    # an activation of about zero, of millions, may fall on the other side, which changes a voxel's gradient
    assert_trains_as_the_modules(network, torch.randn(2, 2, 16, 16, 32), allowed_of_gradients=1e-2, device="cuda")


@on_cuda
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_on_cuda_half_precision_is_as_near_as_plain(dtype):
    network, image = network_of(3, (16, 16, 32), (24, 80)), torch.randn(2, 2, 16, 16, 32)
    _, exact = step(copy.deepcopy(network).double(), image.double(), "plain")
    errors = {}
    for name in ("triton", "plain"):
        with torch.autocast("cuda", dtype):
            _, gradients = step(network, image, name, "cuda")
        errors[name] = math.sqrt(
            sum(
                float((gradients[key] - gradient).square().sum())
                for key, gradient in exact.items()
                if gradient is not None
            )
        )
    assert errors["triton"] <= 1.5 * errors["plain"]


@on_cuda
def test_on_cuda_compiled_and_in_a_graph_it_computes_alike():
    torch._dynamo.reset()
    network, image = network_of(3, (16, 16, 32), (24, 80)).cuda(), torch.randn(2, 2, 16, 16, 32, device="cuda")
    network.engine = "triton"
    compiled = torch.compile(network, mode="reduce-overhead", fullgraph=True)
    for _ in range(3):
        gradients = [
            torch.autograd.grad(sum(level.square().sum() for level in forward(image)), [*network.encoder.parameters()])
            for forward in (compiled, network)  # the compiled one first: a graph finds nothing that was kept before
        ]
        for ours, expected in zip(*gradients, strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


@on_cuda
@pytest.mark.parametrize("name", ["triton", "checkpointed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_on_cuda_two_steps_from_one_state_are_equal_to_the_last_bit(name, dtype):
    network, image = network_of(3, (16, 16, 32), (24, 80)), torch.randn(2, 2, 16, 16, 32)
    with torch.autocast("cuda", torch.float16, enabled=dtype is torch.float16):
        (logits, gradients), (logits_again, gradients_again) = (step(network, image, name, "cuda") for _ in range(2))
    assert all(map(torch.equal, logits, logits_again))
    for key, gradient in gradients.items():
        assert (gradient is None) == (gradients_again[key] is None), key
        assert gradient is None or torch.equal(gradient, gradients_again[key]), key
