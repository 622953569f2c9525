"""A patch of air holds nothing to segment: no engine makes structure of what is rounding."""

import copy
from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import nn

from nnunetv2_gsp.architectures.settings import SHIFT_LOCATIONS, SHIFT_POSITIONS
from nnunetv2_gsp.cpu.library import find_fused_layers
from tests.architectures.networks import gsp_unet, isotropic
from tests.engines.networks import by_engine, fused, with_random_parameters


def logits_by_engine(network, image):
    """Return (N, classes, *patch) of every way to compute a network, and the same function in fp64."""
    exact = copy.deepcopy(network).double()
    logits = {}
    with torch.no_grad():
        logits["exact"] = exact.decoder(exact.encoder(image.double()))
        logits["plain"] = network.decoder(network.encoder(image))
        if not isinstance(find_fused_layers(), str):
            logits["fused"] = fused(network, image)
    logits["checkpointed"] = by_engine("checkpointed", network.train(), image).detach()
    assert all(value is not None for value in logits.values())
    return logits


def network_for(patch, n_stages, **changes):
    torch.manual_seed(n_stages)
    widths = (16, 24, 40, 64, 80, 80, 80, 80)[:n_stages]
    strides = [[1] * len(patch)]
    for _ in range(n_stages - 1):  # as nnU-Net: halve what is large enough
        size = [voxels // factor for voxels, factor in zip(patch, cumulative(strides), strict=True)]
        strides.append([2 if voxels % 2 == 0 and voxels >= 4 else 1 for voxels in size])
    return with_random_parameters(gsp_unet(patch, widths, strides, input_channels=1, num_classes=4, **changes))


def cumulative(strides):
    return [int(torch.tensor(axis).prod()) for axis in zip(*strides, strict=True)]


SIZES = [((32, 32, 32), 3), ((16, 32, 48), 4), ((32, 64, 64), 5), ((128, 96), 6), ((96, 160), 7), ((256, 256), 8)]


@pytest.mark.parametrize("value", [0.0, 1e-3, -1.5, 1e5])
@pytest.mark.parametrize(("patch", "n_stages"), SIZES)
def test_a_constant_patch_gives_constant_logits_in_every_engine(patch, n_stages, value):
    """Noise that no digit of fp32 could tell from rounding is constant, too."""
    for noise in (0, 1e-7):
        image = torch.full((1, 1, *patch), value) * (1 + noise * torch.randn(1, 1, *patch))
        logits = logits_by_engine(network_for(patch, n_stages), image)
        largest = logits["exact"].abs().max()
        for engine, result in logits.items():
            assert result.flatten(2).std(2).max() <= 1e-6 * largest, engine
            assert (result - logits["exact"]).abs().max() <= 1e-5 * largest, engine


@pytest.mark.parametrize("location", SHIFT_LOCATIONS)
@pytest.mark.parametrize("position", SHIFT_POSITIONS)
def test_every_position_and_location(position, location):
    network = network_for((16, 32, 32), 4, shift_position=position, shift_location=location)
    for engine, result in logits_by_engine(network, torch.full((1, 1, 16, 32, 32), -1.5)).items():
        assert result.flatten(2).std(2).max() <= 1e-6 * result.abs().max(), engine


@st.composite
def nearly_constant_images(draw):
    """Air alone, with one voxel of something else, beside a body, or with noise of any strength."""
    patch, n_stages = draw(st.sampled_from([size for size in SIZES if size[1] < 7]))
    value = draw(st.sampled_from([0.0, -1.5, 1e-3, 0.37, 1e5]))
    scale = max(abs(value), 1e-3)
    torch.manual_seed(draw(st.integers(0, 999)))
    image = torch.full((1, 1, *patch), value)
    kind = draw(st.sampled_from(["noise", "one voxel", "half"]))
    if kind == "noise":
        image += scale * 10.0 ** draw(st.floats(-7, -2)) * torch.randn_like(image)
    elif kind == "one voxel":
        image.view(-1)[draw(st.integers(0, image.numel() - 1))] += scale * draw(st.sampled_from([-1, 1e-2, 3]))
    else:
        image[..., : patch[-1] // 2] += scale * torch.randn(1, 1, *patch[:-1], patch[-1] // 2)
    return network_for(patch, n_stages), image


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(nearly_constant_images())
def test_engines_agree_on_nearly_constant_patches(network_and_image):
    """What a norm lets pass is known to three digits; six stages may lose one of them."""
    logits = logits_by_engine(*network_and_image)
    exact = logits.pop("exact")
    for engine, result in logits.items():
        assert (result - exact).abs().max() <= 5e-2 * exact.abs().max(), engine
        assert (result.argmax(1) != exact.argmax(1)).double().mean() < 0.03, engine


GPU = pytest.param("cuda", torch.float16, marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))


@pytest.mark.parametrize(("device", "dtype"), [("cpu", torch.bfloat16), GPU])
def test_half_precision_keeps_a_constant_patch_constant(device, dtype):
    network = network_for((16, 32, 48), 4).to(device)
    with torch.no_grad(), torch.autocast(device, dtype):
        logits = network(torch.full((1, 1, 16, 32, 48), -1.5, device=device))
    assert logits.float().flatten(2).std(2).max() == 0


def test_the_norm_of_a_network_for_air_is_learned_around():
    """A batch of air alone moves γ of no norm: nothing there says how to scale."""
    network = gsp_unet((16, 16, 16), (8, 16), isotropic(2), input_channels=1).train()
    network(torch.full((2, 1, 16, 16, 16), -1.5)).square().mean().backward()
    for name, parameter in network.named_parameters():
        if name.endswith("norm.weight") and "seg_layers" not in name:
            assert not parameter.grad.any(), name
    assert any(parameter.grad.any() for parameter in network.parameters() if parameter.grad is not None)


def ct_like(size, center, generator):
    """Air clipped to one value, a body, and an organ in it: an image (1, *size) and labels."""
    grid = torch.stack(torch.meshgrid(*(torch.arange(n) for n in size), indexing="ij"), -1).float()
    distance = (grid - torch.tensor(center).float()).square().sum(-1).sqrt()
    image = torch.full(size, -1.2)  # what CTNormalization makes of all that is darker than the organ's darkest voxels
    body, organ = distance < 11, distance < 6
    image[body] = -1.2 + 0.1 * torch.rand(int(body.sum()), generator=generator)
    image[organ] = torch.randn(int(organ.sum()), generator=generator).clamp(-1.2, 2)
    return image[None], organ.long()


def trained_on_bodies(patch):
    """Train a few steps on patches that hold a body each."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    network = gsp_unet(patch, (8, 16, 32), isotropic(3), input_channels=1, num_classes=2).train()
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(20):
        cases = [ct_like(patch, torch.randint(8, 16, (3,), generator=generator).tolist(), generator) for _ in range(2)]
        image, labels = (torch.stack(tensors) for tensors in zip(*cases, strict=True))
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(image), labels).backward()
        optimiser.step()
    return network.eval()


@pytest.mark.parametrize("mirrored_axes", [None, (0, 1, 2)])
def test_a_trained_network_finds_no_organ_in_the_air_around_a_body(mirrored_axes):
    """As nnU-Net predicts: windows over a padded CT, of which most hold nothing but air."""
    patch, size = (24, 24, 24), (48, 72, 72)
    network = trained_on_bodies(patch)
    image, organ = ct_like(size, (12, 12, 12), torch.Generator().manual_seed(1))
    predictor = nnUNetPredictor(use_mirroring=mirrored_axes is not None, device=torch.device("cpu"), allow_tqdm=False)
    predictor.network, predictor.allowed_mirroring_axes = network, mirrored_axes
    predictor.configuration_manager = SimpleNamespace(patch_size=patch)
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=2)
    labels = predictor.predict_sliding_window_return_logits(image).argmax(0)
    assert 2 * (labels & organ).sum() / (labels.sum() + organ.sum()) > 0.8
    assert not labels[24:].any()
    assert not labels[:, 24:].any()
    assert not labels[:, :, 24:].any()
