"""Parameters, MACs and activation memory: by hand, and on the meta device as on another."""

import pytest
import torch
from torch import nn

from nnunetv2_gsp.architectures.from_plans import gsp_architecture
from nnunetv2_gsp.counting import built, count_activation_bytes, count_macs, count_parameters
from nnunetv2_gsp.engines import ENGINES, VARIABLE
from tests.architectures.networks import isotropic, stock_architecture

FLOAT32 = 4


def tiny():
    return nn.Sequential(nn.Conv3d(2, 3, 3, padding=1), nn.LeakyReLU(inplace=True), nn.Conv3d(3, 5, 1), nn.Sigmoid())


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_tiny_network_costs_what_one_counts_by_hand(device):
    network, x = tiny().to(device), torch.zeros(7, 2, 4, 5, 6, device=device)
    assert count_parameters(network) == (2 * 3 * 27 + 3) + (3 * 5 + 5)
    assert count_macs(network, x) == 7 * 4 * 5 * 6 * (2 * 3 * 27 + 3 * 5)
    # the input for the first convolution; one map for the activation in place and the second; the sigmoid's result
    assert count_activation_bytes(network, x) == 7 * 4 * 5 * 6 * (2 + 3 + 5) * FLOAT32


def test_a_view_counts_as_the_storage_it_keeps_and_only_once():
    class Halves(nn.Module):
        def forward(self, x):
            x = 2 * x
            return torch.exp(x[:, :1]).sum() + (x[:, 1:] ** 2).sum() + (x[:, :1] ** 2).sum()

    x = torch.zeros(1, 4, 3, requires_grad=True)
    assert count_activation_bytes(Halves(), x) == (4 + 1) * 3 * FLOAT32


def test_transposed_convolutions_count_too():
    # each of 8 voxels of 2 channels reaches 2×2 voxels of 3 channels
    assert count_macs(nn.ConvTranspose2d(2, 3, 2, 2), torch.zeros(1, 2, 2, 4)) == 8 * 2 * 4 * 3


@pytest.mark.parametrize("engine", sorted({*ENGINES} - {"plain"}))
def test_engines_that_need_content_leave_counting_to_others(engine, monkeypatch):
    def kept():
        network = built(architecture, 2, 3, "meta", deep_supervision=True)
        return count_activation_bytes(network, torch.zeros(2, 2, 16, 16, device="meta"))

    architecture = gsp_architecture(stock_architecture((8, 16), isotropic(2, dim=2)), (16, 16))
    monkeypatch.setenv(VARIABLE, "checkpointed")
    expected = kept()
    monkeypatch.setenv(VARIABLE, engine)
    assert kept() == expected


@pytest.mark.parametrize("kind", ["plain", "residual", "gsp"])
@pytest.mark.parametrize("patch", [(8, 16, 8), (16, 16)])
def test_what_is_counted_on_the_meta_device_is_what_real_tensors_keep(kind, patch, monkeypatch):
    monkeypatch.setenv(VARIABLE, "checkpointed")  # fused layers, which run on a CPU alone, keep less
    architecture = stock_architecture((8, 16, 16), isotropic(3, dim=len(patch)), kind.replace("gsp", "plain"))
    if kind == "gsp":
        architecture = gsp_architecture(architecture, patch)
    kept = [
        count_activation_bytes(
            built(architecture, 2, 3, device, deep_supervision=True),
            torch.zeros(2, 2, *patch, device=device),
        )
        for device in ("meta", "cpu")
    ]
    # a GSP norm by its formula keeps a few numbers a channel more than by batch norm's operators, which meta lacks
    assert kept[0] == pytest.approx(kept[1], rel=0.02 if kind == "gsp" else 0)
    assert kept[1] > 0
