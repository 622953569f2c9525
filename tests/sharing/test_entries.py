"""A bundle's entries of the network have the types that the network gives them, before anything is built of them."""

from copy import deepcopy

import pytest

from nnunetv2_gsp.architectures.from_plans import gsp_architecture
from nnunetv2_gsp.sharing.model import Model
from nnunetv2_gsp.sharing.refused import RefusedError
from tests.architectures.networks import isotropic, stock_architecture

DATASET_JSON = {"labels": {"background": 0, "one": 1}, "file_ending": ".nii.gz"}
UNSOUND = {
    "n_stages": ["3", 17, 0, [3]],
    "features_per_stage": [16, [16, "32", 48], [[1] * 17]],
    "strides": [2, [[1, 1, 1], ["2"] * 3], [1] * 17],
    "n_conv_per_stage": [17, [2, 2, 17], "two", [2, 0, 2]],
    "n_conv_per_stage_decoder": [17, [2, 17], [[2], [2]]],
    "spatial_groups": [2, [[2, 2, "2"]] * 3, [], [[2]] * 3],
    "shift_channels": [8, [8, -1, 8], ["8"] * 3],
    "local_shift_channels": [None, [0.5] * 3],
    "shift_position": ["SCS", 1],
    "shift_location": ["everywhere", None],
    "kernel": [5, "3", 1.5],
}


def model(**changes):
    """Return a model whose plans have nothing but what names and settings are asked of."""
    architecture = deepcopy(gsp_architecture(stock_architecture((16, 32, 48), isotropic(3)), (8, 8, 8)))
    architecture["arch_kwargs"].update(changes)
    plans = {
        "dataset_name": "Dataset001_Any",
        "plans_name": "any",
        "configurations": {"3d_fullres": {"architecture": architecture, "data_identifier": "any"}},
    }
    return Model("nnUNetTrainerOfNobody", "3d_fullres", plans, DATASET_JSON)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in UNSOUND.items() for value in values])
def test_an_entry_of_another_type_is_refused_by_its_name(name, value):
    with pytest.raises(RefusedError, match=name):
        model(**{name: value}).network()


@pytest.mark.parametrize("changes", [{}, {"n_conv_per_stage": 2}, {"strides": [1, [2, 2, 2], 2]}, {"kernel": 3}])
def test_what_a_network_takes_is_not(changes):
    """So that the cases above are refused for what they change: these come as far as their trainer."""
    with pytest.raises(RefusedError, match="nnUNetTrainerOfNobody"):
        model(**changes).network()
