"""The one-voxel shift against its definition in plain indexing, and against a 3×3×3 convolution with one tap."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import conv3d

from nnunetv2_gsp.ops import LocalShift, local_shift
from nnunetv2_gsp.ops.reference import local_shift_reference


@st.composite
def local_shifts(draw):
    """Draw (shape, first_channel, shift_channels) that fit, in 2D and 3D; axes of one voxel too."""
    n_axes = draw(st.integers(2, 3))
    first, part = draw(st.integers(0, 3)), draw(st.integers(1, 2))
    channels = first + 2 * n_axes * part + draw(st.integers(0, 3))
    return (
        (draw(st.integers(1, 2)), channels, *(draw(st.integers(1, 5)) for _ in range(n_axes))),
        first,
        (2 * n_axes * part),
    )


def counted(shape):
    """Number every element from 1, so that a misplaced one cannot pass for another, nor a zero for a voxel."""
    return torch.arange(1, math.prod(shape) + 1, dtype=torch.float64).reshape(shape)


@settings(max_examples=100)
@given(local_shifts())
def test_equals_its_definition(shift):
    shape, first, channels = shift
    assert torch.equal(
        local_shift(counted(shape), first, channels), local_shift_reference(counted(shape), first, channels)
    )


@settings(max_examples=50)
@given(local_shifts())
def test_gradient_is_the_references_gradient(shift):
    shape, first, channels = shift
    gradients = []
    for function in (local_shift, local_shift_reference):
        x = counted(shape).requires_grad_()
        function(x, first, channels).backward(counted(shape))
        gradients.append(x.grad)
    assert torch.equal(*gradients)


def test_hand_computed_in_a_plane():
    """Channel 0 stays; the others go up, down, left, right; a zero enters at the border."""
    plane = torch.tensor([[1, 2, 3], [4, 5, 6]])
    assert local_shift(plane.expand(1, 6, 2, 3), 1, 4)[0].tolist() == [
        [[1, 2, 3], [4, 5, 6]],
        [[4, 5, 6], [0, 0, 0]],
        [[0, 0, 0], [1, 2, 3]],
        [[2, 3, 0], [5, 6, 0]],
        [[0, 1, 2], [0, 4, 5]],
        [[1, 2, 3], [4, 5, 6]],
    ]


def test_is_what_a_convolution_with_one_tap_a_channel_does():
    x = torch.randn(2, 6, 4, 5, 3)
    weight = torch.zeros(6, 1, 3, 3, 3)
    for channel, (axis, tap) in enumerate((axis, tap) for axis in range(3) for tap in (2, 0)):
        index = [1, 1, 1]
        index[axis] = tap
        weight[(channel, 0, *index)] = 1
    assert torch.equal(local_shift(x, 0, 6), conv3d(x, weight, padding=1, groups=6))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int64], ids=str)
def test_exact_in_every_dtype(dtype):
    x = torch.randint(-100, 100, (2, 9, 4, 6, 8)).to(dtype)
    assert torch.equal(local_shift(x, 2, 6), local_shift_reference(x, 2, 6))


def test_any_memory_layout_and_input_left_alone():
    x = counted((2, 18, 4, 6, 8)).transpose(2, 4)[:, ::2]
    before = x.clone()
    shifted = local_shift(x, 2, 6)
    assert torch.equal(shifted, local_shift_reference(before, 2, 6))
    shifted.mul_(3)  # as an inplace nonlinearity would
    assert torch.equal(x, before)


def test_gradcheck():
    x = torch.randn(1, 8, 2, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(local_shift, (x, 1, 6))
    assert torch.autograd.gradgradcheck(local_shift, (x, 1, 6))


@pytest.mark.parametrize("shape", [(2, 9, 4, 4, 4), (2, 9, 8, 4)])
def test_compiles_to_one_graph_forward_and_backward(shape):
    channels = 2 * (len(shape) - 2)
    x = torch.randn(shape).requires_grad_()
    torch._dynamo.reset()  # or what another test compiled decides what is a constant here
    shift = LocalShift(2, channels)
    compiled = torch.compile(lambda x: shift(x) * 2, backend="aot_eager", fullgraph=True)
    result = compiled(x)
    result.sum().backward()
    assert torch.equal(result, local_shift_reference(x, 2, channels) * 2)
    plain = x.detach().clone().requires_grad_()
    local_shift_reference(plain, 2, channels).sum().backward()
    assert torch.equal(x.grad, plain.grad * 2)


def test_keeps_its_dtype_under_autocast_and_its_shape_on_meta():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert local_shift(torch.randn(1, 8, 4, 4, 4), 0, 6).dtype == torch.float32
    assert local_shift(torch.empty(2, 32, 64, 64, 64, device="meta"), 16, 6).shape == (2, 32, 64, 64, 64)


def test_module_is_the_function_and_has_no_parameters():
    x = counted((2, 10, 4, 4, 4))
    module = LocalShift(3, 6)
    assert torch.equal(module(x), local_shift(x, 3, 6))
    assert not module.state_dict()
    assert str(module) == "LocalShift(first_channel=3, shift_channels=6)"


@pytest.mark.parametrize(
    ("shape", "first", "channels", "received"),
    [
        ((8, 4, 4), 0, 4, r"\(8, 4, 4\)"),
        ((1, 8, 4, 4, 4), 0, 4, "multiple of 6 .* got 4 from channel 0"),
        ((1, 8, 4, 4), 0, 0, "multiple of 4 .* got 0"),
        ((1, 8, 4, 4, 4), 3, 6, "within the 8 channels, got 6 from channel 3"),
        ((1, 8, 4, 4, 4), -1, 6, "from channel -1"),
    ],
)
def test_what_does_not_fit_is_named(shape, first, channels, received):
    with pytest.raises(ValueError, match=received):
        local_shift(torch.zeros(shape), first, channels)
