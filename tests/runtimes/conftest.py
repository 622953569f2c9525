"""One trained model of two folds."""

import pytest

from tests.runtimes.models import dataset, plans
from tests.sharing.models import write_model_folder


@pytest.fixture(scope="module")
def model_folder(nnunet_folders):
    return write_model_folder(nnunet_folders, plans(), (0, 1), dataset=dataset())
