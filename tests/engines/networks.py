"""Small networks, and what every engine must come to."""

import pytest
import torch
from torch import nn

from nnunetv2_gsp.cpu import library
from nnunetv2_gsp.engines import computed_by
from nnunetv2_gsp.engines.choice import _computed
from tests.architectures.networks import gsp_unet, isotropic

needs_build = pytest.mark.skipif(isinstance(library.find_fused_layers(), str), reason="the fused layers are not built")
PATCH = (16, 16, 32)


def plain(network, image):
    return network.decoder(network.encoder(image))


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
    """Tell whether another engine than the fused one computes a call, or PyTorch says what is wrong with it."""
    try:
        return computed_by(network, image).engine != "fused"
    except (RuntimeError, ValueError):
        return True


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
