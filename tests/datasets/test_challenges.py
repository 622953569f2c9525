"""The registry of challenges, and the conversion of any of them by name."""

import subprocess
import sys

import pytest

from nnunetv2_gsp.datasets.brats import NAMINGS
from nnunetv2_gsp.datasets.challenges import BRATS, CHALLENGES, SUBMISSIONS, convert_challenge
from nnunetv2_gsp.datasets.labels import LABEL_MAPPINGS
from nnunetv2_gsp.errors import ConflictingInputError
from nnunetv2_gsp.submission.rules import rules_of
from tests.datasets.sources import write_brats, write_msd, write_promise12

SOURCES = {
    "brats": lambda folder: write_brats(folder, "brats2021"),
    "promise12": write_promise12,
    "msd": lambda folder: write_msd(folder, ("T2", "ADC"), (0, 1, 2)),
}


@pytest.fixture
def raw(tmp_path, monkeypatch):
    raw = tmp_path / "raw"
    raw.mkdir()
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(raw))
    return raw


def test_every_name_stands_for_something():
    assert tuple(NAMINGS) == BRATS.full_names
    assert set(SUBMISSIONS) <= set(LABEL_MAPPINGS)
    assert [rules_of(challenge).challenge for challenge in SUBMISSIONS] == list(SUBMISSIONS)


def test_choices_cost_no_import():
    """Completion and --help read them."""
    program = (
        "import sys, nnunetv2_gsp.datasets.challenges; "
        "print({'numpy', 'SimpleITK', 'torch', 'nnunetv2'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "set()\n"


@pytest.mark.parametrize("challenge", CHALLENGES)
def test_each_challenge_is_converted_by_its_name(challenge, raw, tmp_path):
    source = SOURCES[challenge](tmp_path / "source")
    dataset, report = convert_challenge(challenge, source, 7, strict=True)
    assert dataset == raw / f"Dataset007_{CHALLENGES[challenge].title}"
    assert len(list((dataset / "labelsTr").iterdir())) == len(report.training) == 2


def test_an_edition_and_a_name_take_the_place_of_those_told(raw, tmp_path):
    dataset, report = convert_challenge(
        "brats", write_brats(tmp_path / "source", "brats2023"), 8, name="GLI", edition="2024"
    )
    assert (dataset.name, report.edition) == ("Dataset008_GLI", "brats2024")


@pytest.mark.parametrize(
    ("challenge", "expected"),
    [
        ("brats", "an edition of BraTS among 2018, 2019, 2020, 2021, 2023, 2024, got 2017"),
        ("promise12", "no edition with PROMISE12"),
        ("msd", "no edition with MSD"),
    ],
)
def test_an_edition_that_the_challenge_does_not_have_is_refused(challenge, expected, raw, tmp_path):
    with pytest.raises(ConflictingInputError, match=expected):
        convert_challenge(challenge, SOURCES[challenge](tmp_path / "source"), 7, edition="2017")
    assert not list(raw.iterdir())
