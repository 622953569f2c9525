"""Turns a very small enhancing tumour (ET) into necrosis, and chooses the size limit, as nnU-Net's BraTS entries did.

A case whose reference has no ET scores 1 if no voxel of it is predicted and 0 otherwise, so a few voxels cost a case.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import SimpleITK as sitk

from nnunetv2_gsp.challenges.brats import ET, NCR
from nnunetv2_gsp.datasets.labels import check_labels, whole_labels
from nnunetv2_gsp.errors import ConflictingInputError, DamagedFileError, MissingInputError
from nnunetv2_gsp.images import check_same_geometry, read_image, visible_files
from nnunetv2_gsp.nnunet import nnunet_folder
from nnunetv2_gsp.parallel import in_parallel
from nnunetv2_gsp.submission.rules import Rules

EtThreshold: TypeAlias = int | Literal["auto"]  # in voxels


class EtVoxels(NamedTuple):
    """Numbers of enhancing tumour voxels in one case.

    Attributes:
        predicted: number of voxels in the prediction, from 0 on.
        reference: number of voxels in the reference, from 0 on.
        common: number of voxels that are in both, from 0 on.
    """

    predicted: int
    reference: int
    common: int


@dataclass(frozen=True)
class ThresholdChoice:
    """A threshold, and its effect on the mean Dice of ET over the cases that it was chosen on.

    Attributes:
        threshold: smallest number of ET voxels that are kept; 0 leaves every prediction as it is.
        dice_without: mean Dice of the predictions as they are, 0 to 1; a case where both are empty scores 1.
        dice_with: mean Dice of the predictions with the threshold applied, 0 to 1.
        n_cases: number of cases that it was chosen on.
    """

    threshold: int
    dice_without: float
    dice_with: float
    n_cases: int


def enhancing_to_necrosis(segmentation: np.ndarray, threshold: int) -> np.ndarray:
    """Return the segmentation, with all ET relabelled as necrosis if it has fewer voxels than the threshold.

    Args:
        segmentation: labels as inside nnU-Net, any shape and dtype.
        threshold: smallest number of ET voxels that are kept; 0 leaves the segmentation as it is.

    Examples:
        >>> enhancing_to_necrosis(np.array([0, 2, 3, 3]), threshold=3)
        array([0, 2, 1, 1])
    """
    enhancing = segmentation == ET.label
    if enhancing.sum() >= threshold:
        return segmentation
    return np.where(enhancing, segmentation.dtype.type(NCR.label), segmentation)


def check_threshold_arguments(
    rules: Rules, et_threshold: EtThreshold, cross_validation: Path | None, references: Path | None
) -> None:
    """Check that the arguments on the threshold fit together.

    Args:
        rules: rules of the challenge; only one with enhancing tumour and necrosis has a threshold.
        et_threshold: number of voxels, 0 for no threshold; or "auto", which needs a cross-validation.
        cross_validation: folder of a cross-validation's predictions, or None.
        references: folder of the cross-validation's references, or None.

    Raises:
        MissingInputError: the threshold is "auto", and no cross-validation is given.
        ConflictingInputError: a cross-validation is given that would not be used, or a threshold is given for a
            challenge without enhancing tumour.

    Examples:
        >>> from nnunetv2_gsp.submission.rules import rules_of
        >>> check_threshold_arguments(rules_of("promise12"), 200, None, None)
        Traceback (most recent call last):
            ...
        nnunetv2_gsp.errors.ConflictingInputError: Expected no threshold for enhancing tumour, got one for promise12...
    """
    if et_threshold and not rules.of.has(ET, NCR):
        raise ConflictingInputError(
            "no threshold for enhancing tumour",
            f"one for {rules.challenge}, which has none",
            remedy="leave it out",
            parameters=["et_threshold"],
        )
    if et_threshold == "auto" and cross_validation is None:
        raise MissingInputError(
            "a cross-validation to choose the threshold on", "none", parameters=["cross_validation", "et_threshold"]
        )
    if et_threshold != "auto" and (cross_validation or references):
        raise ConflictingInputError(
            "a cross-validation and references only where the ET threshold is auto",
            f"one of them with a threshold of {et_threshold} voxels"
            if et_threshold
            else "one of them without a threshold",
            remedy="leave them out",
            parameters=["et_threshold"],
        )


def choose_threshold(
    cross_validation: Path, rules: Rules, references: Path | None = None, processes: int = 1
) -> ThresholdChoice:
    """Choose the threshold with the highest mean Dice of ET on a cross-validation; ties go to the smallest.

    Args:
        cross_validation: folder of predictions that `nnUNetv2_accumulate_crossval_results` wrote.
        rules: rules of the challenge; both folders hold its labels as inside nnU-Net.
        references: folder of the references; None takes that of the dataset that the folder's plans name.
        processes: number of cases read at the same time, from 1 on.

    Raises:
        MissingInputError: there are no predictions, one lacks its reference, or no reference has ET.
        InputError: a file is damaged or has unknown labels, or a prediction has another geometry than its reference.
    """
    files = visible_files(cross_validation, f"*{rules.of.file_ending}")
    if not files:
        raise MissingInputError(
            "the predictions of a cross-validation",
            "none",
            where=cross_validation,
            remedy="run: nnUNetv2_accumulate_crossval_results",
            parameters=["cross_validation"],
        )
    folder = references or _references(cross_validation)
    cases = list(in_parallel(partial(_et_voxels, rules, folder), files, processes, "Choosing the ET threshold"))
    if not any(case.reference for case in cases):  # as the files of editions where ET is not 3 would have it
        raise MissingInputError(
            f"enhancing tumour, label {ET.label} inside nnU-Net, in some of the {len(cases)} references",
            "none",
            where=folder,
            parameters=["references"],
        )
    return best_threshold(cases)


def best_threshold(cases: Sequence[EtVoxels]) -> ThresholdChoice:
    """Choose the threshold as `choose_threshold` does, from the numbers of voxels in each case.

    Args:
        cases: numbers of voxels of each case, at least one case.

    Examples:
        >>> best_threshold([EtVoxels(predicted=3, reference=0, common=0), EtVoxels(9, 9, 9)])
        ThresholdChoice(threshold=4, dice_without=0.5, dice_with=1.0, n_cases=2)
    """
    candidates = [0, *sorted({case.predicted + 1 for case in cases if case.predicted})]
    dice = [float(np.mean([_dice(case, threshold) for case in cases])) for threshold in candidates]
    best = int(np.argmax(dice))
    return ThresholdChoice(candidates[best], dice[0], dice[best], len(cases))


def _dice(case: EtVoxels, threshold: int) -> float:
    predicted, common = (0, 0) if case.predicted < threshold else (case.predicted, case.common)
    total = predicted + case.reference
    return 2 * common / total if total else 1.0


def _et_voxels(rules: Rules, references: Path, file: Path) -> EtVoxels:
    prediction, reference = read_image(file), read_image(references / file.name)
    check_same_geometry(prediction, file, reference, references / file.name)
    predicted, true = (
        _enhancing(image, rules, name) for image, name in ((prediction, file), (reference, references / file.name))
    )
    return EtVoxels(int(predicted.sum()), int(true.sum()), int((predicted & true).sum()))


def _enhancing(image: sitk.Image, rules: Rules, file: Path) -> np.ndarray:
    segmentation, _ = whole_labels(sitk.GetArrayViewFromImage(image))
    check_labels(segmentation, rules.of.labels.values(), file)  # the challenge's own may call ET 4
    enhancing: np.ndarray = segmentation == ET.label
    return enhancing


def _references(cross_validation: Path) -> Path:
    """Find the folder of the dataset's references that nnU-Net keeps for evaluation."""
    plans = cross_validation / "plans.json"
    try:
        dataset = Path(json.loads(plans.read_text(encoding="utf-8"))["dataset_name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedFileError(
            "the plans that nnUNetv2_accumulate_crossval_results writes",
            "none that can be read",
            where=plans,
            parameters=["references"],
        ) from error
    for variable, name in (("nnUNet_preprocessed", "gt_segmentations"), ("nnUNet_raw", "labelsTr")):
        with suppress(MissingInputError):  # the labels may be in the other one
            labels = nnunet_folder(variable) / dataset / name
            if labels.is_dir():
                return labels
    raise MissingInputError(
        f"the labels of {dataset} in nnUNet_preprocessed or nnUNet_raw", "none", parameters=["references"]
    )
