"""What a source holds: which candidates become cases, and what the names of folders tell."""

from pathlib import Path

import pytest

from nnunetv2_gsp.challenges import CHALLENGES
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
    survey = Survey(DatasetFormat(CHALLENGES["promise12"], ("T2",)))
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


def test_a_case_under_two_names_is_held_out_if_one_of_them_says_so(tmp_path):
    """As in a folder `test` of links into another: of whole cases, or of their files."""
    for name in ("a", "b", "c"):
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "train" / name / f"{name}.nii").touch()
    (tmp_path / "val" / "b").mkdir(parents=True)
    (tmp_path / "val" / "a").symlink_to(tmp_path / "train" / "a")
    (tmp_path / "val" / "b" / "b.nii").symlink_to(tmp_path / "train" / "b" / "b.nii")
    survey = Survey(DatasetFormat(CHALLENGES["promise12"], ("T2",)))
    files = [file for folder in folders_below(tmp_path) for file in folder.glob("*.nii")]
    survey.collect(files, lambda file: Case(file.stem, (file,), file, part_told_by(file.parent, tmp_path, True)), str)
    assert {case.name: case.part for case in survey.cases} == {"a": TEST, "b": TEST, "c": TRAINING}
    assert survey.skipped == []
    assert survey.notes == ["Not trained on, as a link to it stands in a folder that is set apart: a.nii, b.nii."]
    survey.account_for(tmp_path)
    assert survey.left_over == []
    survey.train_on_all()
    assert {case.part for case in survey.cases} == {TRAINING}


def test_whatever_no_case_claims_is_named(tmp_path):
    for name in ("a.nii.gz", "a.nii", "b.mhd", "b.raw", "x/c.nii.gz", "x/d.mhd", "x/e.raw", "x/.f.nii", "notes.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    survey = Survey(DatasetFormat(CHALLENGES["promise12"], ("T2",)))
    survey.collect([tmp_path / "a.nii.gz", tmp_path / "b.mhd"], lambda file: Case(file.name, (file,), None, TEST), str)
    survey.account_for(tmp_path)
    [skipped] = survey.left_over
    assert skipped.case == "x"
    assert skipped.reason.startswith(
        f"{tmp_path}/x: expected images that belong to a case, got 3 images (c.nii.gz for one) that"
    )
    assert survey.notes == [
        "Not taken, as a .nii.gz of the same name stands beside: a.nii.",
        "Not taken, as it is no image: notes.csv.",
    ]


def test_files_of_skipped_cases_are_not_named_again(tmp_path):
    for name in ("c/1.nii", "c/2.nii", "a/1.nii", "b/1.nii", "b/2.nii"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    survey = Survey(DatasetFormat(CHALLENGES["promise12"], ("T2",)))

    def find(folder):
        if folder.name == "c":
            raise MissingInputError("a label", "none", where=folder)
        return Case(folder.name, (folder / "1.nii",), None, TEST)

    survey.collect([tmp_path / "c", tmp_path / "b"], find, lambda folder: folder.name)
    survey.leave_out(tmp_path / "a", "Expected b, got a.")
    survey.account_for(tmp_path)
    assert [left.case for left in survey.left_over] == ["a", "b"]
    assert "got 1 image (2.nii) that belong to none" in survey.left_over[1].reason


def test_folders_are_found_through_links_and_what_systems_leave_is_not(tmp_path):
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
        ("val", TEST),
        ("VAL/a", TEST),
        ("my_Val_2", TEST),
        ("BraTSVal", TEST),
        ("bratsval", TEST),
        ("valset", TEST),
        ("dev", TEST),
        ("devset", TEST),
        ("testset/a", TEST),
        ("my_test_cases", TEST),
        ("values", None),
        ("device", None),
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
