"""The norm is PyTorch's where a map varies, and β where nothing but rounding does."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import instance_norm as of_torch

from nnunetv2_gsp.ops import instance_norm, steady
from nnunetv2_gsp.ops.instance_norm import LEAST_DEVIATION, _predicted_in_half_precision, least_deviation

EPS = 1e-5


def by_the_rule(x, weight, bias, floor):
    """Compute in fp64 what the docstring says, channel by channel."""
    x, weight, bias = x.double(), weight.double(), bias.double()
    normalised = torch.empty_like(x)
    for sample, result in zip(x, normalised, strict=True):
        threshold = floor**2 * sum(channel.mean() ** 2 for channel in sample) / len(sample)
        for channel, gamma, beta, to in zip(sample, weight, bias, result, strict=True):
            variance = ((channel - channel.mean()) ** 2).mean()
            keep = min(1, max(0, float(variance / threshold) - 1)) if threshold > 0 else float(variance > 0)
            to[:] = keep * gamma * (channel - channel.mean()) / (variance + EPS) ** 0.5 + beta
    return normalised


@st.composite
def maps(draw):
    """Maps whose channels vary by any part of their values, none included."""
    size = draw(st.lists(st.integers(2, 7), min_size=2, max_size=3))
    n_samples, n_channels = draw(st.integers(1, 3)), draw(st.integers(1, 9))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    mean = torch.randn(n_samples, n_channels, generator=generator) * draw(st.sampled_from([0, 1e-3, 1, 1e5]))
    deviations = st.sampled_from([0, 0, 1e-7, 1e-6, 1e-5, 3e-4, 1e-2, 1.0])
    parts = torch.tensor(draw(st.lists(deviations, min_size=n_channels, max_size=n_channels)))
    noise = torch.randn(n_samples, n_channels, *size, generator=generator)
    per_channel = (n_samples, n_channels, *[1] * len(size))
    return mean.view(per_channel) + noise * parts.view(1, -1, *per_channel[2:]) * mean.square().mean().sqrt()


def parameters(n_channels):
    generator = torch.Generator().manual_seed(n_channels)
    return torch.randn(n_channels, generator=generator), torch.randn(n_channels, generator=generator)


@settings(max_examples=200)
@given(maps())
def test_the_rule_in_every_precision_and_by_both_ways(x):
    weight, bias = parameters(x.shape[1])
    exact = by_the_rule(x, weight, bias, LEAST_DEVIATION)
    for dtype, allowed in ((torch.float32, 2e-2), (torch.float64, 1e-6)):
        values, gamma, beta = x.to(dtype), weight.to(dtype), bias.to(dtype)
        with torch.no_grad():
            fast = instance_norm(values, gamma, beta, EPS)
            with torch.device("cpu"):  # somebody watches
                formula = instance_norm(values, gamma, beta, EPS)
        for computed in (fast, formula):
            assert computed.dtype is dtype
            assert (computed - exact).abs().max() <= allowed


@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_takes_its_own_rounding_for_constant(dtype, is_training):
    with torch.set_grad_enabled(is_training):
        check_half_precision(dtype, instance_norm)
    check_half_precision(dtype, _predicted_in_half_precision)  # a GPU's


def check_half_precision(dtype, instance_norm):
    torch.manual_seed(0)
    constant = torch.full((1, 4, 6, 6, 6), 1.7) * (1 + 0.5 * torch.finfo(dtype).eps * torch.rand(1, 4, 6, 6, 6))
    weight, bias = parameters(4)
    beta = bias.to(dtype).view(1, 4, 1, 1, 1).expand(constant.shape)
    assert torch.equal(instance_norm(constant.to(dtype), weight, bias, EPS), beta)
    assert least_deviation(dtype) < 0.005
    image = torch.randn(2, 4, 6, 6, 6).to(dtype)
    error = instance_norm(image, weight, bias, EPS).double() - of_torch(
        image.double(), weight=weight.double(), bias=bias.double()
    )
    assert error.abs().max() < 8 * torch.finfo(dtype).eps
    far = (image + 20).to(dtype)  # where the mean takes most of the digits
    error = instance_norm(far, weight, bias, EPS).double() - of_torch(
        far.double(), weight=weight.double(), bias=bias.double()
    )
    assert error.abs().max() < 100 * torch.finfo(dtype).eps


@pytest.mark.parametrize("value", [0.5, 1.01, 2.2, 5.6, 7.9])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_constant_channel_beside_small_ones_is_constant_in_half_precision(dtype, value):
    image = torch.linspace(-0.05, 0.05, 8).view(1, 8, 1, 1, 1).repeat(1, 1, 16, 16, 16)
    image[:, 3] = value  # its sum of squares is rounded by more than what counts as varying beside the others
    weight, bias = parameters(8)
    for each in (instance_norm, _predicted_in_half_precision):  # a GPU's
        with torch.no_grad():
            found = each(image.to(dtype), weight, bias, EPS)
        assert torch.equal(found, bias.to(dtype).view(1, 8, 1, 1, 1).expand(image.shape))


@settings(max_examples=30)
@given(st.integers(2, 3), st.sampled_from([0.0, 30.0, -500.0]), st.booleans())
def test_an_ordinary_map_is_normalised_as_by_pytorch(n_axes, mean, is_affine):
    torch.manual_seed(0)
    stock = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[n_axes](5, affine=is_affine)
    if is_affine:
        nn.init.normal_(stock.weight)
        nn.init.normal_(stock.bias)
    norm = steady(type(stock))(5, affine=is_affine)
    norm.load_state_dict(stock.state_dict())
    x = torch.randn(2, 5, *[7] * n_axes) + mean
    exact = copy.deepcopy(stock).double()(x.double())
    assert (norm(x) - exact).abs().max() <= 1.5 * (stock(x) - exact).abs().max() + 1e-6


def test_derivatives_are_those_of_the_rule():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 3, 4, 2, dtype=torch.float64)
    x[0, 1] = 0.7  # a constant channel
    x[1, 2] = 0.7 + 2e-5 * x[1, 2]
    weight, bias = (parameter.double().requires_grad_() for parameter in parameters(3))
    x.requires_grad_()
    gradients = [
        torch.autograd.grad(forward(x, weight, bias, EPS).pow(3).sum(), (x, weight, bias))
        for forward in (instance_norm, by_autograd)
    ]
    for computed, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(computed, expected)
    assert not gradients[0][0][0, 1].any()


def by_autograd(x, weight, bias, eps):
    """The rule in plain operators; how much is kept is a constant."""
    variance, mean = torch.var_mean(x, (2, 3, 4), correction=0, keepdim=True)
    threshold = LEAST_DEVIATION**2 * mean.square().mean(1, keepdim=True)
    keep = (variance / threshold - 1).clamp(0, 1).detach()
    return keep * weight.view(1, -1, 1, 1, 1) * (x - mean) / (variance + eps).sqrt() + bias.view(1, -1, 1, 1, 1)


def test_second_derivatives_vmap_and_forward_mode():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 3, 4, 2, dtype=torch.float64, requires_grad=True)
    weight, bias = (parameter.double().requires_grad_() for parameter in parameters(3))

    def forward(*inputs):
        return instance_norm(*inputs, EPS)

    assert torch.autograd.gradcheck(forward, (x, weight, bias), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(forward, (x, weight, bias))
    batched = torch.func.vmap(forward, (0, None, None))(x[:, None], weight, bias)
    torch.testing.assert_close(batched[:, 0], forward(x, weight, bias))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_on_cuda_as_on_the_cpu(dtype, is_training):
    torch.manual_seed(0)
    x = torch.randn(2, 5, 9, 8, 7).to(dtype)
    x[0] = 1.7
    weight, bias = parameters(5)
    with torch.set_grad_enabled(is_training):
        computed = instance_norm(x.cuda(), weight.cuda(), bias.cuda(), EPS).cpu()
    assert computed.dtype is dtype
    exact = by_the_rule(x, weight, bias, least_deviation(dtype))
    assert (computed - exact).abs().max() < 16 * torch.finfo(dtype).eps
    assert torch.equal(computed[0], bias.to(dtype).view(5, 1, 1, 1).expand(computed[0].shape))


def test_what_is_not_a_number_stays_none():
    x = torch.randn(2, 2, 4, 4, 4)
    x[0, 1, 2, 2, 2] = float("nan")
    weight, bias = parameters(2)
    finite = instance_norm(x, weight, bias, EPS).isfinite().flatten(2).all(2)
    assert finite.tolist() == [[False, False], [True, True]]


def test_a_prediction_in_half_precision_on_the_cpu_sums_accurately():
    """A million voxels added up one after the other would leave no digit of so small a deviation."""
    torch.manual_seed(0)
    x = (10 + 0.3 * torch.randn(1, 2, 96, 96, 96)).half()
    weight, bias = torch.ones(2), torch.zeros(2)
    with torch.no_grad():
        deviation = instance_norm(x, weight, bias, EPS).double().std()
    assert deviation == pytest.approx(1, abs=5e-3)


def test_running_statistics_and_maps_of_one_voxel_are_pytorch_s():
    norm = steady(nn.InstanceNorm3d)(2, track_running_stats=True)
    theirs = copy.deepcopy(norm)
    theirs.__class__ = nn.InstanceNorm3d
    x = torch.randn(3, 2, 4, 4, 4)
    assert torch.equal(norm(x), theirs(x))
    assert torch.equal(norm.running_mean, theirs.running_mean)
    with pytest.raises(ValueError, match="more than one voxel"):
        instance_norm(torch.randn(1, 2, 1, 1, 1), *parameters(2), EPS)
    assert steady(nn.BatchNorm3d) is nn.BatchNorm3d
    assert steady(None) is None
