import pytest
import torch
from torch.nn.functional import leaky_relu

from nnunetv2_gsp.ops import leaky_relu_group_shift_
from nnunetv2_gsp.ops.reference import group_shift_reference

MAPS = [
    ((2, 12, 4, 6, 8), (2, 1, 2), 8),
    ((1, 9, 6, 4), (3, 2), 6),
    ((3, 4, 2, 2, 2), (1, 1, 1), 4),
    ((1, 64, 4, 4, 4), (4, 4, 4), 64),
]


@pytest.mark.parametrize(("shape", "groups", "shift_channels"), MAPS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_equals_one_after_the_other_with_its_gradient(shape, groups, shift_channels, dtype):
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    normed = x * 1
    shifted = leaky_relu_group_shift_(normed, 0.01, groups, shift_channels)
    expected = group_shift_reference(leaky_relu(x, 0.01), groups, shift_channels)
    assert shifted is normed
    assert torch.equal(shifted, expected)
    gradient = torch.randn_like(x)
    (wanted,) = torch.autograd.grad(expected, x, gradient)
    for to_be_differentiated in (True, False):
        (got,) = torch.autograd.grad(shifted, x, gradient, create_graph=to_be_differentiated)
        assert torch.equal(got, wanted)


def test_gradient_is_that_of_finite_differences():
    x = torch.randn(1, 4, 2, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: leaky_relu_group_shift_(3 * x, 0.1, (2, 2), 4), x)


def test_what_another_backward_pass_needs_is_not_overwritten_in_silence():
    x = torch.randn(1, 2, 4, 4, requires_grad=True)
    exponential = x.exp()  # keeps its result
    leaky_relu_group_shift_(exponential, 0.01, (2, 1), 2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        exponential.sum().backward()


def test_second_derivative_is_that_of_finite_differences():
    x = torch.randn(1, 4, 2, 4, dtype=torch.double, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: leaky_relu_group_shift_(x**2 * x.sign(), 0.1, (2, 2), 4), x)


def test_groups_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="divide the map"):
        leaky_relu_group_shift_(torch.zeros(1, 4, 3, 4), 0.01, (2, 1), 4)
