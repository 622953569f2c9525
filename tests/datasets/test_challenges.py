"""The conversion of any challenge by its name."""

import pytest

from nnunetv2_gsp.challenges import EDITIONS, FAMILIES
from nnunetv2_gsp.datasets.challenges import convert_challenge
from nnunetv2_gsp.errors import ConflictingInputError, InputError
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


@pytest.mark.parametrize("challenge", FAMILIES)
def test_each_challenge_is_converted_by_its_name(challenge, raw, tmp_path):
    source = SOURCES[challenge](tmp_path / "source")
    dataset, report = convert_challenge(challenge, source, 7, strict=True)
    assert dataset == raw / f"Dataset007_{FAMILIES[challenge][0].title}"
    assert len(list((dataset / "labelsTr").iterdir())) == len(report.training) == 2


def test_an_edition_and_a_name_take_the_place_of_those_told(raw, tmp_path):
    dataset, report = convert_challenge(
        "brats", write_brats(tmp_path / "source", "brats2023"), 8, name="GLI", edition="2024"
    )
    assert (dataset.name, report.edition) == ("Dataset008_GLI", "brats2024")


@pytest.mark.parametrize(
    ("challenge", "expected"),
    [
        ("brats", f"an edition of BraTS among {', '.join(EDITIONS)}, got 2017"),
        ("promise12", "no edition with PROMISE12"),
        ("msd", "no edition with MSD"),
    ],
)
def test_an_edition_that_the_challenge_does_not_have_is_refused(challenge, expected, raw, tmp_path):
    with pytest.raises(ConflictingInputError, match=expected):
        convert_challenge(challenge, SOURCES[challenge](tmp_path / "source"), 7, edition="2017")
    assert not list(raw.iterdir())


def test_a_challenge_that_nobody_knows_is_refused(raw, tmp_path):
    with pytest.raises(InputError, match=r"Expected a challenge among brats, .*, got brats2021; change challenge"):
        convert_challenge("brats2021", tmp_path, 7)
