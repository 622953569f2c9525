"""Scores every region of every case from files, several cases at a time."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nnunetv2_gsp.errors import MissingInputError
from nnunetv2_gsp.metrics import lesions, prostate
from nnunetv2_gsp.metrics.definitions import Definition
from nnunetv2_gsp.metrics.overlap import Mask
from nnunetv2_gsp.metrics.region_labels import RegionLabels
from nnunetv2_gsp.metrics.scoring import Scores, score_masks
from nnunetv2_gsp.metrics.segmentations import LabelMap, labels_in, read_pair
from nnunetv2_gsp.nnunet import n_processes
from nnunetv2_gsp.parallel import in_parallel

CaseScores = dict[str, Any]  # "case" and "region", then the scores by name


def score_cases(
    pairs: Mapping[str, tuple[Path, Path]],
    labels: RegionLabels,
    definition: Definition,
    lesion_wise: bool = False,
    processes: int | None = None,
) -> list[CaseScores]:
    """Score pairs of files, several at a time, with a progress bar.

    Args:
        pairs: case -> (file of the reference, file of the prediction).
        labels: the regions to score, and the labels that make up each.
        definition: how each metric is computed, and what an empty mask scores (`DEFINITIONS`).
        lesion_wise: True adds lesion-wise Dice and HD95.
        processes: number of cases scored at the same time, at least 1; None leaves it to `n_processes`.

    Returns:
        An entry for each case and region, in the order of the cases. A label that other cases have and this one lacks
        is scored as an empty mask.

    Raises:
        InputError: a file can't be read or does not fit its counterpart, or no file holds a label.
    """
    score = partial(_score_case, labels=labels, definition=definition, lesion_wise=lesion_wise)
    scored = in_parallel(score, list(pairs.values()), processes or n_processes(), "scoring", _one_thread)
    by_case = dict(zip(pairs, scored, strict=True))
    regions = list(dict.fromkeys(region for scores in by_case.values() for region in scores))
    if not regions:
        raise MissingInputError("labels to evaluate", "none in any file", parameters=labels.chosen_by)
    if labels.regions is None:
        regions.sort(key=lambda name: int(name.partition(",")[0]))  # thirds behind their whole, in their order
    nothing = np.zeros((1, 1, 1), bool)
    absent = _score_region(nothing, nothing, (1, 1, 1), definition, lesion_wise)
    return [
        {"case": case, "region": region, **scores.get(region, absent)}
        for case, scores in by_case.items()
        for region in regions
    ]


def _score_case(
    files: tuple[Path, Path], labels: RegionLabels, definition: Definition, lesion_wise: bool
) -> dict[str, Scores]:
    """Return the scores of a case by region."""
    reference, prediction = read_pair(*files, labels)
    found = labels_in(reference.labels) | labels_in(prediction.labels)
    ignored = labels.ignore_label if labels.ignore_label in found else None
    counted = None if ignored is None else reference.labels != ignored
    scores = {}
    for name, region in labels.regions_among(found).items():
        masks = [_mask(segmentation.labels, region, counted) for segmentation in (reference, prediction)]
        scores[name] = _score_region(masks[0], masks[1], reference.spacing_mm, definition, lesion_wise)
        if definition.has_thirds and reference.labels.ndim == 3:
            for third, *parts in prostate.thirds(masks[0], masks[1], reference.direction):
                scores[f"{name}, {third}"] = score_masks(parts[0], parts[1], reference.spacing_mm, definition)
    return scores


def _score_region(
    reference: Mask, prediction: Mask, spacing_mm: Sequence[float], definition: Definition, lesion_wise: bool
) -> Scores:
    scores = score_masks(reference, prediction, spacing_mm, definition)
    if lesion_wise:
        scores.update(lesions.score_lesions(reference, prediction, spacing_mm, definition))
    return scores


def _mask(labels: LabelMap, region: Sequence[int], counted: Mask | None) -> Mask:
    mask: Mask = labels == region[0]
    for label in region[1:]:
        mask |= labels == label
    return mask if counted is None else mask & counted


def _one_thread() -> None:
    """Keep SimpleITK to one thread in a process of several."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
