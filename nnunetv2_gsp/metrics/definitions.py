"""What is meant by HD95, and what does an empty mask score? One name for each answer in use.

A number without its definition means nothing: a single stray blob moved HD95 from 8 mm to 72 mm between two of these.
The figures of empty cases are the challenges' for Dice and HD95; NSD and ABD follow them, as no challenge gives any.
"""
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.metrics import surface_distances as metrics

NAN = float("nan")
TOLERANCE_MM = 1.0  # of NSD
Figures = dict[str, Any]


@dataclass(frozen=True)
class Metric:
    """A column of figures.

    Attributes:
        name: in tables and files.
        unit: in tables and files; empty for a share.
        higher_is_better: whether it is.
    """

    name: str
    unit: str
    higher_is_better: bool

    @property
    def title(self) -> str:
        """Name and unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


DICE, HD95 = Metric("Dice", "", True), Metric("HD95", "mm", False)
NSD, ABD = Metric("NSD at 1 mm", "", True), Metric("ABD", "mm", False)
ARVD = Metric("aRVD", "%", False)
LESION_DICE, LESION_HD95 = Metric("lesion-wise Dice", "", True), Metric("lesion-wise HD95", "mm", False)


@dataclass(frozen=True)
class Definition:
    """How cases are scored.

    Attributes:
        name: short, for command lines and file names.
        distances: between which points distances are measured.
        hd95: from distances, in mm.
        hd95_in_words: of which distances it is the percentile.
        overlap_both_empty: Dice and NSD where reference and prediction are empty.
        distance_both_empty_mm: HD95 and ABD there.
        distance_one_empty_mm: HD95 and ABD where one is empty and the other is not; None for the image's diagonal.
        source: whose figures these are.
    """

    name: str
    distances: Callable[..., metrics.SurfaceDistances]
    hd95: Callable[[metrics.SurfaceDistances], float]
    hd95_in_words: str
    overlap_both_empty: float
    distance_both_empty_mm: float
    distance_one_empty_mm: float | None
    source: str

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What is scored; volumes come besides."""
        return (DICE, HD95, NSD, ABD, *([ARVD] if self.name == "promise12" else []))

    @property
    def in_words(self) -> str:
        """Everything that a reader of the figures has to know."""
        penalty = "the image diagonal" if self.distance_one_empty_mm is None else _mm(self.distance_one_empty_mm)
        return (f"{self.name} ({self.source}): HD95 is {self.hd95_in_words}. Both empty: Dice and NSD "
                f"{_figure(self.overlap_both_empty)}, HD95 and ABD {_mm(self.distance_both_empty_mm)}. One empty: Dice "
                f"and NSD 0, HD95 and ABD {penalty}. Figures left out do not enter a mean.")

    def score(self, reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float]) -> Figures:
        """Return every metric of a pair of masks, their volumes, and which of them is empty.

        Args:
            reference: bool, 2D or 3D.
            prediction: bool, the same shape.
            spacing_mm: of the axes, in their order.

        Returns:
            Figures by the names of the metrics, NaN where the definition leaves one out; `reference_mm3` and
            `prediction_mm3`; `empty`, which is "", "reference", "prediction" or "both".

        Raises:
            InputError: the definition knows no surface in 2D.
        """
        if self.distances is metrics.element_distances and reference.ndim != 3:
            raise InputError(f"Expected images with 3 axes for {self.name}, whose surfaces have an area, got "
                             f"{reference.ndim}; choose another with --definition.")
        empty = {(True, True): "both", (True, False): "reference", (False, True): "prediction", (False, False): ""}[
            not reference.any(), not prediction.any()]
        figures = (self._of_empty(empty, np.multiply(reference.shape, spacing_mm)) if empty
                   else self._of_surfaces(reference, prediction, spacing_mm))
        volumes = {"reference_mm3": metrics.volume_mm3(reference, spacing_mm),
                   "prediction_mm3": metrics.volume_mm3(prediction, spacing_mm)}
        if ARVD in self.metrics:
            figures[ARVD.name] = absolute_relative_volume_difference(**volumes)
        return {**figures, **volumes, "empty": empty}

    def of_nothing(self) -> Figures:
        """Return what `score` gives where both masks are empty."""
        nothing = np.zeros((1, 1, 1), bool)
        return self.score(nothing, nothing, (1, 1, 1))

    def _of_empty(self, empty: str, image_mm: np.ndarray) -> Figures:
        if empty == "both":
            overlap, distance = self.overlap_both_empty, self.distance_both_empty_mm
        else:
            penalty = self.distance_one_empty_mm
            overlap, distance = 0.0, float(np.linalg.norm(image_mm)) if penalty is None else penalty
        return {DICE.name: overlap, HD95.name: distance, NSD.name: overlap, ABD.name: distance}

    def _of_surfaces(self, reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float]) -> Figures:
        distances = self.distances(reference, prediction, spacing_mm)
        return {DICE.name: metrics.dice(reference, prediction), HD95.name: self.hd95(distances),
                NSD.name: metrics.normalized_surface_dice(distances, TOLERANCE_MM),
                ABD.name: metrics.average_boundary_distance(distances)}


def absolute_relative_volume_difference(reference_mm3: float, prediction_mm3: float) -> float:
    """Return |prediction - reference| / reference in percent; NaN without a reference."""
    return 100 * abs(prediction_mm3 - reference_mm3) / reference_mm3 if reference_mm3 else NAN


def _figure(value: float) -> str:
    return "left out" if np.isnan(value) else f"{value:g}"


def _mm(value: float) -> str:
    return "left out" if np.isnan(value) else f"{value:.7g} mm"


_POOLED = "the 95th percentile of both directions' distances pooled, between border voxels"
_DIRECTED = "the larger one of the two directed 95th percentiles, between border voxels"
_BY_AREA = "the larger one of the two directed 95th percentiles, between surface elements weighted by area"

DEFINITIONS = {definition.name: definition for definition in (
    Definition("captk", metrics.border_distances, metrics.pooled_hd95, _POOLED, 1, 0, 373.1287,
               "CaPTk, BraTS 2021 and 2022"),
    Definition("brats2023", metrics.element_distances, metrics.area_weighted_hd95, _BY_AREA, 1, 0, 374, "BraTS 2023"),
    Definition("directed", metrics.border_distances, metrics.directed_hd95, _DIRECTED, 1, 0, 374,
               "BraTS 2023 without weights by area"),
    Definition("panoptica", metrics.border_distances, metrics.pooled_hd95, _POOLED, NAN, NAN, 373,
               "panoptica, BraTS from 2025"),
    Definition("nnunet", metrics.border_distances, metrics.pooled_hd95, _POOLED, NAN, NAN, NAN,
               "Dice is nnU-Net's, which computes no distances; those are ours"),
    Definition("promise12", metrics.border_distances, metrics.directed_hd95, _DIRECTED, 1, 0, None,
               "PROMISE12, which gives no figures for empty masks; those are ours"),
)}


def definition_named(name: str) -> Definition:
    """Return a definition.

    Raises:
        InputError: there is none of that name.
    """
    if name not in DEFINITIONS:
        raise InputError(f"Expected a definition among {', '.join(DEFINITIONS)}, got {name}; choose one of them.")
    return DEFINITIONS[name]
