"""A trained model, its bundle, and the results folder of whoever imports it."""

import pytest

from nnunetv2_gsp.sharing import export_model
from tests.architectures.networks import isotropic, stock_architecture
from tests.sharing.models import plans_of, write_model_folder


@pytest.fixture(scope="module")
def model_folder(nnunet_folders):
    architecture = stock_architecture((8, 12, 16), isotropic(3))
    return write_model_folder(nnunet_folders, plans_of(architecture, (16, 16, 8)), (0, 1, "all"))


@pytest.fixture(scope="module")
def bundle(model_folder, tmp_path_factory):
    return export_model(model_folder, tmp_path_factory.mktemp("bundle") / "model.zip", [0])


@pytest.fixture
def results(tmp_path, monkeypatch):
    """The nnUNet_results of someone else."""
    folder = tmp_path / "results"
    folder.mkdir()
    monkeypatch.setenv("nnUNet_results", str(folder))
    return folder
