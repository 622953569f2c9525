import pytest

from tests.submission.archives import Submission, unpacked


@pytest.fixture
def submission_of(tmp_path):
    return lambda challenge: Submission(tmp_path / challenge, challenge)


@pytest.fixture
def brats2021(submission_of):
    return submission_of("brats2021")


@pytest.fixture
def promise12(submission_of):
    return submission_of("promise12")


@pytest.fixture
def contents(brats2021):
    """The files of a valid archive, by name."""
    return unpacked(brats2021)


@pytest.fixture
def promise12_contents(promise12):
    return unpacked(promise12)
