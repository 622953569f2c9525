"""What a source holds: which candidates become cases, and what the names of folders tell."""

from pathlib import Path

import pytest

from nnunetv2_gsp.datasets.source import (
    TEST,
    TRAINING,
    Case,
    DatasetFormat,
    Survey,
    folders_below,
    nearest,
    part_told_by,
)
from nnunetv2_gsp.errors import MissingInputError


def find(image):
    """A case of every image but c, whose label is missing; all of x have one name."""
    if image.name == "c":
        raise MissingInputError("a label", "none", where=image)
    return Case("x" if image.parent.name == "x" else image.name, (image,), None, TRAINING)


@pytest.fixture
def survey():
    survey = Survey(DatasetFormat("promise12", ("T2",), {"prostate": 1}))
    survey.collect([Path(name) for name in ("a", "b", "c", "x/1", "x/2")], find, lambda image: image.name)
    return survey


def test_cases_are_complete_and_their_names_unique(survey):
    assert [case.name for case in survey.cases] == ["a", "b"]
    assert [(skipped.case, skipped.reason) for skipped in survey.skipped] == [
        ("c", "c: expected a label, got none."),
        ("x", "Expected one case x, got 2: in x and x; keep one of them."),
    ]


def test_held_out_cases_go_to_test(survey):
    survey.hold_out(["b"])
    assert {case.name: case.part for case in survey.cases} == {"a": TRAINING, "b": TEST}
    with pytest.raises(MissingInputError, match="got c") as refused:
        survey.hold_out(["b", "c"])
    assert refused.value.parameters == ("held_out",)


def test_the_label_is_the_last_of_a_cases_files():
    images = (Path("t1"), Path("t2"))
    assert Case("a", images, Path("seg"), TRAINING).files == [*images, Path("seg")]
    assert Case("a", images, None, TEST).files == [*images]


def test_folders_are_found_once_through_links_and_what_systems_leave_is_not(tmp_path):
    for name in ("b/c", "a", ".hidden", "__MACOSX/a"):
        (tmp_path / "source" / name).mkdir(parents=True)
    (tmp_path / "elsewhere" / "d").mkdir(parents=True)
    (tmp_path / "source" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "source")
    found = [str(folder.relative_to(tmp_path / "source")) for folder in folders_below(tmp_path / "source")]
    assert found == [".", "a", "b", "b/c", "link", "link/d"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("s/MICCAI_BraTS2020_TrainingData", ["miccai", "bra", "ts", "training", "data"]),
        ("s/test_data/x1", ["x"]),
        ("s", None),
    ],
)
def test_the_nearest_name_that_tells_something_counts(path, words):
    assert nearest(Path(path), Path("s"), lambda found: found) == words
    assert nearest(Path("s/told/untold"), Path("s"), lambda found: found if found == ["told"] else None) == ["told"]


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("MICCAI_BraTS2020_TrainingData/BraTS20_Training_001", TRAINING),
        ("data/HGG/Brats18_x", TRAINING),
        ("RSNA_ASNR_MICCAI_BraTS2021_ValidationData", TEST),
        ("BraTSValidation", TEST),
        ("livechallenge_test_data", TEST),
        ("train/test", TEST),
        ("latest_download", None),
        ("training_and_validation", None),
        ("BraTS2021_00000", None),
    ],
)
def test_folders_names_tell_what_is_to_train_with(path, part):
    for labelled in (False, True):
        assert part_told_by(Path("test/source") / path, Path("test/source"), labelled) == part


def test_the_sources_own_name_tells_of_files_without_label_alone():
    source = Path("data/MICCAI_ValidationData")
    for path in (source, source / "case"):
        assert part_told_by(path, source, labelled=False) == TEST
        assert part_told_by(path, source, labelled=True) is None
    assert part_told_by(source / "HGG/case", source, labelled=False) == TRAINING
