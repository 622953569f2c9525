import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunetv2_gsp.errors import ConflictingInputError, InputError, MissingInputError
from nnunetv2_gsp.submission.et_threshold import (
    EtVoxels,
    best_threshold,
    check_threshold_arguments,
    choose_threshold,
    enhancing_to_necrosis,
)
from nnunetv2_gsp.submission.rules import rules_of
from tests.datasets.sources import voxels, write_image

RULES = rules_of("brats2021")

# a case with none in the reference and 3 predicted, one with 10 of 12 right, one with 2 of 2 right, one empty
CASES = [EtVoxels(3, 0, 0), EtVoxels(12, 10, 10), EtVoxels(2, 2, 2), EtVoxels(0, 0, 0)]


def test_fewer_voxels_than_the_threshold_become_necrosis():
    segmentation = np.array([0, 1, 2, 3, 3], np.uint8)
    for threshold, expected in ((0, [0, 1, 2, 3, 3]), (2, [0, 1, 2, 3, 3]), (3, [0, 1, 2, 1, 1])):
        processed = enhancing_to_necrosis(segmentation, threshold)
        assert processed.tolist() == expected
        assert processed.dtype == np.uint8
    assert segmentation.tolist() == [0, 1, 2, 3, 3]


def test_the_threshold_with_the_highest_mean_dice_is_chosen():
    choice = best_threshold(CASES)
    # without: 0, 20/22, 1, 1; from 4 on: 1, 20/22, 0, 1; the same mean, so it stays off
    assert (choice.threshold, choice.n_cases) == (0, 4)
    assert choice.dice_without == choice.dice_with == pytest.approx((0 + 20 / 22 + 1 + 1) / 4)
    choice = best_threshold([*CASES, EtVoxels(1, 0, 0), EtVoxels(3, 0, 0)])
    assert choice.threshold == 4
    assert choice.dice_with == pytest.approx((1 + 20 / 22 + 0 + 1 + 1 + 1) / 6)
    assert choice.dice_without == pytest.approx((0 + 20 / 22 + 1 + 1 + 0 + 0) / 6)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6))
def test_no_threshold_is_better_and_no_smaller_one_as_good(pairs):
    cases = [EtVoxels(predicted, reference, min(predicted, reference)) for predicted, reference in pairs]

    def mean_dice(threshold):
        dice = []
        for predicted, reference, common in cases:
            if predicted < threshold:
                predicted = common = 0
            dice.append(1.0 if predicted + reference == 0 else 2 * common / (predicted + reference))
        return np.mean(dice)

    choice = best_threshold(cases)
    assert choice.dice_with == mean_dice(choice.threshold) == max(map(mean_dice, range(11)))
    assert all(mean_dice(smaller) < choice.dice_with for smaller in range(choice.threshold))


@pytest.fixture
def cross_validation(tmp_path, monkeypatch):
    """Three cases with 3 voxels of ET predicted and none in the reference, one with 5 of 5."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed"):
        monkeypatch.setenv(name, str(tmp_path / name))
    predictions = tmp_path / "crossval_results_folds_0_1_2_3_4"
    references = tmp_path / "nnUNet_preprocessed" / "Dataset021_BraTS" / "gt_segmentations"
    for number in range(4):
        n_predicted, n_true = (5, 5) if number == 3 else (3, 0)
        for folder, n_enhancing in ((predictions, n_predicted), (references, n_true)):
            voxels = np.full((4, 5, 6), 2, np.uint8)
            voxels.flat[:n_enhancing] = 3
            write_image(voxels, folder / f"BraTS2021_0010{number}.nii.gz")
    (predictions / "plans.json").write_text(json.dumps({"dataset_name": "Dataset021_BraTS"}))
    return predictions


@pytest.mark.parametrize("processes", [1, 2])
def test_a_cross_validation_tells_the_threshold(cross_validation, processes):
    choice = choose_threshold(cross_validation, RULES, processes=processes)
    assert (choice.threshold, choice.dice_without, choice.dice_with, choice.n_cases) == (4, 0.25, 1.0, 4)


def test_labels_are_found_or_named(cross_validation, tmp_path, monkeypatch):
    kept = tmp_path / "nnUNet_preprocessed" / "Dataset021_BraTS" / "gt_segmentations"
    elsewhere = kept.rename(tmp_path / "labels")
    with pytest.raises(InputError, match="labels of Dataset021_BraTS in nnUNet_preprocessed or nnUNet_raw, got none"):
        choose_threshold(cross_validation, RULES)
    assert choose_threshold(cross_validation, RULES, elsewhere).threshold == 4
    (cross_validation / "plans.json").unlink()
    with pytest.raises(InputError, match=r"plans\.json: .* references"):
        choose_threshold(cross_validation, RULES)
    (elsewhere / "BraTS2021_00102.nii.gz").unlink()
    with pytest.raises(InputError, match=r"labels/BraTS2021_00102\.nii\.gz: expected an image, got no such file"):
        choose_threshold(cross_validation, RULES, elsewhere)
    with pytest.raises(InputError, match="nnUNetv2_accumulate_crossval_results"):
        choose_threshold(kept.parent, RULES)


@pytest.mark.parametrize("challenge", ["brats2021", "brats2023"])
def test_the_challenges_own_files_are_no_references(challenge, cross_validation, tmp_path):
    """There 4 is ET, so that each prediction of ET would look wrong and the highest threshold perfect."""
    for folder in (tmp_path / "nnUNet_preprocessed" / "Dataset021_BraTS" / "gt_segmentations", cross_validation):
        file = folder / "BraTS2021_00103.nii.gz"
        inside = voxels(file)
        write_image(np.where(inside == 3, 4, inside).astype(np.uint8), file)
        with pytest.raises(InputError, match=rf"{file}: expected labels among \[0, 1, 2, 3\], got 4;"):
            choose_threshold(cross_validation, rules_of(challenge))
        write_image(inside, file)


def test_references_without_et_tell_no_threshold(cross_validation, tmp_path):
    """In 2024 a 4 is known, so values can not tell files of 2021."""
    file = tmp_path / "nnUNet_preprocessed" / "Dataset021_BraTS" / "gt_segmentations" / "BraTS2021_00103.nii.gz"
    inside = voxels(file)
    write_image(np.where(inside == 3, 4, inside).astype(np.uint8), file)
    with pytest.raises(InputError, match=r"enhancing tumour, label 3 .* of the 4 references, got none"):
        choose_threshold(cross_validation, rules_of("brats2024"))


@pytest.mark.parametrize("content", ['{"dataset_name": 5}', '{"dataset_name": ["x"]}', "[]", "{"])
def test_plans_that_name_no_dataset_are_said(content, cross_validation):
    (cross_validation / "plans.json").write_text(content)
    with pytest.raises(InputError, match=r"plans\.json: .* references"):
        choose_threshold(cross_validation, RULES)


@pytest.mark.parametrize(
    ("challenge", "arguments", "error"),
    [
        ("promise12", (5, None, None), ConflictingInputError),
        ("brats2021", ("auto", None, None), MissingInputError),
        ("brats2021", (0, "folder", None), ConflictingInputError),
        ("brats2021", (5, None, "folder"), ConflictingInputError),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(challenge, arguments, error):
    with pytest.raises(error):
        check_threshold_arguments(rules_of(challenge), *arguments)


@pytest.mark.parametrize(
    ("challenge", "arguments"),
    [
        ("promise12", (0, None, None)),
        ("brats2021", (5, None, None)),
        ("brats2021", ("auto", "folder", None)),
        ("brats2021", ("auto", "folder", "folder")),
    ],
)
def test_arguments_that_go_together_are_taken(challenge, arguments):
    check_threshold_arguments(rules_of(challenge), *arguments)
