import pytest

from tests.metrics.folders import write_folders


@pytest.fixture
def folders(tmp_path):
    """Folders of references and of predictions."""
    return write_folders(tmp_path)
