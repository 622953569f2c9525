"""Derivatives of a movement, shown on `torch.roll`, whose derivatives PyTorch itself knows."""

import weakref

import pytest
import torch
from torch.func import grad, hessian, jacrev, jvp, vmap

from nnunetv2_gsp.ops.moved import moved


def roll(x, n_voxels, axis, step):
    return torch.roll(x, step * n_voxels, axis)


def by_us(x, step=1):
    return moved(x, step, roll, 2, -1)


def by_torch(x, step=1):
    return torch.roll(x, 2 * step, -1)


def numbered(*shape):
    return torch.arange(1.0, 1 + torch.Size(shape).numel(), dtype=torch.float64).reshape(shape)


def energy(shift):
    """Return a function whose derivatives of every order tell the directions apart."""
    return lambda x: (shift(x) ** 3 * numbered(*x.shape)).sum()


@pytest.mark.parametrize("step", [1, -1])
def test_moves_and_its_gradient_moves_back(step):
    x = numbered(2, 3, 5).requires_grad_()
    shifted = by_us(x, step)
    assert torch.equal(shifted, by_torch(x, step))
    shifted.backward(numbered(2, 3, 5))
    assert torch.equal(x.grad, by_torch(numbered(2, 3, 5), -step))


def test_derivatives_are_those_of_finite_differences():
    x = numbered(1, 2, 5).requires_grad_()
    options = {"check_forward_ad": True, "check_batched_grad": True}
    assert torch.autograd.gradcheck(lambda x: by_us(x) ** 2, (x,), **options)
    assert torch.autograd.gradgradcheck(lambda x: by_us(x) ** 3, (x,), check_fwd_over_rev=True)


def test_transforms_of_torch_func_see_what_they_see_of_torch_roll():
    x, direction = numbered(1, 2, 5), numbered(1, 2, 5).flip(-1)
    for got, expected in zip(jvp(by_us, (x,), (direction,)), jvp(by_torch, (x,), (direction,)), strict=True):
        assert torch.equal(got, expected)
    assert torch.equal(jacrev(by_us)(x), jacrev(by_torch)(x))
    assert torch.equal(hessian(energy(by_us))(x), hessian(energy(by_torch))(x))


@pytest.mark.parametrize("axis", range(4))
def test_a_batch_along_any_axis(axis):
    x = numbered(2, 3, 4, 5)
    for function in (lambda shift: shift, lambda shift: grad(energy(shift))):
        got, expected = (vmap(function(shift), axis)(x) for shift in (by_us, by_torch))
        assert torch.equal(got, expected)


def test_batches_of_batches():
    x = numbered(2, 3, 1, 2, 5)
    assert torch.equal(vmap(vmap(by_us), 1)(x), by_torch(x.movedim(1, 0)))


def test_the_backward_pass_keeps_nothing_of_the_map():
    x = numbered(1, 2, 5).requires_grad_()
    read = x * 1
    is_alive = weakref.ref(read)
    shifted = by_us(read)
    del read
    assert is_alive() is None
    shifted.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))
