import importlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_func
from torch.nn import functional as F  # noqa: N812
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from nnunetv2_gsp.ops import PointwiseConv2d, PointwiseConv3d, pointwise

module = importlib.import_module("nnunetv2_gsp.ops.pointwise")  # a function of the package has its name


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("stock", "shape"), [(nn.Conv2d, (2, 6, 5, 3)), (nn.Conv3d, (3, 6, 4, 3, 5))])
def test_is_a_convolution_with_a_kernel_of_one_voxel(stock, shape, bias):
    torch.manual_seed(0)
    convolution = pointwise(stock)(6, 4, 1, bias=bias).double()
    expected = stock(6, 4, 1, bias=bias).double()
    expected.load_state_dict(convolution.state_dict())
    x = torch.randn(shape, dtype=torch.double).transpose(-1, -2)
    results = []
    for module in (convolution, expected):
        image = x.clone(memory_format=torch.preserve_format).requires_grad_()
        output = module(image)
        output.square().sum().backward()
        results.append([output, image.grad, *(parameter.grad for parameter in module.parameters())])
    for computed, wanted in zip(*results, strict=True):
        torch.testing.assert_close(computed, wanted)


def test_takes_the_dtype_that_autocast_chooses():
    with torch.autocast("cpu", torch.bfloat16):
        assert PointwiseConv2d(3, 2, 1)(torch.randn(1, 3, 4, 4)).dtype is torch.bfloat16


def test_another_number_of_channels_is_named():
    with pytest.raises(RuntimeError, match="to have 3 channels, but got 2 channels"):
        PointwiseConv3d(3, 2, 1)(torch.randn(1, 2, 4, 4, 4))


class Operators(TorchDispatchMode):
    """Note every operator's name."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **kwargs or {})


def test_no_map_is_copied_or_laid_out_anew():
    convolution = PointwiseConv3d(6, 4, 1)
    x = torch.randn(2, 6, 4, 4, 4, requires_grad=True)
    with Operators() as operators:
        output = convolution(x)
        output.backward(torch.ones_like(output))
    assert "baddbmm" in operators.names
    assert not operators.names & {"convolution", "clone", "copy_", "_to_copy", "contiguous", "cat"}


@given(
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(1, 48),
    st.sampled_from([torch.double, torch.half]),
)
@settings(max_examples=50)
def test_the_gradient_of_the_weight_in_pieces_is_that_of_a_convolution(n, c_in, c_out, width, length, dtype):
    torch.manual_seed(0)
    x, gradient = (torch.randn(n, c, length, width, dtype=dtype) for c in (c_in, c_out))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PIECE", 4)
        patch.setattr(module, "LEAST_PIECES", 2)
        found = module.gradient_of_weight(gradient.flatten(2), x.flatten(2))
    weight = torch.zeros(c_out, c_in, 1, 1, dtype=torch.double, requires_grad=True)
    (expected,) = torch.autograd.grad(F.conv2d(x.double(), weight), weight, gradient.double())
    assert found.dtype is dtype
    tolerance = {} if dtype is torch.double else {"atol": 2e-2, "rtol": 2e-3}
    torch.testing.assert_close(found.double(), expected[:, :, 0, 0], **tolerance)


@pytest.mark.parametrize(
    ("voxels", "pieces"),
    [(128**3, 1024), (80 * 192 * 160, 1024), (64**3, 128), (320**2, 32), (16**3, 2), (8**3, 1), (127**3, 1), (1, 1)],
)
def test_pieces_are_equal_and_long_enough_to_be_worth_a_program(voxels, pieces):
    assert module._count_pieces(voxels) == pieces


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Take the paths of a GPU, with pieces that small maps have, too."""
    monkeypatch.setattr(module, "_on_gpu", lambda _: True)
    monkeypatch.setattr(module, "PIECE", 8)
    monkeypatch.setattr(module, "LEAST_PIECES", 2)
    torch.manual_seed(0)
    inputs = [
        torch.randn(shape, dtype=torch.double, requires_grad=True) for shape in ((2, 3, 2, 4, 3), (4, 3, 1, 1, 1), (4,))
    ]
    product = module.pointwise_convolution(*inputs).grad_fn.next_functions[0][0]
    assert "Product" in type(product).__name__
    return inputs


def test_every_kind_of_derivative_in_pieces(as_on_a_gpu):
    x, weight, bias = as_on_a_gpu
    check = {"check_batched_grad": True, "check_forward_ad": True}
    assert torch.autograd.gradcheck(module.pointwise_convolution, (x, weight, bias), **check)
    assert torch.autograd.gradcheck(module.pointwise_convolution, (x, weight, None), **check)
    assert torch.autograd.gradgradcheck(module.pointwise_convolution, (x, weight, bias), check_fwd_over_rev=True)

    def gradients_of_each_sample(convolve):
        of_one = torch.func.grad(lambda weight, sample: convolve(sample[None], weight, bias).square().sum())
        return torch.func.vmap(of_one, (None, 0))(weight, x)

    torch.testing.assert_close(
        gradients_of_each_sample(module.pointwise_convolution), gradients_of_each_sample(F.conv3d)
    )


def in_checkpoint(*inputs):
    return checkpoint(module.pointwise_convolution, *inputs, use_reentrant=False)


@pytest.mark.parametrize("convolve", [module.pointwise_convolution, in_checkpoint])
@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_in_pieces(as_on_a_gpu, convolve, dynamic):
    x, weight, bias = as_on_a_gpu
    torch._dynamo.reset()
    compiled = torch.compile(convolve, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for size in ((2, 4, 3), (3, 5, 2), (4, 4, 4)):
        x = torch.randn(2, 3, *size, dtype=torch.double, requires_grad=True)
        computed, expected = (
            torch.autograd.grad(f(x, weight, bias).square().sum(), (x, weight, bias)) for f in (compiled, F.conv3d)
        )
        torch.testing.assert_close(computed, expected)


@pytest.mark.parametrize("compiled", [False, True])
def test_autocast_in_pieces(as_on_a_gpu, compiled):
    x, weight, bias = (tensor.detach().float().requires_grad_() for tensor in as_on_a_gpu)
    torch._dynamo.reset()
    convolve = module.pointwise_convolution
    convolve = torch.compile(convolve, fullgraph=True, backend="aot_eager") if compiled else convolve
    with torch.autocast("cpu", torch.bfloat16):
        output = convolve(x, weight, bias)
        assert output.dtype is torch.bfloat16
        assert module.pointwise_convolution(*as_on_a_gpu).dtype is torch.double
    for computed, expected in zip(
        torch.autograd.grad(output.float().sum(), (x, weight, bias)),
        torch.autograd.grad(F.conv3d(x, weight, bias).sum(), (x, weight, bias)),
        strict=True,
    ):
        assert computed.dtype is torch.float32
        torch.testing.assert_close(computed, expected, atol=0.1, rtol=0.02)


def test_compiled_for_a_gpu_the_bias_is_not_copied_over_the_map_and_pieces_are_views(as_on_a_gpu):
    torch._dynamo.reset()
    operators = []

    def note(graph, _):
        operators.append([node.target for node in graph.graph.nodes])
        return make_boxed_func(graph.forward)

    convolve = torch.compile(
        module.pointwise_convolution, fullgraph=True, backend=aot_autograd(fw_compiler=note, bw_compiler=note)
    )
    convolve(*as_on_a_gpu).sum().backward()
    aten = torch.ops.aten
    for names in operators:
        assert not {aten.baddbmm.default, aten.clone.default, aten.copy.default, aten.copy_.default} & set(names)
    forward, backward = ([names.count(op) for op in (aten.bmm.default, aten.add.Tensor)] for names in operators)
    assert forward == [1, 1]
    assert backward == [3, 0]  # one for the input's gradient, one for each of two samples


@pytest.mark.parametrize("with_gradients", [True, False])
def test_on_a_gpu_the_bias_is_added_to_the_product_in_place(with_gradients, as_on_a_gpu):
    with torch.set_grad_enabled(with_gradients), Operators() as operators:
        found = module.pointwise_convolution(*as_on_a_gpu)
    assert {"bmm", "add_"} <= operators.names
    assert not operators.names & {"baddbmm", "add", "clone", "copy_"}
    torch.testing.assert_close(found, F.conv3d(*as_on_a_gpu))


def test_scripts_and_predictions_know_nothing_of_pieces(as_on_a_gpu):
    x = as_on_a_gpu[0].detach().float()
    convolution = PointwiseConv3d(3, 4, 1)
    traced = torch.jit.trace(convolution, x)
    assert "PythonOp" not in str(traced.inlined_graph)
    torch.testing.assert_close(traced(x), convolution(x))
    with torch.no_grad():
        assert convolution(x).grad_fn is None
