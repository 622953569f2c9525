"""Is a very small enhancing tumour one at all? Below a threshold nnU-Net's BraTS entries call it necrosis.

A case whose reference has no ET scores 1 without a predicted voxel and 0 with one, so a few voxels cost a whole case.
"""
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from nnunetv2_gsp.datasets.brats import format_of
from nnunetv2_gsp.datasets.conversion import visible
from nnunetv2_gsp.datasets.labels import ENHANCING, LABELS, NECROSIS, check_labels
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.images import check_same_geometry, read_image
from nnunetv2_gsp.parallel import in_parallel
from nnunetv2_gsp.submission.rules import Rules

_ENDING = format_of("brats2024").file_ending


class Overlap(NamedTuple):
    """Voxels of enhancing tumour in one case."""

    predicted: int
    reference: int
    common: int


@dataclass(frozen=True)
class Choice:
    """A threshold, and what it does to the mean Dice of ET on the cases that it was chosen on.

    Attributes:
        threshold: in voxels; 0 leaves every prediction as it is.
        dice_without: mean Dice of the predictions as they are.
        dice_with: mean Dice with the threshold; of a case where both are empty the Dice is 1.
        n_cases: how many there were.
    """

    threshold: int
    dice_without: float
    dice_with: float
    n_cases: int


def enhancing_to_necrosis(segmentation: np.ndarray, threshold: int) -> np.ndarray:
    """Return the segmentation, all ET called necrosis if it has fewer voxels of it than the threshold.

    Args:
        segmentation: labels inside nnU-Net, any shape and dtype.
        threshold: in voxels.
    """
    enhancing = segmentation == ENHANCING
    if enhancing.sum() >= threshold:
        return segmentation
    return np.where(enhancing, segmentation.dtype.type(NECROSIS), segmentation)


def choose_threshold(predictions: Path, rules: Rules, references: Path | None = None, processes: int = 1) -> Choice:
    """Choose the threshold with the highest mean Dice of ET on a cross-validation; the smallest one of equals.

    Args:
        predictions: folder that `nnUNetv2_accumulate_crossval_results` wrote.
        rules: of the challenge; both folders hold its labels inside nnU-Net.
        references: folder of the labels in the dataset; without it that of the dataset that the folder's plans name.
        processes: how many cases are read at a time.

    Raises:
        InputError: there are no predictions, one has no reference or another geometry, a file is damaged or has other
            labels, or no reference has ET.
    """
    files = visible(predictions, f"*{_ENDING}")
    if not files:
        raise InputError(f"Expected the predictions of a cross-validation in {predictions}, found none; run: "
                         f"nnUNetv2_accumulate_crossval_results")
    folder = references or _references(predictions)
    overlaps = list(in_parallel(partial(_overlap, rules, folder), files, processes, "Cross-validation"))
    if not any(overlap.reference for overlap in overlaps):  # as the files of editions where ET is not 3 would have it
        raise InputError(f"Expected enhancing tumour, label {ENHANCING}, in some of the {len(overlaps)} references in "
                         f"{folder}, found none; name the labels that nnUNetv2_gsp convert made with -gt.")
    return best_threshold(overlaps)


def best_threshold(overlaps: Sequence[Overlap]) -> Choice:
    """Choose the threshold as `choose_threshold`, from the voxels of each case."""
    candidates = [0, *sorted({overlap.predicted + 1 for overlap in overlaps if overlap.predicted})]
    dice = [float(np.mean([_dice(overlap, threshold) for overlap in overlaps])) for threshold in candidates]
    best = int(np.argmax(dice))
    return Choice(candidates[best], dice[0], dice[best], len(overlaps))


def _dice(overlap: Overlap, threshold: int) -> float:
    predicted, common = (0, 0) if overlap.predicted < threshold else (overlap.predicted, overlap.common)
    total = predicted + overlap.reference
    return 2 * common / total if total else 1.0


def _overlap(rules: Rules, references: Path, file: Path) -> Overlap:
    prediction, reference = read_image(file), read_image(references / file.name)
    check_same_geometry(prediction, file, reference, references / file.name)
    predicted, true = (_enhancing(image, rules, name) for image, name in ((prediction, file),
                                                                         (reference, references / file.name)))
    return Overlap(int(predicted.sum()), int(true.sum()), int((predicted & true).sum()))


def _enhancing(image: sitk.Image, rules: Rules, file: Path) -> np.ndarray:
    segmentation = sitk.GetArrayViewFromImage(image)
    check_labels(segmentation, LABELS[rules.challenge].values(), file)  # the challenge's own files may call ET 4
    return segmentation == ENHANCING


def _references(predictions: Path) -> Path:
    """Find the labels of the dataset where nnU-Net keeps them for evaluation."""
    from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw

    try:
        dataset = Path(json.loads((predictions / "plans.json").read_text(encoding="utf-8"))["dataset_name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"Expected plans.json in {predictions}, as nnUNetv2_accumulate_crossval_results writes it, "
                         f"found none that can be read; name the folder of the labels with -gt.") from error
    for base, name in ((nnUNet_preprocessed.get(), "gt_segmentations"), (nnUNet_raw.get(), "labelsTr")):
        if base and Path(base, dataset, name).is_dir():
            return Path(base, dataset, name)
    raise InputError(f"Expected the labels of {dataset} in nnUNet_preprocessed or nnUNet_raw, found none; name their "
                     f"folder with -gt.")
