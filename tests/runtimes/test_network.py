"""What is exported in place of the network's own modules computes the same: those modules are the oracle."""

import numpy as np
import pytest
import torch

from nnunetv2_gsp.ops import GroupShift
from nnunetv2_gsp.ops.instance_norm import SteadyInstanceNorm2d, SteadyInstanceNorm3d
from nnunetv2_gsp.runtimes.network import CentredNorm, MeanOfFolds, TabulatedShift, prepare
from tests.architectures.networks import gsp_unet, isotropic


@pytest.mark.parametrize(
    ("groups", "shape"),
    [
        ((2, 2, 2), (19, 4, 6, 8)),  # three channels stay
        ((1, 2, 4), (16, 3, 4, 8)),
        ((3, 1, 2), (12, 6, 5, 4)),
        ((4, 2), (16, 8, 6)),
    ],
)
def test_a_tabulated_shift_moves_the_same_voxels(groups, shape):
    n_groups = int(np.prod(groups))
    shift = GroupShift(groups, shape[0] // n_groups * n_groups)
    tabulated, x = TabulatedShift(shift, shape), torch.rand(3, *shape)
    assert torch.equal(tabulated(x), shift(x))
    assert tabulated.rows_in_block.numel() + tabulated.first_rows.numel() < x[0].numel()


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("norm_class", [SteadyInstanceNorm2d, SteadyInstanceNorm3d])
def test_a_centred_norm_normalises_alike(norm_class, affine):
    torch.manual_seed(0)
    norm = norm_class(3, affine=affine)
    x = 50 + torch.rand(2, 3, *[6] * (2 if norm_class is SteadyInstanceNorm2d else 3))
    x[:, 1] = 7  # a constant map
    if affine:
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    torch.testing.assert_close(CentredNorm(norm)(x), norm.double()(x.double()).float(), atol=2e-5, rtol=1e-5)


def test_a_centred_norm_takes_a_mean_that_is_off(monkeypatch):
    """As a runtime that adds up 32 000 voxels one after the other, in fp32, gives it."""
    mean = torch.Tensor.mean
    monkeypatch.setattr(torch.Tensor, "mean", lambda x, *args, **kwargs: mean(x, *args, **kwargs) * 1.001)
    assert CentredNorm(SteadyInstanceNorm3d(2))(torch.full((1, 2, 4, 4, 4), 3.0)).abs().max() == 0


def test_a_prepared_network_computes_the_same():
    torch.manual_seed(0)
    network = gsp_unet((8, 8, 8), (8, 16), isotropic(2), shift_position="CSCSUpShift", local_shift_channels=[0, 6])
    network.eval().engine = "plain"
    x = torch.rand(2, 2, 8, 8, 8)
    with torch.inference_mode():
        expected = network(x)
        prepare(network, (2, 8, 8, 8))
        torch.testing.assert_close(network(x), expected, atol=1e-4, rtol=1e-4)
    assert not [module for module in network.modules() if isinstance(module, GroupShift | SteadyInstanceNorm3d)]


def test_folds_are_averaged():
    constants = [torch.nn.Conv2d(1, 1, 1) for _ in range(3)]
    x = torch.rand(2, 1, 4, 4)
    expected = torch.stack([network(x) for network in constants]).mean(0)
    torch.testing.assert_close(MeanOfFolds(constants)(x), expected)
