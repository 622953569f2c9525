"""Regions: where they are read, and one sentence for what is no dataset.json."""

import pytest

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.metrics.region_labels import RegionLabels, find_region_labels, read_region_labels
from tests.metrics.drawings import write_dataset_json
from tests.metrics.folders import REGIONS


def test_regions_are_what_is_not_background_or_ignored(tmp_path):
    write_dataset_json(tmp_path, {**REGIONS, "ignore": 7})
    labels = read_region_labels(tmp_path / "dataset.json")
    assert labels.regions == {"whole_tumor": (1, 2, 3), "tumor_core": (1, 3), "enhancing_tumor": (3,)}
    assert labels.ignore_label == 7
    assert labels.known_labels == {0, 1, 2, 3, 7}
    assert labels.source == f"labels of {tmp_path / 'dataset.json'}"


@pytest.mark.parametrize("place", ["model/fold_0/validation", "model", "raw"])
def test_dataset_json_is_found_where_nnunet_leaves_it(place, tmp_path):
    references, predictions = tmp_path / "raw" / "labelsTr", tmp_path / "model" / "fold_0" / "validation"
    for folder in (references, predictions):
        folder.mkdir(parents=True)
    write_dataset_json(tmp_path / place, REGIONS)
    assert find_region_labels(None, references, predictions).source == f"labels of {tmp_path / place / 'dataset.json'}"


def test_without_dataset_json_there_are_the_labels_found(tmp_path):
    labels = find_region_labels(None, tmp_path / "gt", tmp_path / "pred")
    assert labels == RegionLabels(chosen_by=("dataset_json",))
    assert labels.regions_among({3, 0, 1}) == {"1": (1,), "3": (3,)}


@pytest.mark.parametrize(
    "content",
    [
        "no json",
        "{}",
        '{"labels": [1, 2]}',
        *(f'{{"labels": {{"tumour": {labels}}}}}' for labels in ('"one"', "[]", "1.7", "[1, 1.7]", "1e400")),
        *(f'{{"labels": {{"tumour": 1, "ignore": {label}}}}}' for label in ("[]", "[2, 3]")),
    ],
)
def test_what_is_no_dataset_json_is_refused(content, tmp_path):
    file = tmp_path / "dataset.json"
    file.write_text(content)
    with pytest.raises(
        InputError,
        match=r"dataset\.json: expected nnU-Net's dataset\.json with whole numbers for its "
        r"labels .*; mend it, or change dataset_json\.",
    ):
        find_region_labels(file, tmp_path, tmp_path)
    with pytest.raises(InputError, match=r"other\.json: expected nnU-Net's dataset\.json, got none; put it there\."):
        read_region_labels(tmp_path / "other.json")


def test_labels_of_both_sides_are_compared_and_one_file_for_both_settles_it(tmp_path):
    references, predictions = tmp_path / "raw" / "labelsTr", tmp_path / "pred"
    for folder in (references, predictions):
        folder.mkdir(parents=True)
    write_dataset_json(references.parent, {**REGIONS, "tumor_core": [2, 3]})
    write_dataset_json(predictions, REGIONS)
    with pytest.raises(
        InputError,
        match=r"same regions and ignore label of references and predictions, got .*tumor_core 2\+3.*raw/dataset\.json, "
        r"but .*tumor_core 1\+3.*pred/dataset\.json; convert one of them, or change dataset_json\.",
    ):
        find_region_labels(None, references, predictions)
    given = predictions / "dataset.json"
    assert find_region_labels(given, references, predictions).regions["tumor_core"] == (1, 3)
    write_dataset_json(references.parent, {**REGIONS, "tumor_core": [3, 1]})
    assert find_region_labels(None, references, predictions).source == f"labels of {given}"
