"""Logits are nnU-Net's means over windows, up to the fp16 that nnU-Net sums up in."""

from itertools import pairwise
from unittest import mock

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import nn

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.prediction import sliding_window
from nnunetv2_gsp.prediction.sliding_window import Predictor
from tests.architectures.networks import gsp_unet, isotropic
from tests.conftest import torch_threads

CLASSES = 3


def network_of(n_axes):
    """Return a network whose logits depend on where in its window a voxel lies."""
    torch.manual_seed(0)
    convolution = {2: nn.Conv2d, 3: nn.Conv3d}[n_axes]
    return nn.Sequential(convolution(2, 8, 3, padding=1), nn.LeakyReLU(), convolution(8, CLASSES, 3, padding=1))


def predictor_of(patch_size, step_size=0.5, mirroring=True, **settings):
    return Predictor(**described(patch_size, mirroring), step_size=step_size, **settings)


def nnunets_predictor_of(patch_size, step_size=0.5, mirroring=True):
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False, tile_step_size=step_size)
    about = described(patch_size, mirroring)
    predictor.manual_initialization(
        about["network"],
        about["plans_manager"],
        about["configuration_manager"],
        about["fold_weights"],
        about["dataset_json"],
        about["trainer_name"],
        about["mirroring_axes"] or None,
    )
    return predictor


def described(patch_size, mirroring):
    """Return what a predictor is made of; `mirroring` is True for all axes, or some of them."""
    n_axes = len(patch_size)
    network = network_of(n_axes)
    return {
        "plans_manager": mock.Mock(get_label_manager=lambda _: LabelManager({"background": 0, "a": 1, "b": 2}, None)),
        "configuration_manager": ConfigurationManager(
            {"architecture": {}, "patch_size": patch_size, "spacing": [1.0] * n_axes}
        ),
        "dataset_json": {"channel_names": {"0": "first", "1": "second"}},
        "trainer_name": "nnUNetTrainer",
        "network": network,
        "fold_weights": [network.state_dict()],
        "mirroring_axes": tuple(range(n_axes)) if mirroring is True else mirroring,
    }


def image_of(shape):
    return torch.from_numpy(np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32))


@pytest.fixture
def in_fp32(monkeypatch):
    """nnU-Net sums up in fp32, weights rounded to fp16 all the same."""
    monkeypatch.setattr(torch, "half", torch.float)


@pytest.mark.parametrize("settings", [{}, {"mirroring": ()}, {"mirroring": (1,)}, {"step_size": 0.9}])
@pytest.mark.parametrize(
    ("patch_size", "shape"),
    [
        ((8, 8, 8), (13, 8, 20)),
        ((8, 10, 8), (3, 17, 5)),
        ((8, 8), (4, 13, 7)),
        ((8, 8), (20, 13, 7)),
        ((8, 8, 8), (1, 1, 1)),
        ((1, 8, 8), (3, 8, 9)),  # whose steps come to the same slice twice
    ],
)
def test_they_are_nnunets(patch_size, shape, settings, in_fp32):
    ours, nnunets = (
        kind(patch_size, **settings).predict_logits_from_preprocessed_data(image_of(shape))
        for kind in (predictor_of, nnunets_predictor_of)
    )
    assert ours.dtype == torch.float32
    assert nnunets.dtype == torch.float32
    assert torch.allclose(ours, nnunets, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("patch_size", "shape", "mirroring"),
    [
        *(((8, 16, 8), (13, 16, 20), axes) for axes in (True, (), (0, 2))),
        *(((16, 16), (2, 20, 19), axes) for axes in (True, (), (1,))),
    ],
)
def test_they_are_nnunets_of_a_gsp_network_too(patch_size, shape, mirroring, in_fp32):
    found = []
    for kind in (predictor_of, nnunets_predictor_of):
        with mock.patch(f"{__name__}.network_of", lambda n_axes: gsp_unet(patch_size, [8, 16], isotropic(2, n_axes))):
            torch.manual_seed(0)
            found.append(kind(patch_size, mirroring=mirroring).predict_logits_from_preprocessed_data(image_of(shape)))
    assert torch.allclose(*found, rtol=0, atol=1e-5)


def test_they_are_nnunets_up_to_the_fp16_it_sums_up_in():
    ours, nnunets = (
        kind((8, 8, 8)).predict_logits_from_preprocessed_data(image_of((20, 17, 14)))
        for kind in (predictor_of, nnunets_predictor_of)
    )
    assert nnunets.dtype == torch.half
    # where the edges of windows alone reach, products with their weights vanish in fp16
    inside = (slice(None), *[slice(3, -3)] * 3)
    assert torch.allclose(ours[inside], nnunets[inside].float(), rtol=0, atol=5e-3)


def test_twice_gives_the_same_bits():
    predictor, image = predictor_of((8, 8, 8)), image_of((20, 17, 14))
    once, again = (predictor.predict_logits_from_preprocessed_data(image) for _ in range(2))
    assert torch.equal(once, again)


def test_folds_are_averaged_as_nnunet_does(in_fp32):
    ours, nnunets = (kind((8, 8, 8)) for kind in (predictor_of, nnunets_predictor_of))
    [fold] = ours.fold_weights
    fold = {name: values.clone() for name, values in fold.items()}
    folds = [fold, {name: 2 * values for name, values in fold.items()}]
    ours.fold_weights = nnunets.list_of_parameters = folds
    found = [each.predict_logits_from_preprocessed_data(image_of((13, 9, 10))) for each in (ours, nnunets)]
    assert torch.allclose(*found, rtol=0, atol=1e-6)


def test_steps_shorter_than_a_slice_are_nnunets(in_fp32):
    ours, nnunets = (
        kind((4, 8, 8), step_size=0.2).predict_logits_from_preprocessed_data(image_of((9, 8, 8)))
        for kind in (predictor_of, nnunets_predictor_of)
    )
    assert torch.allclose(ours, nnunets, rtol=0, atol=1e-6)


def test_it_tells_which_window_comes():
    predictor, told = predictor_of((8, 8, 8)), []
    predictor.on_window = lambda *numbers: told.append(numbers)
    predictor.predict_logits_from_preprocessed_data(image_of((8, 8, 16)))
    assert told == [(0, 3), (1, 3), (2, 3)]


@pytest.mark.parametrize(
    ("patch_size", "shape", "slices"),
    [
        ((8, 8, 8), (20, 8, 9), [(0, 4), (3, 8), (7, 12), (11, 20)]),
        ((8, 8, 8), (3, 9, 8), [(0, 3)]),  # padded
        ((8, 8), (40, 8, 9), [(0, 16), (15, 32), (31, 40)]),
    ],
)
def test_slabs_come_in_order_and_each_begins_with_the_last_slice_of_the_one_before(patch_size, shape, slices):
    logits = predictor_of(patch_size).logits_of(image_of(shape))
    slabs = [(slab.first, slab.logits.clone()) for slab in logits.slabs]
    assert [(first, first + each.shape[1]) for first, each in slabs] == slices
    for (_, before), (_, after) in pairwise(slabs):
        assert torch.equal(before[:, -1], after[:, 0])
    whole = predictor_of(patch_size).predict_logits_from_preprocessed_data(image_of(shape))
    assert logits.shape == tuple(whole.shape)
    assert torch.equal(whole, torch.cat([slabs[0][1], *(each[:, 1:] for _, each in slabs[1:])], 1))


def test_sums_are_in_memory_of_as_many_slices_as_a_window_has(monkeypatch):
    made = []
    monkeypatch.setattr(torch, "zeros", lambda *size: made.append(size) or torch.full(size, 0.0))
    predictor_of((8, 8, 8)).predict_logits_from_preprocessed_data(image_of((40, 8, 9)))
    assert made == [(CLASSES + 1, 8 + 1, 8, 9)]


def test_an_image_with_nan_is_refused():
    image = image_of((8, 8, 8))
    image[0, 4, 4, 4] = torch.nan
    with pytest.raises(InputError, match="finite"):
        predictor_of((8, 8, 8)).predict_logits_from_preprocessed_data(image)


def test_another_device_is_left_to_nnunet():
    with mock.patch.object(nnUNetPredictor, "predict_sliding_window_return_logits", autospec=True) as asked:
        asked.return_value = torch.ones(CLASSES, 1, 8, 8)
        predictor = predictor_of((8, 8), 0.9, device=torch.device("meta"), all_on_device=False)
        assert predictor.predict_logits_from_preprocessed_data(image := image_of((1, 8, 8))) is asked.return_value
    nnunets, given = asked.call_args.args
    assert given is image
    assert (nnunets.device, nnunets.tile_step_size, nnunets.use_mirroring) == (torch.device("meta"), 0.9, True)
    assert not nnunets.perform_everything_on_device
    assert nnunets.allowed_mirroring_axes == (0, 1)
    assert nnunets.network is predictor.network


@pytest.mark.parametrize("n_folds", [1, 2])
def test_another_device_averages_folds_as_nnunet_does(n_folds):
    ours, nnunets = predictor_of((8, 8, 8)), nnunets_predictor_of((8, 8, 8))
    folds = [network_of(3).state_dict(), {name: -2 * weight for name, weight in network_of(3).state_dict().items()}]
    ours.fold_weights = nnunets.list_of_parameters = folds[:n_folds]
    ours._nnunets = ours._nnunets_predictor()
    image = image_of((12, 9, 10))
    expected = nnunets.predict_logits_from_preprocessed_data(image)
    assert torch.equal(ours.predict_logits_from_preprocessed_data(image), expected)


@pytest.mark.parametrize("patch_size", [(8, 8), (8, 8, 8)])
def test_another_device_is_started_by_a_window_of_zeros(patch_size):
    predictor, seen = predictor_of(patch_size), []
    predictor._nnunets = predictor._nnunets_predictor()
    predictor.network.register_forward_hook(lambda network, given, _: seen.append(given[0]))
    predictor.get_ready()
    assert len(seen) == 2 ** len(patch_size)
    assert all(window.shape == (1, 2, *patch_size) and not window.any() for window in seen)


def test_what_a_device_lacks_is_told_with_the_first_image():
    predictor = predictor_of((8, 8, 8))
    predictor._nnunets = mock.Mock()
    predictor._nnunets.predict_sliding_window_return_logits.side_effect = torch.OutOfMemoryError("CUDA out of memory")
    predictor.get_ready()
    predictor._nnunets.predict_sliding_window_return_logits.assert_called_once()


@pytest.mark.parametrize(
    ("found", "raised"),
    [
        ({"return_value": torch.tensor([1.0, torch.nan]).view(2, 1, 1, 1)}, (InputError, "NaN or infinite")),
        ({"side_effect": RuntimeError("Encountered inf in predicted array.")}, (InputError, "NaN or infinite")),
        ({"side_effect": RuntimeError("something else")}, (RuntimeError, "something else")),
    ],
)
def test_what_another_device_makes_is_finite(found, raised):
    kind, words = raised
    with mock.patch.object(nnUNetPredictor, "predict_sliding_window_return_logits", autospec=True, **found):
        predictor = predictor_of((8, 8), device=torch.device("meta"))
        with pytest.raises(kind, match=words):
            predictor.predict_logits_from_preprocessed_data(image_of((1, 8, 8)))


def test_torch_takes_as_many_threads_as_nnunet_lets_it_and_then_as_many_as_before(monkeypatch):
    predictor, taken = predictor_of((8, 8, 8)), []
    predictor.on_window = lambda *_: taken.append(torch.get_num_threads())
    monkeypatch.setattr(sliding_window, "default_num_processes", 2)
    with torch_threads(3):
        predictor.predict_logits_from_preprocessed_data(image_of((8, 8, 8)))
        assert torch.get_num_threads() == 3
    assert taken == [2]


def test_the_network_is_compiled_where_nnunets_variable_says_so(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda network: lambda window: 0 * network(window))
    image = image_of((8, 8, 8))
    assert predictor_of((8, 8, 8)).predict_logits_from_preprocessed_data(image).any()
    monkeypatch.setenv("nnUNet_compile", "True")
    assert not predictor_of((8, 8, 8)).predict_logits_from_preprocessed_data(image).any()
