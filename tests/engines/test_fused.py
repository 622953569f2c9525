"""The fused layers compute what PyTorch computes, the same at every call."""

import copy
import math
from unittest import mock

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from nnunetv2_gsp.architectures.settings import SHIFT_POSITIONS
from nnunetv2_gsp.engines import Engine
from tests.architectures.networks import gsp_unet, isotropic
from tests.conftest import torch_threads
from tests.engines.networks import (
    PATCH,
    as_list,
    assert_close,
    fused,
    needs_build,
    networks_and_images,
    plain,
    small_network,
)


@needs_build
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(networks_and_images(training=False), st.sampled_from([1, 100]), st.sampled_from([0, 30]), st.integers(1, 3))
def test_any_network_gives_the_same_logits_as_pytorch(network_and_image, scale, offset, n_threads):
    network, image = network_and_image
    image = scale * image + offset
    with torch_threads(n_threads), torch.no_grad():
        computed = as_list(fused(network, image))
        references = as_list(plain(network, image))
        in_fp64 = as_list(plain(copy.deepcopy(network).double(), image.double()))
        for logits, reference, exact in zip(computed, references, in_fp64, strict=True):
            # a channel that is all but constant magnifies rounding, PyTorch's too
            assert_close(logits, reference, allowed=3 * (reference - exact).abs().max())
        torch.set_num_threads(n_threads % 3 + 1)
        # the same on any number of threads, and forward's own choice
        assert all(map(torch.equal, computed, as_list(network(image))))


def volume_around(patch, n_classes):
    """Return sums of a volume, and where in it a window lies: not at its edges, and not aligned to anything."""
    sums = torch.randn(n_classes, *(size + 3 for size in patch))
    return sums, (slice(None), *(slice(1, size + 1) for size in patch))


@needs_build
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(networks_and_images(training=False), st.integers(1, 3), st.sets(st.integers(0, 2)))
def test_logits_of_a_window_are_added_to_a_volume(network_and_image, n_threads, axes):
    network, images = network_and_image
    mirrored = tuple(axis for axis in axes if axis < images.ndim - 2)
    network.decoder.deep_supervision, image = False, images[:1]
    with torch_threads(n_threads), torch.no_grad():
        [logits] = fused(network, image)
        weights = torch.rand(logits.shape[1:])
        expected, window = volume_around(weights.shape, len(logits))
        sums = expected.clone()
        expected[window] += weights * logits.flip([axis + 1 for axis in mirrored])
        with mock.patch.object(Engine, "add", side_effect=AssertionError("logits in memory")):
            network.add_logits(image, weights, sums[window], mirrored)
    assert torch.allclose(sums, expected, rtol=0, atol=1e-6 * expected.abs().max())


@needs_build
@pytest.mark.parametrize(
    ("of_sums", "of_weights"),
    [
        pytest.param(lambda sums: sums.double(), lambda weights: weights, id="fp64"),
        pytest.param(
            lambda sums: sums.transpose(1, 3).contiguous().transpose(1, 3), lambda weights: weights, id="rows"
        ),
        pytest.param(
            lambda sums: sums,
            lambda weights: weights.flip(0).transpose(0, 1).contiguous().transpose(0, 1),
            id="weights",
        ),
        pytest.param(lambda sums: sums, lambda weights: weights[:1], id="weights of a slice"),
    ],
)
def test_other_sums_take_the_logits_from_memory(of_sums, of_weights):
    network, image = small_network(), torch.randn(1, 2, *PATCH)
    sums, weights = of_sums(torch.randn(3, *PATCH)), of_weights(torch.rand(PATCH))
    with torch.no_grad():
        expected = sums + weights * fused(network, image)[0].flip(1)
        network.add_logits(image, weights, sums, mirrored=(0,))
    assert torch.allclose(sums, expected, atol=1e-5)


@needs_build
def test_moments_of_more_tiles_than_keep_their_own_are_merged():
    """128 tiles of 2048 voxels, 64 pairs of moments, and a mean that differs from tile to tile."""
    network, trend = small_network(), torch.linspace(-5, 5, 64).view(-1, 1, 1)
    image = torch.randn(1, 2, 64, 64, 64) + trend
    with torch.no_grad():
        assert_close(fused(network, image), plain(network, image))


@needs_build
@pytest.mark.parametrize("n_axes", [2, 3])
@pytest.mark.parametrize("position", SHIFT_POSITIONS)
def test_the_labels_are_the_same(position, n_axes):
    torch.manual_seed(0)
    patch = (256, 256) if n_axes == 2 else (32, 32, 48)
    network = gsp_unet(patch, [16, 32, 64], isotropic(3, n_axes), shift_position=position).eval()
    image = torch.randn(2, 2, *patch)
    with torch.no_grad():
        agree = fused(network, image).argmax(1) == plain(network, image).argmax(1)
    assert agree.double().mean() > 0.9999


@needs_build
def test_an_image_far_from_zero_keeps_its_precision():
    network, image = small_network(), 1000 + torch.randn(1, 2, *PATCH)
    with torch.no_grad():
        exact = plain(copy.deepcopy(network).double(), image.double())
        ours, theirs = ((logits - exact).abs().max() for logits in (network(image), plain(network, image)))
    assert ours <= 2 * theirs


@needs_build
@pytest.mark.parametrize("outlier", [1e3, 1e6])
def test_a_bright_corner_costs_no_precision(outlier):
    network, image = small_network(), torch.randn(1, 2, *PATCH)
    image[..., 0, 0, 0] = outlier
    with torch.no_grad():
        exact = plain(copy.deepcopy(network).double(), image.double())
        assert_close(network(image).double(), exact)


@needs_build
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("norm_op", [nn.InstanceNorm3d, None])
def test_what_is_not_a_number_stays_none(norm_op, value):
    network, image = small_network(norm_op=norm_op), torch.randn(2, 2, *PATCH)
    image[0, 1, 3, 5, 7] = value
    with torch.no_grad():
        logits, reference = fused(network, image), plain(network, image)
    assert torch.equal(logits.isfinite(), reference.isfinite())
    assert not logits[0].isfinite().all()
    assert_close(logits[1], reference[1])


@needs_build
def test_changed_weights_count_at_once():
    network, image = small_network(), torch.randn(1, 2, *PATCH)
    with torch.no_grad():
        first = fused(network, image)
        for parameter in network.parameters():
            parameter.data.mul_(-1.5)  # without a version that would tell
        second = fused(network, image)
        assert_close(second, plain(network, image))
    assert not torch.allclose(first, second)


@needs_build
def test_an_image_that_is_not_contiguous_or_has_another_size():
    network = small_network()
    with torch.no_grad():
        for image in (torch.randn(1, 2, *reversed(PATCH)).transpose(2, 4), torch.randn(1, 2, 32, 16, 64)):
            assert_close(fused(network, image), plain(network, image))


@needs_build
def test_an_image_whose_memory_holds_its_negative():
    network, image = small_network(), torch.randn(1, 2, *PATCH)
    with torch.no_grad():
        assert_close(network(torch._neg_view(image)), network(-image))


@needs_build
@pytest.mark.parametrize(
    "changes",
    [
        {"norm_op_kwargs": {"affine": False}},
        {"conv_bias": False},
        {"norm_op": None},
        {"shift_location": "decoder"},
        {"local_shift_channels": [0, 6, 12]},
    ],
)
def test_memory_that_was_never_written_is_never_read(changes):
    network, image = small_network(**changes), torch.randn(2, 2, *PATCH)
    torch.use_deterministic_algorithms(True)  # fills what torch.empty gives with NaN
    try:
        with torch.no_grad():
            assert_close(fused(network, image), plain(network, image))
    finally:
        torch.use_deterministic_algorithms(False)


def replace_head(network):
    network.decoder.seg_layers[-1] = nn.Conv3d(8, 40, 1).eval()


def rescale(network):
    network.encoder.stages[0].convs[0].nonlin.negative_slope = 0.4
    network.encoder.stages[1].shifts[0].spatial_groups = (1, 2, 4)
    network.decoder.stages[0].convs[0].norm.eps = 0.1


def swap_shift(network):
    network.encoder.stages[1].shifts[0] = nn.Identity().eval()


def load(network):
    network.load_state_dict(
        {name: value if name == "gsp_settings" else value * 0.9 for name, value in network.state_dict().items()},
        assign=True,
    )


def drop_bias(network):
    network.encoder.stages[0].convs[0].conv.bias = None


@needs_build
@pytest.mark.parametrize("change", [replace_head, rescale, swap_shift, load, drop_bias])
def test_whatever_is_changed_between_calls_counts(change):
    network, image = small_network(), torch.randn(1, 2, *PATCH)
    with torch.no_grad():
        before = fused(network, image)
        change(network)
        after = fused(network, image)
        assert_close(after, plain(network, image))
    assert not torch.equal(before, after)
