"""Logits are nnU-Net's means over windows, up to the fp16 that nnU-Net sums up in."""

from unittest import mock

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import nn

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.prediction.sliding_window import Predictor

CLASSES = 3


def network_of(n_axes):
    """Return a network whose logits depend on where in its window a voxel lies."""
    torch.manual_seed(0)
    convolution = {2: nn.Conv2d, 3: nn.Conv3d}[n_axes]
    return nn.Sequential(convolution(2, 8, 3, padding=1), nn.LeakyReLU(), convolution(8, CLASSES, 3, padding=1))


def predictor_of(kind, patch_size, **settings):
    predictor = kind(device=torch.device("cpu"), allow_tqdm=False, **settings)
    n_axes = len(patch_size)
    predictor.manual_initialization(
        network := network_of(n_axes),
        mock.Mock(get_label_manager=lambda _: LabelManager({"background": 0, "a": 1, "b": 2}, None)),
        ConfigurationManager({"architecture": {}, "patch_size": patch_size, "spacing": [1.0] * n_axes}),
        [network.state_dict()],
        {},
        "nnUNetTrainer",
        tuple(range(n_axes)),
    )
    return predictor


def image_of(shape):
    return torch.from_numpy(np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32))


@pytest.fixture
def in_fp32(monkeypatch):
    """nnU-Net sums up in fp32, weights rounded to fp16 all the same."""
    monkeypatch.setattr(torch, "half", torch.float)


@pytest.mark.parametrize("settings", [{}, {"use_mirroring": False}, {"use_gaussian": False}, {"tile_step_size": 0.9}])
@pytest.mark.parametrize(
    ("patch_size", "shape"),
    [((8, 8, 8), (13, 8, 20)), ((8, 10, 8), (3, 17, 5)), ((8, 8), (4, 13, 7)), ((8, 8, 8), (1, 1, 1))],
)
def test_they_are_nnunets(patch_size, shape, settings, in_fp32):
    ours, nnunets = (
        predictor_of(kind, patch_size, **settings).predict_logits_from_preprocessed_data(image_of(shape))
        for kind in (Predictor, nnUNetPredictor)
    )
    assert ours.dtype == torch.float32
    assert nnunets.dtype == torch.float32
    assert torch.allclose(ours, nnunets, rtol=0, atol=1e-6)


def test_they_are_nnunets_up_to_the_fp16_it_sums_up_in():
    ours, nnunets = (
        predictor_of(kind, (8, 8, 8)).predict_logits_from_preprocessed_data(image_of((20, 17, 14)))
        for kind in (Predictor, nnUNetPredictor)
    )
    assert nnunets.dtype == torch.half
    # where the edges of windows alone reach, products with their weights vanish in fp16
    inside = (slice(None), *[slice(3, -3)] * 3)
    assert torch.allclose(ours[inside], nnunets[inside].float(), rtol=0, atol=5e-3)


def test_twice_gives_the_same_bits():
    predictor, image = predictor_of(Predictor, (8, 8, 8)), image_of((20, 17, 14))
    once, again = (predictor.predict_logits_from_preprocessed_data(image) for _ in range(2))
    assert torch.equal(once, again)


def test_folds_are_averaged_as_nnunet_does(in_fp32):
    found = []
    for kind in (Predictor, nnUNetPredictor):
        predictor = predictor_of(kind, (8, 8, 8))
        [fold] = predictor.list_of_parameters
        fold = {name: values.clone() for name, values in fold.items()}
        predictor.list_of_parameters = [fold, {name: 2 * values for name, values in fold.items()}]
        found.append(predictor.predict_logits_from_preprocessed_data(image_of((8, 9, 10))))
    assert torch.allclose(*found, rtol=0, atol=1e-6)


def test_it_tells_which_window_comes():
    predictor, told = predictor_of(Predictor, (8, 8, 8)), []
    predictor.on_window = lambda *numbers: told.append(numbers)
    predictor.predict_logits_from_preprocessed_data(image_of((8, 8, 16)))
    assert told == [(0, 3), (1, 3), (2, 3)]


def test_an_image_with_nan_is_refused():
    image = image_of((8, 8, 8))
    image[0, 4, 4, 4] = torch.nan
    with pytest.raises(InputError, match="finite"):
        predictor_of(Predictor, (8, 8, 8)).predict_logits_from_preprocessed_data(image)


def test_another_device_is_left_to_nnunet():
    predictor = predictor_of(Predictor, (8, 8, 8))
    predictor.device = torch.device("meta")
    with mock.patch.object(nnUNetPredictor, "predict_sliding_window_return_logits", return_value="nnU-Net's"):
        assert predictor.predict_sliding_window_return_logits(image_of((8, 8, 8))) == "nnU-Net's"
