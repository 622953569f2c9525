"""Defines what HD95 means and what an empty mask scores, by the names of the definitions in use.

A score without its definition means nothing: a single stray blob moved HD95 from 8 mm to 72 mm between two of these.
Scores of empty masks are the challenges' for Dice and HD95; NSD and ABD follow them, as no challenge gives any. This
module holds data alone, so that a command line can list the names without loading what computes.
"""

import math
from dataclasses import dataclass
from enum import Enum

NAN = math.nan
TOLERANCE_MM = 1.0  # of NSD


@dataclass(frozen=True)
class Metric:
    """A quantity that is scored.

    Attributes:
        name: in tables and files.
        unit: in tables and files; empty for a share of 1.
        higher_is_better: True where the better segmentation has the higher score, as for Dice; False for distances and
            errors.
    """

    name: str
    unit: str
    higher_is_better: bool

    @property
    def title(self) -> str:
        """Name and unit.

        Examples:
            >>> HD95.title
            'HD95 (mm)'
        """
        return f"{self.name} ({self.unit})" if self.unit else self.name


DICE, HD95 = Metric("Dice", "", True), Metric("HD95", "mm", False)
NSD, ABD = Metric("NSD at 1 mm", "", True), Metric("ABD", "mm", False)
ARVD = Metric("aRVD", "%", False)
LESION_DICE, LESION_HD95 = Metric("lesion-wise Dice", "", True), Metric("lesion-wise HD95", "mm", False)


class Percentile(Enum):
    """Of which distances HD95 is the 95th percentile, in words."""

    POOLED = "the 95th percentile of both directions' distances pooled, between border voxels"
    DIRECTED = "the larger of the two directed 95th percentiles, between border voxels"
    BY_AREA = "the larger of the two directed 95th percentiles, between surface elements weighted by area"


@dataclass(frozen=True)
class Definition:
    """How a pair of masks is scored.

    Attributes:
        name: short, for command lines and file names.
        hd95: of which distances HD95 is the percentile; NSD and ABD are taken between the same surfaces.
        overlap_both_empty: Dice and NSD where reference and prediction are empty, 0 to 1; NaN leaves them out.
        distance_both_empty_mm: HD95 and ABD there; NaN leaves them out.
        distance_one_empty_mm: HD95 and ABD where one is empty and the other is not; NaN leaves them out, None stands
            for the image's diagonal.
        source: challenge or program that scores so.
        has_lesions: True where the challenge scores single lesions, too.
        has_thirds: True where it scores apex, mid and base of the prostate, too, and aRVD.
    """

    name: str
    hd95: Percentile
    overlap_both_empty: float
    distance_both_empty_mm: float
    distance_one_empty_mm: float | None
    source: str
    has_lesions: bool = False
    has_thirds: bool = False

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What is scored besides volumes."""
        return (DICE, HD95, NSD, ABD, *([ARVD] if self.has_thirds else []))

    @property
    def in_words(self) -> str:
        """What a reader of the scores has to know, in a few sentences."""
        penalty = "the image diagonal" if self.distance_one_empty_mm is None else _mm(self.distance_one_empty_mm)
        return (
            f"{self.name} ({self.source}): HD95 is {self.hd95.value}. Both empty: Dice and NSD "
            f"{_share(self.overlap_both_empty)}, HD95 and ABD {_mm(self.distance_both_empty_mm)}. One empty: Dice "
            f"and NSD 0, HD95 and ABD {penalty}. Scores left out do not enter a mean."
        )


def _share(value: float) -> str:
    return "left out" if math.isnan(value) else f"{value:g}"


def _mm(value: float) -> str:
    return "left out" if math.isnan(value) else f"{value:.7g} mm"


DEFINITIONS = {
    definition.name: definition
    for definition in (
        Definition("captk", Percentile.POOLED, 1, 0, 373.1287, "CaPTk, BraTS 2021 and 2022"),
        Definition("brats2023", Percentile.BY_AREA, 1, 0, 374, "BraTS 2023", has_lesions=True),
        Definition("directed", Percentile.DIRECTED, 1, 0, 374, "BraTS 2023 without weights by area"),
        Definition("panoptica", Percentile.POOLED, NAN, NAN, 373, "panoptica, BraTS from 2025"),
        Definition(
            "nnunet",
            Percentile.POOLED,
            NAN,
            NAN,
            NAN,
            "Dice is nnU-Net's, which computes no distances; those are this package's",
        ),
        Definition(
            "promise12",
            Percentile.DIRECTED,
            1,
            0,
            None,
            "PROMISE12, which gives no scores for empty masks; those are this package's",
            has_thirds=True,
        ),
    )
}
