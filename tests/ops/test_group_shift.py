"""The fast shift against the paper's equations written plainly: equality, for a shift does no arithmetic."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_func

from nnunetv2_gsp.ops import GroupShift, group_shift
from nnunetv2_gsp.ops.reference import group_shift_reference

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8, torch.int32, torch.int64]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]


@st.composite
def shifts(draw):
    """Draw (shape, spatial_groups, shift_channels) that fit, in 2D and 3D."""
    n_axes = draw(st.integers(2, 3))
    spatial_groups = tuple(draw(st.integers(1, 4 if n_axes == 2 else 3)) for _ in range(n_axes))
    spatial = [groups * draw(st.integers(1, 3)) for groups in spatial_groups]
    shift_channels = math.prod(spatial_groups) * draw(st.integers(1, 2))
    channels = shift_channels + draw(st.integers(0, 3))
    return (draw(st.integers(1, 3)), channels, *spatial), spatial_groups, shift_channels


def counted(shape, dtype=torch.float64):
    """Number every element, so that a misplaced one cannot pass for another."""
    return torch.arange(math.prod(shape)).reshape(shape).to(dtype)


@settings(max_examples=200)
@given(shifts())
def test_equals_the_papers_equations(shift):
    shape, spatial_groups, shift_channels = shift
    x = counted(shape)
    assert torch.equal(
        group_shift(x, spatial_groups, shift_channels), group_shift_reference(x, spatial_groups, shift_channels)
    )


@settings(max_examples=50)
@given(shifts())
def test_gradient_is_the_references_gradient(shift):
    shape, spatial_groups, shift_channels = shift
    upstream = counted(shape) + 1
    gradients = []
    for function in (group_shift, group_shift_reference):
        x = counted(shape).requires_grad_()
        function(x, spatial_groups, shift_channels).backward(upstream)
        gradients.append(x.grad)
    assert torch.equal(*gradients)


@settings(max_examples=50)
@given(shifts())
def test_backward_undoes_forward(shift):
    shape, spatial_groups, shift_channels = shift
    x = counted(shape).requires_grad_()
    shifted = group_shift(x, spatial_groups, shift_channels)
    shifted.backward(shifted.detach())
    assert torch.equal(x.grad, x.detach())


def test_hand_computed_in_one_row():
    """Fig. 1c: four blocks in a line, one channel a group; channel i moves i blocks on, the fifth stays."""
    x = torch.tensor([[10 * channel + block for block in range(4)] for channel in range(5)]).view(1, 5, 1, 4)
    assert group_shift(x, (1, 4), 4)[0, :, 0].tolist() == [
        [0, 1, 2, 3],
        [13, 10, 11, 12],
        [22, 23, 20, 21],
        [31, 32, 33, 30],
        [40, 41, 42, 43],
    ]


def test_every_block_meets_every_other():
    """Sec. 2.2: after the shift a voxel holds one channel group of the same voxel in every spatial group."""
    block_of_voxel = torch.arange(8).view(2, 1, 2, 1, 2, 1).expand(2, 3, 2, 2, 2, 4).reshape(1, 1, 6, 4, 8)
    met = group_shift(block_of_voxel.expand(1, 8, 6, 4, 8), (2, 2, 2), 8)
    assert torch.equal(met.sort(1).values, torch.arange(8).view(1, 8, 1, 1, 1).expand_as(met))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_exact_in_every_dtype(dtype, device):
    x = torch.randint(-100, 100, (2, 9, 4, 6, 8)).to(device, dtype)
    assert torch.equal(group_shift(x, (2, 2, 2), 8).cpu(), group_shift_reference(x.cpu(), (2, 2, 2), 8))


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.transpose(2, 4),
        lambda x: x[:, ::2],
        lambda x: x[:, :, :, :, ::2],
        lambda x: x.contiguous(memory_format=torch.channels_last_3d),
        lambda x: x[:1].expand(3, -1, -1, -1, -1),
    ],
    ids=["transposed", "channel slice", "voxel slice", "channels last", "expanded"],
)
def test_any_memory_layout(view):
    x = view(counted((2, 18, 4, 6, 8)))
    assert torch.equal(group_shift(x, (2, 2, 2), 8), group_shift_reference(x, (2, 2, 2), 8))


def test_input_is_left_alone_and_output_is_new():
    x = counted((1, 8, 4, 4, 4)).requires_grad_()
    before = x.detach().clone()
    group_shift(x, (2, 2, 2), 8).mul_(3).sum().backward()  # as an inplace nonlinearity would
    assert torch.equal(x.detach(), before)
    assert torch.equal(x.grad, torch.full_like(x, 3))


@pytest.mark.parametrize(
    ("shape", "spatial_groups", "shift_channels"), [((1, 5, 2, 2, 2), (2, 1, 2), 4), ((2, 7, 2, 4), (1, 2), 6)]
)
def test_gradcheck(shape, spatial_groups, shift_channels):
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(group_shift, (x, spatial_groups, shift_channels))
    assert torch.autograd.gradgradcheck(group_shift, (x, spatial_groups, shift_channels))


@pytest.mark.parametrize("shape", [(2, 9, 4, 4, 4), (2, 9, 8, 4)])
def test_compiles_to_one_graph_forward_and_backward(shape):
    spatial_groups = (2, 2, 2)[: len(shape) - 2]
    x = torch.randn(shape).requires_grad_()
    compiled = torch.compile(lambda x: group_shift(x, spatial_groups, 8) * 2, backend="aot_eager", fullgraph=True)
    result = compiled(x)
    result.sum().backward()
    assert torch.equal(result, group_shift_reference(x, spatial_groups, 8) * 2)
    assert torch.equal(x.grad, torch.full(shape, 2.0))


def test_derivatives_of_torch_func():
    x, direction = counted((3, 2, 9, 4, 4)), counted((3, 2, 9, 4, 4)) + 7
    expected = torch.stack([group_shift_reference(each, (2, 2), 8) for each in x])
    shift = partial(group_shift, spatial_groups=(2, 2), shift_channels=8)
    for axis in range(5):
        mapped = torch.vmap(shift, in_dims=axis, out_dims=axis)(x.movedim(0, axis))
        assert torch.equal(mapped.movedim(axis, 0), expected)
    shifted, tangent = torch.func.jvp(shift, (x[0],), (direction[0],))
    assert torch.equal(shifted, expected[0])
    assert torch.equal(tangent, group_shift_reference(direction[0], (2, 2), 8))
    gradients = torch.vmap(torch.func.grad(lambda x, weight: (shift(x) * weight).sum()))(x, expected)
    assert torch.equal(gradients, x)


def test_a_gather_in_compiled_backward_passes_too():
    """A scatter-add would be atomic on a GPU: slow, and other bits at each run."""
    torch._dynamo.reset()
    operators = []

    def look(graph, _):
        operators.append({str(node.target) for node in graph.graph.nodes})
        return make_boxed_func(graph.forward)

    backend = aot_autograd(fw_compiler=look, bw_compiler=look)
    compiled = torch.compile(partial(group_shift, spatial_groups=(2, 2), shift_channels=8), backend=backend)
    compiled(torch.randn(1, 8, 4, 4, requires_grad=True)).sum().backward()
    assert "aten.index_select.default" in operators[1]
    assert not any("add" in name or "put" in name for name in operators[1] if name.startswith("aten.index"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_keeps_its_dtype_under_autocast(dtype):
    x = torch.randn(1, 8, 4, 4, 4, dtype=dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        shifted = group_shift(x, (2, 2, 2), 8)
    assert shifted.dtype == dtype
    assert torch.equal(shifted, group_shift_reference(x, (2, 2, 2), 8))


def test_shapes_on_meta_tensors():
    x = torch.empty(2, 32, 128, 128, 128, device="meta")
    assert group_shift(x, (2, 2, 2), 16).shape == x.shape


def test_fake_tensors_do_not_leak_into_real_calls():
    from torch._subclasses.fake_tensor import FakeTensorMode

    x = counted((1, 8, 4, 4, 4))
    for _ in range(2):  # nor do real ones leak into fake calls
        with FakeTensorMode():
            group_shift(torch.empty(1, 8, 4, 4, 4), (2, 2, 2), 8)
        group_shift(x, (2, 2, 2), 8)
    assert torch.equal(group_shift(x, (2, 2, 2), 8), group_shift_reference(x, (2, 2, 2), 8))


def test_module_is_the_function_and_has_no_parameters():
    x = counted((2, 10, 4, 4, 4))
    module = GroupShift((2, 2, 2), 8)
    assert torch.equal(module(x), group_shift(x, (2, 2, 2), 8))
    assert not module.state_dict()
    assert str(module) == "GroupShift(spatial_groups=(2, 2, 2), shift_channels=8)"


@pytest.mark.parametrize(
    ("shape", "spatial_groups", "shift_channels", "received"),
    [
        ((8, 4, 4), (2, 2), 4, r"\(8, 4, 4\)"),
        ((1, 8, 4, 4, 4), (2, 2), 4, r"\(2, 2\)"),
        ((1, 8, 4, 4, 5), (2, 2, 2), 8, r"\(2, 2, 2\) for a map of \(4, 4, 5\)"),
        ((1, 8, 4, 4, 4), (2, 2, 8), 8, r"\(2, 2, 8\)"),
        ((1, 8, 4, 4, 4), (2, 0, 2), 8, r"\(2, 0, 2\)"),
        ((1, 8, 4, 4, 4), (2, 2, 2), 4, "multiple of 8 .* got 4"),
        ((1, 8, 4, 4, 4), (2, 2, 2), 0, "positive multiple of 8 .* got 0"),
        ((1, 8, 4, 4, 4), (2, 2, 2), 16, "at most 8 .* got 16"),
    ],
)
def test_what_does_not_fit_is_named(shape, spatial_groups, shift_channels, received):
    with pytest.raises(ValueError, match=received):
        group_shift(torch.zeros(shape), spatial_groups, shift_channels)
