"""Scores every region of every case from files, several cases at a time."""

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nnunetv2_gsp.errors import MissingInputError
from nnunetv2_gsp.metrics import prostate
from nnunetv2_gsp.metrics.definitions import Definition
from nnunetv2_gsp.metrics.finished_scores import FinishedScores
from nnunetv2_gsp.metrics.label_conventions import check_same_labels
from nnunetv2_gsp.metrics.morphology import box_around
from nnunetv2_gsp.metrics.region_labels import RegionLabels
from nnunetv2_gsp.metrics.region_scores import score_region
from nnunetv2_gsp.metrics.scoring import Scores, score_both_empty, score_masks
from nnunetv2_gsp.metrics.segmentations import LabelMap, labels_in, mask_of, read_pair
from nnunetv2_gsp.nnunet import n_processes
from nnunetv2_gsp.parallel import in_parallel

_log = logging.getLogger(__name__)
_ENOUGH_TO_TELL_LABELS = 5  # cases after which two conventions are told apart

CaseScores = dict[str, Any]  # "case" and "region", then the scores by name


def score_cases(
    pairs: Mapping[str, tuple[Path, Path]],
    labels: RegionLabels,
    definition: Definition,
    processes: int | None = None,
    kept_in: Path | None = None,
) -> list[CaseScores]:
    """Score pairs of files, several at a time, with a progress bar.

    Args:
        pairs: case -> (file of the reference, file of the prediction).
        labels: the regions to score, and the labels that make up each.
        definition: how each metric is computed, and what an empty mask scores (`DEFINITIONS`).
        processes: number of cases scored at the same time, at least 1; None leaves it to `n_processes`.
        kept_in: file that keeps the scores of finished cases, for a run that goes on after this one was stopped; None
            keeps none.

    Returns:
        An entry for each case and region, in the order of the cases. A label that other cases have and this one lacks
        is scored as an empty mask.

    Raises:
        InputError: a file can't be read or does not fit its counterpart, no file holds a label, or the references have
            other labels than the predictions.
    """
    by_case = _score_unfinished(pairs, labels, definition, processes or n_processes(), kept_in)
    regions = list(dict.fromkeys(region for scores in by_case.values() for region in scores))
    if not regions:
        raise MissingInputError("labels to evaluate", "none in any file", parameters=labels.chosen_by)
    if labels.regions is None:
        regions.sort(key=lambda name: int(name.partition(",")[0]))  # thirds behind their whole, in their order
    absent = score_both_empty(definition)
    return [
        {"case": case, "region": region, **scores.get(region, absent)}
        for case, scores in by_case.items()
        for region in regions
    ]


def _score_unfinished(
    pairs: Mapping[str, tuple[Path, Path]],
    labels: RegionLabels,
    definition: Definition,
    processes: int,
    kept_in: Path | None,
) -> dict[str, dict[str, Scores]]:
    """Return the scores of each case by region; those that are kept are not computed again."""
    finished = FinishedScores(kept_in, labels, definition)
    by_case = {case: scores for case, files in pairs.items() if (scores := finished.of(files)) is not None}
    if by_case:
        _log.info("%d of %d cases were scored before.", len(by_case), len(pairs))
    score = partial(_score_case, labels=labels, definition=definition)
    left = {case: files for case, files in pairs.items() if case not in by_case}
    scored = in_parallel(score, list(left.values()), processes, "scoring", _one_thread)
    for (case, files), scores in zip(left.items(), scored, strict=True):
        finished.add(files, scores)
        by_case[case] = scores
        if len(by_case) == _ENOUGH_TO_TELL_LABELS:
            check_same_labels(by_case.values(), labels)
    check_same_labels(by_case.values(), labels)
    return {case: by_case[case] for case in pairs}


def _score_case(files: tuple[Path, Path], labels: RegionLabels, definition: Definition) -> dict[str, Scores]:
    """Return the scores of a case by region."""
    reference, prediction = read_pair(*files, labels)
    regions = labels.regions_among(labels_in(reference.labels) | labels_in(prediction.labels))
    definition = definition.for_image(reference.labels.shape, reference.spacing_mm)
    maps = _without_ignored(reference.labels, prediction.labels, labels.ignore_label)
    if not any(0 in region for region in regions.values()):
        maps = _cropped(*maps)
    scores = {}
    for name, region in regions.items():
        scores[name] = score_region(*maps, region, reference.spacing_mm, definition)
        if definition.has_thirds and reference.labels.ndim == 3:
            masks = [mask_of(each, region) for each in maps]
            for third, *parts in prostate.thirds(masks[0], masks[1], reference.direction):
                scores[f"{name}, {third}"] = score_masks(parts[0], parts[1], reference.spacing_mm, definition)
    return scores


def _without_ignored(reference: LabelMap, prediction: LabelMap, label: int | None) -> tuple[LabelMap, LabelMap]:
    """Set what the reference says to ignore to -1 in both, a label that no region has."""
    ignored = reference == label if label is not None else None
    if ignored is None or not ignored.any():
        return reference, prediction
    changed = [labels.astype(np.int64) for labels in (reference, prediction)]  # in most files there is no place for -1
    for labels in changed:
        labels[ignored] = -1
    return changed[0], changed[1]


def _cropped(reference: LabelMap, prediction: LabelMap) -> tuple[LabelMap, LabelMap]:
    """Crop to what either one has."""
    box = box_around((reference > 0) | (prediction > 0))
    return reference[box], prediction[box]


def _one_thread() -> None:
    """Keep SimpleITK to one thread in a process of several."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
