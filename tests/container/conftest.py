"""Models for BraTS and for a dataset of one channel, trained once."""

import pytest

from nnunetv2_gsp.sharing import export_model
from tests.container.models import BRATS, PLAIN, write_model


@pytest.fixture(scope="package")
def trained(tmp_path_factory):
    from tests.conftest import set_nnunet_folders

    yield from set_nnunet_folders(tmp_path_factory)


@pytest.fixture(scope="package")
def brats_models(trained):
    """Return two model folders that differ in their weights."""
    return [write_model(trained, BRATS, seed, name) for seed, name in ((0, "nnUNetPlans"), (1, "otherPlans"))]


@pytest.fixture(scope="package")
def plain_model(trained):
    return write_model(trained, PLAIN, 3, "plainPlans")


@pytest.fixture(scope="package")
def brats_bundle(brats_models, tmp_path_factory):
    return export_model(brats_models[0], tmp_path_factory.mktemp("bundle") / "brats.zip")
