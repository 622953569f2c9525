"""Names the definitions in use, and what HD95 means and an empty mask scores under each.

A score without its definition means nothing: with a single stray blob HD95 was 8 mm under one of these and 72 mm under
another. Dice and HD95 of empty masks are those of the challenges; NSD and ABD follow them, as no challenge defines
any. This module holds data alone, so that a command line can list the names without loading the code that computes.
"""

import math
from dataclasses import dataclass
from enum import Enum

NAN = math.nan
TOLERANCE_MM = 1.0  # of NSD


@dataclass(frozen=True)
class Metric:
    """A quantity that is scored, with its unit and direction.

    Attributes:
        name: name in tables and files, such as Dice.
        unit: unit in tables and files, such as mm; empty for a share of 1.
        higher_is_better: True where the better segmentation has the higher score, as for Dice; False for distances and
            errors.
    """

    name: str
    unit: str
    higher_is_better: bool

    @property
    def title(self) -> str:
        """Name, and unit in parentheses where there is one.

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
    """The distances whose 95th percentile HD95 is, in words."""

    POOLED = "the 95th percentile of both directions' distances pooled, between border voxels"
    DIRECTED = "the larger of the two directed 95th percentiles, between border voxels"
    BY_AREA = "the larger of the two directed 95th percentiles, between surface elements weighted by area"


@dataclass(frozen=True)
class Definition:
    """How a pair of masks is scored.

    Attributes:
        name: short name for command lines and file names.
        hd95: the distances whose percentile HD95 is; NSD and ABD are taken between the same surfaces.
        overlap_both_empty: Dice and NSD where reference and prediction are empty, 0 to 1; NaN leaves them out.
        distance_both_empty_mm: HD95 and ABD in mm where reference and prediction are empty; NaN leaves them out.
        distance_one_empty_mm: HD95 and ABD in mm where exactly one of the two is empty; NaN leaves them out, None
            stands for the image's diagonal.
        source: challenge or program that scores in this way.
        has_lesions: True where the challenge also scores single lesions.
        has_thirds: True where the challenge also scores apex, mid and base of the prostate, and aRVD.

    Examples:
        >>> DEFINITIONS["brats2023"].distance_one_empty_mm
        374
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
        """Metrics that are scored, volumes apart.

        Examples:
            >>> [metric.name for metric in DEFINITIONS["promise12"].metrics]
            ['Dice', 'HD95', 'NSD at 1 mm', 'ABD', 'aRVD']
        """
        return (DICE, HD95, NSD, ABD, *([ARVD] if self.has_thirds else []))

    @property
    def in_words(self) -> str:
        """The definition in a few sentences, for readers of the scores.

        Examples:
            >>> print(DEFINITIONS["captk"].in_words)
            captk (CaPTk, BraTS 2021 and 2022): HD95 is the 95th percentile of both directions' distances pooled,
            between border voxels. Both empty: Dice and NSD 1, HD95 and ABD 0 mm. One empty: Dice and NSD 0, HD95 and
            ABD 373.1287 mm. Scores left out do not enter a mean.
        """
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
