"""The fused layers compute what PyTorch computes, and step aside wherever PyTorch itself is wanted."""
import copy
import math
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nnunetv2_gsp.architectures import GSPUNet
from nnunetv2_gsp.architectures.settings import SHIFT_LOCATIONS, SHIFT_POSITIONS
from nnunetv2_gsp.architectures.spatial_groups import feature_map_sizes, spatial_groups_of
from nnunetv2_gsp.cpu import forward, fused_forward, library
from tests.architectures.networks import gsp_unet, isotropic

needs_build = pytest.mark.skipif(isinstance(library.find_fused_layers(), str), reason="the fused layers are not built")
builds = sorted(file for file in Path(library.__file__).parent.glob("_layers_*") if file.suffix != ".py")
PATCH = (16, 16, 32)


def plain(network, image):
    return network.decoder(network.encoder(image))


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


@st.composite
def networks_and_images(draw):
    n_axes, n_stages = draw(st.sampled_from([2, 3, 3])), draw(st.integers(2, 4))
    strides = [[1] * n_axes] + [[draw(st.sampled_from([1, 2, 2, 3])) for _ in range(n_axes)]
                                for _ in range(n_stages - 1)]
    # InstanceNorm of very few voxels magnifies rounding beyond any bound
    lowest = draw(st.lists(st.integers(1, 5), min_size=n_axes, max_size=n_axes).filter(lambda s: math.prod(s) >= 8))
    patch = [size * math.prod(stride[axis] for stride in strides) for axis, size in enumerate(lowest)]
    assume(math.prod(patch) <= 40_000)
    features = [draw(st.integers(3, 40)) for _ in range(n_stages)]
    groups = [spatial_groups_of(size, width // 2)
              for size, width in zip(feature_map_sizes(patch, strides), features, strict=True)]
    shifted = [draw(st.sampled_from([0, math.prod(group) * (width // 2 // math.prod(group))]))
               for group, width in zip(groups, features, strict=True)]
    local = [draw(st.integers(0, (width - moved) // (2 * n_axes))) * 2 * n_axes
             for width, moved in zip(features, shifted, strict=True)]
    norm = draw(st.sampled_from([None, *[[nn.InstanceNorm2d, nn.InstanceNorm3d][n_axes - 2]] * 3]))
    torch.manual_seed(draw(st.integers(0, 99)))
    network = GSPUNet(
        draw(st.integers(1, 5)), n_stages, features, [nn.Conv2d, nn.Conv3d][n_axes - 2], strides,
        draw(st.integers(1, 3)), draw(st.integers(2, 9)), draw(st.integers(1, 2)), groups, shifted,
        draw(st.sampled_from(SHIFT_POSITIONS)), draw(st.sampled_from(SHIFT_LOCATIONS)), local,
        conv_bias=draw(st.booleans()), norm_op=norm, norm_op_kwargs={"affine": draw(st.booleans())},
        nonlin=nn.LeakyReLU, nonlin_kwargs={"negative_slope": draw(st.sampled_from([0.0, 0.01, 0.3, -0.2, 1.5]))})
    image = torch.randn(draw(st.integers(1, 3)), network.encoder.stages[0].convs[0].conv.in_channels, *patch)
    return with_random_parameters(network), image * draw(st.sampled_from([1, 100])) + draw(st.sampled_from([0, 30]))


@needs_build
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(networks_and_images(), st.integers(1, 3))
def test_any_network_gives_the_same_logits_as_pytorch(network_and_image, n_threads):
    network, image = network_and_image
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        with torch.no_grad():
            logits = fused_forward(network, image)
            assert logits is not None
            reference = plain(network, image)
            exact = plain(copy.deepcopy(network).double(), image.double())
            # a channel that is all but constant magnifies rounding, PyTorch's too
            assert_close(logits, reference, allowed=3 * (reference - exact).abs().max())
            assert torch.equal(logits, network(image))  # repeatable, and forward's own choice
    finally:
        torch.set_num_threads(before)


@needs_build
@pytest.mark.parametrize("file", builds, ids=lambda file: file.name.split(".")[0])
def test_every_build_that_this_cpu_runs_agrees(file, monkeypatch):
    name = file.name.split(".")[0].removeprefix("_layers_")
    if name not in library._BUILDS.get(torch.backends.cpu.get_cpu_capability(), ("plain",)):
        pytest.skip("this CPU cannot run it")
    monkeypatch.setattr(forward, "fused_layers", lambda: library.load(name, file))
    network = small_network(shift_position="CSCSUpShift", local_shift_channels=[0, 6, 6])
    image = torch.randn(2, 2, *PATCH)
    with torch.no_grad():
        assert_close(fused_forward(network, image), plain(network, image))


@needs_build
def test_the_labels_are_the_same():
    torch.manual_seed(0)
    network, image = gsp_unet((64, 64, 64), [16, 32, 64], isotropic(3)).eval(), torch.randn(1, 2, 64, 64, 64)
    with torch.no_grad():
        agree = fused_forward(network, image).argmax(1) == plain(network, image).argmax(1)
    assert agree.float().mean() > 0.9999


@needs_build
def test_an_image_far_from_zero_keeps_its_precision():
    network, image = small_network(), 1000 + torch.randn(1, 2, *PATCH)
    with torch.no_grad():
        exact = plain(copy.deepcopy(network).double(), image.double())
        ours, theirs = ((logits - exact).abs().max() for logits in (network(image), plain(network, image)))
    assert ours <= 2 * theirs


@needs_build
@pytest.mark.parametrize("norm_op", [nn.InstanceNorm3d, None])
def test_what_is_not_a_number_stays_none(norm_op):
    network, image = small_network(norm_op=norm_op), torch.randn(2, 2, *PATCH)
    image[0, 1, 3, 5, 7] = math.nan
    with torch.no_grad():
        logits = fused_forward(network, image)
        assert torch.equal(logits.isnan(), plain(network, image).isnan())
    assert logits[0].isnan().any()
    assert not logits[1].isnan().any()


@needs_build
def test_changed_weights_count_at_once():
    network, image = small_network(), torch.randn(1, 2, *PATCH)
    with torch.no_grad():
        first = fused_forward(network, image)
        for parameter in network.parameters():
            parameter.data.mul_(-1.5)  # without a version that would tell
        second = fused_forward(network, image)
        assert_close(second, plain(network, image))
    assert not torch.allclose(first, second)


@needs_build
def test_threads_do_not_disturb_each_other():
    network, images = small_network(), torch.randn(16, 1, 2, *PATCH)
    with torch.no_grad():
        expected = [network(image) for image in images]

    def predict(image):
        with torch.no_grad():
            return fused_forward(network, image)

    with ThreadPoolExecutor(4) as pool:
        for ours, alone in zip(pool.map(predict, images.repeat(4, 1, 1, 1, 1, 1)), expected * 4, strict=True):
            assert torch.equal(ours, alone)


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@needs_build
@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_a_thousand_patches_leave_nothing_behind():
    network, image = small_network(), torch.randn(1, 2, *PATCH)
    with torch.inference_mode():
        for _ in range(100):
            network(image)
        before = resident_bytes()
        for _ in range(1000):
            network(image)
    assert resident_bytes() - before < 4 << 20


@needs_build
def test_a_network_is_forgotten_with_its_last_reference():
    forward._memories.clear()
    network = small_network()
    with torch.no_grad():
        network(torch.randn(1, 2, *PATCH))
    assert len(forward._memories) == 1
    del network
    assert len(forward._memories) == 0


@needs_build
def test_an_image_that_is_not_contiguous_or_has_another_size():
    network = small_network()
    with torch.no_grad():
        for image in (torch.randn(1, 2, *reversed(PATCH)).transpose(2, 4), torch.randn(1, 2, 32, 16, 64)):
            assert_close(fused_forward(network, image), plain(network, image))


def unusual_networks():
    yield "training", small_network().train()
    yield "deep supervision", small_network(deep_supervision=True)
    yield "3×3×3", small_network(kernel=3)
    yield "another nonlinearity", small_network(nonlin=nn.GELU, nonlin_kwargs={})
    yield "another norm", small_network(norm_op=nn.BatchNorm3d)
    yield "norm after nonlinearity", small_network(nonlin_first=True)
    yield "fp64", small_network().double()
    hooked = small_network()
    hooked.encoder.stages[0].register_forward_hook(lambda *_: None)
    yield "hooks", hooked


@pytest.mark.parametrize("network", [pytest.param(network, id=name) for name, network in unusual_networks()])
def test_networks_that_are_left_to_pytorch(network):
    image = torch.randn(1, 2, *PATCH, dtype=next(network.parameters()).dtype)
    with torch.no_grad():
        assert fused_forward(network, image) is None
        network(image)


def test_calls_that_are_left_to_pytorch():
    network, image = small_network(), torch.randn(1, 2, *PATCH)
    assert fused_forward(network, image) is None  # gradients
    with torch.no_grad():
        assert fused_forward(network, image.double()) is None
        assert fused_forward(network, image[:0]) is None
        assert fused_forward(network, image[..., :30]) is None  # PyTorch says what is wrong
        assert fused_forward(network, image[:, :1]) is None
        with torch.autocast("cpu", torch.bfloat16):
            assert fused_forward(network, image) is None
        with FlopCounterMode(display=False) as counter:
            network(image)
        assert counter.get_total_flops() > 0


@pytest.mark.filterwarnings("ignore")
def test_tracing_and_vmap_see_pytorch_s_operators():
    network, image = small_network(shift_position="none"), torch.randn(1, 2, *PATCH)  # neither knows GroupShift
    with torch.no_grad():
        expected = plain(network, image)
        assert_close(torch.jit.trace(network, torch.randn_like(image))(image), expected)
        assert_close(torch.vmap(network)(image[None])[0], expected)


def test_export_sees_pytorch_s_operators():
    network, image = small_network(), torch.randn(1, 2, *PATCH)
    with torch.no_grad():
        exported = torch.export.export(network, (image,))
        assert_close(exported.module()(image), plain(network, image))


def test_without_a_build_one_line_is_logged_and_pytorch_predicts(monkeypatch, caplog):
    monkeypatch.setattr(library, "EXTENSION_SUFFIXES", [".missing"])
    library.fused_layers.cache_clear()
    network, image = small_network(), torch.randn(1, 2, *PATCH)
    with torch.no_grad():
        for _ in range(3):
            assert torch.equal(network(image), plain(network, image))
    library.fused_layers.cache_clear()
    assert [record.message.startswith("GSP networks run in plain PyTorch") for record in caplog.records] == [True]
