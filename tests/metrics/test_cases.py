"""Cases: which files belong together, and one sentence for folders that do not."""

import pytest

from nnunetv2_gsp.errors import ConflictingInputError, InputError, MissingInputError
from nnunetv2_gsp.metrics.cases import check_same_cases, find_segmentations, first_channel_of, pair
from tests.metrics.folders import CASES


def test_a_case_is_a_files_name_without_its_ending(tmp_path):
    for name in ("a.nii.gz", "b.v2.mha", "D.NII.GZ", "e.gipl", ".hidden.nii", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "c.nii").mkdir()
    assert find_segmentations(tmp_path) == {
        "a": tmp_path / "a.nii.gz",
        "b.v2": tmp_path / "b.v2.mha",
        "D": tmp_path / "D.NII.GZ",
        "e": tmp_path / "e.gipl",
    }


def test_folders_that_are_empty_or_not_there_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingInputError, match=r"empty: expected segmentations \(\.nii\.gz, .* got none; change x\."):
        find_segmentations(tmp_path / "empty", ["x"])
    with pytest.raises(MissingInputError, match=r"nowhere: expected a folder of segmentations, got none\."):
        find_segmentations(tmp_path / "nowhere")


def test_two_files_of_one_case_are_refused(folders):
    (folders[0] / "BraTS_001.nii").touch()
    with pytest.raises(ConflictingInputError, match=r"BraTS_001.nii and BraTS_001.nii.gz; move one away"):
        find_segmentations(folders[0])


def test_what_only_one_side_has_is_left_out_of_the_pairs(folders):
    references, predictions = map(find_segmentations, folders)
    del references[CASES[0]], predictions[CASES[2]]
    assert pair(references, predictions) == {CASES[1]: tuple(folder / f"{CASES[1]}.nii.gz" for folder in folders)}


@pytest.mark.parametrize(("side", "name"), [(0, "gt"), (1, "pred")])
def test_a_case_that_one_side_lacks_is_refused_where_the_same_are_needed(side, name, folders):
    files = [*map(find_segmentations, folders)]
    check_same_cases(*files)
    del files[side][CASES[1]]
    with pytest.raises(
        InputError,
        match=rf"{name}: expected the same cases.*, got none of BraTS_002; add what is "
        rf"missing, or move away .*, or change chill\.",
    ):
        check_same_cases(*files, ["chill"])


def test_predictions_of_another_dataset_are_refused(folders):
    references, predictions = map(find_segmentations, folders)
    others = {f"prostate_{case}": file.with_name(f"prostate_{file.name}") for case, file in predictions.items()}
    with pytest.raises(
        ConflictingInputError,
        match=r"pred: expected predictions of the cases in .*gt \(such as "
        r"BraTS_001.nii.gz\), got others \(prostate_BraTS_001.nii.gz\)",
    ):
        pair(references, others)


def test_the_first_channel_is_named_as_nnunet_does(tmp_path):
    (tmp_path / "a_0000.mha").touch()
    (tmp_path / "b_0001.nii.gz").touch()
    assert first_channel_of("a", tmp_path) == tmp_path / "a_0000.mha"
    assert first_channel_of("b", tmp_path) is None
