"""Small networks, and what every engine must come to."""

import math

import pytest
import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import nn

from nnunetv2_gsp.architectures import GSPUNet
from nnunetv2_gsp.architectures.settings import SHIFT_LOCATIONS, SHIFT_POSITIONS
from nnunetv2_gsp.architectures.spatial_groups import feature_map_sizes, spatial_groups_of
from nnunetv2_gsp.cpu import library
from nnunetv2_gsp.engines import computed_by
from nnunetv2_gsp.engines.choice import _computed
from tests.architectures.networks import gsp_unet, isotropic

needs_build = pytest.mark.skipif(isinstance(library.find_fused_layers(), str), reason="the fused layers are not built")
PATCH = (16, 16, 32)


WIDTHS = [1, 2, 3, 4, 7, 8, 13, 16, 24, 33, 40]


@st.composite
def networks_and_images(draw, training):
    """Draw 2D and 3D, strides, widths, groups, positions, locations, local shifts, deep supervision."""
    n_axes, n_stages = draw(st.sampled_from([2, 3, 3])), draw(st.integers(2, 4))
    strides = [
        [draw(st.sampled_from([1, 1, 1, 2]))] * n_axes,
        *([draw(st.sampled_from([1, 2, 2, 3])) for _ in range(n_axes)] for _ in range(n_stages - 1)),
    ]
    # InstanceNorm of very few voxels magnifies rounding beyond any bound
    lowest = draw(st.lists(st.integers(1, 5), min_size=n_axes, max_size=n_axes).filter(lambda s: math.prod(s) >= 8))
    patch = [size * math.prod(stride[axis] for stride in strides) for axis, size in enumerate(lowest)]
    assume(math.prod(patch) <= (20_000 if training else 40_000))
    features = [draw(st.sampled_from(WIDTHS)) for _ in range(n_stages)]
    if math.prod(patch) <= 4000:
        features[-1] = draw(st.sampled_from([features[-1], 320]))
    groups = [
        draw(st.sampled_from([spatial_groups_of(size, width // 2), _divisors(draw, size, width // 2)]))
        for size, width in zip(feature_map_sizes(patch, strides), features, strict=True)
    ]
    shifted = [
        draw(st.sampled_from([0, math.prod(group) * (width // 2 // math.prod(group))]))
        for group, width in zip(groups, features, strict=True)
    ]
    local = [
        draw(st.integers(0, (width - moved) // (2 * n_axes))) * 2 * n_axes
        for width, moved in zip(features, shifted, strict=True)
    ]
    torch.manual_seed(draw(st.integers(0, 99)))
    n_channels = draw(st.integers(1, 5))
    network = GSPUNet(
        n_channels,
        n_stages,
        features,
        [nn.Conv2d, nn.Conv3d][n_axes - 2],
        strides,
        draw(st.integers(1, 3)),
        draw(st.integers(2, 9)),
        draw(st.integers(1, 2)),
        groups,
        shifted,
        draw(st.sampled_from(SHIFT_POSITIONS)),
        draw(st.sampled_from(SHIFT_LOCATIONS)),
        local,
        conv_bias=draw(st.booleans()),
        norm_op=draw(st.sampled_from([None, *[[nn.InstanceNorm2d, nn.InstanceNorm3d][n_axes - 2]] * 4])),
        norm_op_kwargs={"affine": draw(st.booleans())},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"negative_slope": draw(st.sampled_from([0.0, 0.01, 0.3, -0.2, 1.5]))},
        deep_supervision=draw(st.booleans()),
    )
    image = torch.randn(draw(st.integers(1, 3)), n_channels, *patch)
    return with_random_parameters(network).train(training), image


def _divisors(draw, size, at_most):
    """Draw groups that the rule would not take."""
    counts = tuple(draw(st.sampled_from([n for n in range(1, 6) if voxels % n == 0])) for voxels in size)
    return counts if math.prod(counts) <= at_most else (1,) * len(size)


def plain(network, image):
    return network.decoder(network.encoder(image))


def as_list(logits):
    return logits if isinstance(logits, list) else [logits]


def by_engine(name, network, image):
    """Return what the engine computes, which has to be meant for the call, and to apply."""
    usual, network.engine = network.engine, name
    try:
        logits, choice = _computed(network, image)
        assert choice.engine == name
        return logits
    finally:
        network.engine = usual


def fused(network, image):
    return by_engine("fused", network, image)


def steps_aside(network, image):
    """Tell whether another engine than the fused one computes a call."""
    return computed_by(network, image).engine != "fused"


def with_random_parameters(network):
    """Norms scale, shift and flip signs, as after a training."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                nn.init.normal_(parameter, std=0.7)
    return network.eval()


def small_network(**changes):
    torch.manual_seed(0)
    return with_random_parameters(gsp_unet(PATCH, [8, 16, 24], isotropic(3), **changes))


def assert_close(ours, reference, allowed=0):
    assert ours.shape == reference.shape
    assert ours.dtype == reference.dtype
    assert (ours - reference).abs().max() <= 1e-4 * reference.abs().max() + allowed
