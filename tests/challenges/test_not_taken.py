import pytest

from nnunetv2_gsp.challenges.not_taken import not_taken


@pytest.mark.parametrize(
    ("folder", "title"),
    [
        ("UPENN-GBM-00001_11", "UPENN-GBM"),
        ("UCSF-PDGM-0004_nifti", "UCSF-PDGM"),
        ("sub-strokecase0001", "ISLES"),
        ("BraTS2021_00000", None),
        ("sub-01", None),
    ],
)
def test_data_sets_are_known_by_their_folders(folder, title):
    assert not_taken(folder) == title
