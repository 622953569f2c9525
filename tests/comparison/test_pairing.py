"""Pairings of folders: names, regions, and what is refused."""

import pytest

from nnunetv2_gsp.comparison.pairing import pair_folders
from nnunetv2_gsp.errors import InputError
from tests.comparison.contenders import LABELS, N_CASES, write_predictions
from tests.metrics.drawings import write_dataset_json


def test_other_cases_are_refused(folders, tmp_path):
    write_predictions(tmp_path / "fewer", 0, range(N_CASES - 1))
    with pytest.raises(InputError, match=rf"fewer: expected the same cases .*, got none of case_{N_CASES - 1};"):
        pair_folders([folders / "good", tmp_path / "fewer"], folders / "gt")
    with pytest.raises(InputError, match=r"two or more to compare, each named once, got .*; change predictions"):
        pair_folders([folders / "good"], folders / "gt")
    with pytest.raises(InputError, match=r"two or more to compare, each named once, got .*; change predictions"):
        pair_folders([folders / "good", folders / "good"], folders / "gt")


def test_other_regions_or_another_ignore_label_are_refused(folders, tmp_path):
    for name in ("a", "b", "without"):
        write_predictions(tmp_path / name, 0)
    write_dataset_json(tmp_path / "a", LABELS)
    for labels, found in (({**LABELS, "core": 1}, "core 1"), ({**LABELS, "ignore": 3}, "ignore 3")):
        write_dataset_json(tmp_path / "b", labels)
        with pytest.raises(InputError, match=rf"core 2 in the .*dataset.json, but .*{found} in the .*/b/dataset"):
            pair_folders([tmp_path / "a", tmp_path / "b"], folders / "gt")
        # whoever names a dataset.json decides
        pair_folders([tmp_path / "a", tmp_path / "b"], folders / "gt", dataset_json=tmp_path / "a" / "dataset.json")
    write_dataset_json(tmp_path / "b", {"core": 2, "whole <tumor>": [2, 1], "background": 0})
    pairing = pair_folders([tmp_path / "without", tmp_path / "a", tmp_path / "b"], folders / "gt")
    assert list(pairing.labels.regions) == ["whole <tumor>", "core"]


def test_folders_of_one_name_are_told_apart_by_their_paths(tmp_path):
    for name in ("a", "b"):
        write_predictions(tmp_path / name / "predictions", 0, range(1))
    pairing = pair_folders([tmp_path / "a/predictions", tmp_path / "b/predictions"], tmp_path / "a/predictions")
    assert [contender.name for contender in pairing.contenders] == ["a/predictions", "b/predictions"]


@pytest.mark.parametrize("images", ["nowhere", "gt"])
def test_images_of_no_case_are_refused(images, folders):
    with pytest.raises(
        InputError,
        match=rf"{images}: expected images of the cases \(such as case_00_0000.nii.gz\), "
        rf"got none; change images\.",
    ):
        pair_folders([folders / "poor", folders / "good"], folders / "gt", images=folders / images)
