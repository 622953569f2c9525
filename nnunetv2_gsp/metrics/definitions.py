"""Names the definitions in use: what HD95 means under each, what an empty mask scores, and how lesions are scored.

A score without its definition means nothing: with a single stray blob HD95 was 8 mm under one of these and 72 mm under
another. Dice and HD95 of empty masks are those of the challenges; NSD and ABD follow them where a challenge does not
define them. This module holds data alone, so that a command line can list the names without loading the code that
computes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from nnunetv2_gsp.metrics.lesion_rules import JoinedLesions, JoiningRules, MatchedLesions

NAN = math.nan


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


DICE, HD95, ABD = Metric("Dice", "", True), Metric("HD95", "mm", False), Metric("ABD", "mm", False)
ARVD = Metric("aRVD", "%", False)
LESION_F1 = Metric("lesion F1", "", True)
SMALL_LESION_F1, LARGE_LESION_F1 = Metric("small-lesion F1", "", True), Metric("large-lesion F1", "", True)
VOXEL_NSD = Metric("NSD at 1 voxel", "", True)
LESION_COUNTS = ("lesions", "missed lesions", "false lesions")


def nsd_at(tolerance_mm: float) -> Metric:
    """Return the metric NSD at a tolerance.

    Args:
        tolerance_mm: largest distance in mm that counts as within the tolerance, from 0 on.

    Examples:
        >>> nsd_at(0.5).name
        'NSD at 0.5 mm'
    """
    return Metric(f"NSD at {tolerance_mm:g} mm", "", True)


def lesion_wise(metric: Metric) -> Metric:
    """Return the mean of a metric over lesions as a metric of its own.

    Args:
        metric: metric of a single lesion.

    Examples:
        >>> lesion_wise(HD95).title
        'lesion-wise HD95 (mm)'
    """
    return replace(metric, name=f"lesion-wise {metric.name}")


class Percentile(Enum):
    """The distances whose 95th percentile HD95 is, in words."""

    POOLED = "the 95th percentile of both directions' distances pooled, between border voxels"
    DIRECTED = "the larger of the two directed 95th percentiles, between border voxels"
    BY_AREA = "the larger of the two directed 95th percentiles, between surface elements weighted by area"


class SurfaceShare(Enum):
    """The share of the surfaces that NSD is, in words."""

    POOLED = "the share of both surfaces taken together"
    MEAN = "the mean of the two surfaces' shares, in border voxels"


class Diagonal(Enum):
    """A penalty that depends on the image's size, in words."""

    MM = "the image diagonal"
    VOXELS = "the number of voxels along the image diagonal, taken as mm"


@dataclass(frozen=True)
class Definition:
    """How a pair of masks is scored.

    Attributes:
        name: short name for command lines and file names.
        hd95: the distances whose percentile HD95 is; ABD is taken between the same surfaces.
        overlap_both_empty: Dice and NSD where reference and prediction are empty, 0 to 1; NaN leaves them out.
        distance_both_empty_mm: HD95 and ABD in mm where reference and prediction are empty; NaN leaves them out.
        distance_one_empty_mm: HD95 and ABD in mm where exactly one of the two is empty; NaN leaves them out.
        source: challenge or program that scores in this way.
        nsd: the share of the surfaces that NSD is.
        tolerances_mm: tolerances of NSD in mm.
        needs_overlap: True where masks without a common voxel score like an empty one.
        in_voxels: True where distances between whole masks are counted in voxels and taken as mm.
        lesions: how single lesions are scored; None where they are not.
        has_thirds: True where the challenge also scores apex, mid and base of the prostate, and aRVD.

    Examples:
        >>> DEFINITIONS["brats2023"].distance_one_empty_mm
        374
    """

    name: str
    hd95: Percentile
    overlap_both_empty: float
    distance_both_empty_mm: float
    distance_one_empty_mm: float | Diagonal
    source: str
    nsd: SurfaceShare = SurfaceShare.POOLED
    tolerances_mm: tuple[float, ...] = (1.0,)
    needs_overlap: bool = False
    in_voxels: bool = False
    lesions: JoinedLesions | MatchedLesions | None = None
    has_thirds: bool = False

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Metrics that are scored, volumes and counts apart.

        Examples:
            >>> [metric.name for metric in DEFINITIONS["promise12"].metrics]
            ['Dice', 'HD95', 'NSD at 1 mm', 'ABD', 'aRVD']
        """
        in_order = *map(lesion_wise, self.metrics_of_a_lesion), *self.detection_metrics
        return (DICE, HD95, *self.nsd_metrics, ABD, *([ARVD] if self.has_thirds else []), *in_order)

    @property
    def nsd_metrics(self) -> tuple[Metric, ...]:
        """NSD at each of the tolerances."""
        return tuple(map(nsd_at, self.tolerances_mm))

    @property
    def metrics_of_a_lesion(self) -> tuple[Metric, ...]:
        """Metrics whose means over lesions are scored; none where lesions are not scored.

        Examples:
            >>> [metric.name for metric in DEFINITIONS["brats2024"].metrics_of_a_lesion]
            ['Dice', 'HD95', 'NSD at 0.5 mm', 'NSD at 1 mm']
        """
        if self.lesions is None:
            return ()
        nsd = (VOXEL_NSD,) if self.has_matched_lesions else self.nsd_metrics
        return DICE, HD95, *(nsd if self.has_nsd else ())

    @property
    def detection_metrics(self) -> tuple[Metric, ...]:
        """Metrics of how well lesions are found; none where lesions are not matched.

        Examples:
            >>> [metric.name for metric in DEFINITIONS["brats2025-met"].detection_metrics]
            ['lesion F1', 'small-lesion F1', 'large-lesion F1']
        """
        if not isinstance(self.lesions, MatchedLesions):
            return ()
        return (LESION_F1,) if self.lesions.smallest_mm3 is None else (LESION_F1, SMALL_LESION_F1, LARGE_LESION_F1)

    @property
    def has_matched_lesions(self) -> bool:
        """Tell whether each lesion is compared with at most one of the prediction."""
        return isinstance(self.lesions, MatchedLesions)

    @property
    def has_nsd(self) -> bool:
        """Tell whether NSD is the challenge's; elsewhere it is this package's."""
        return self.nsd is SurfaceShare.MEAN

    @property
    def in_words(self) -> str:
        """The definition in a few sentences, for readers of the scores.

        Examples:
            >>> print(DEFINITIONS["captk"].in_words)
            captk (CaPTk, BraTS 2021 and 2022): HD95 is the 95th percentile of both directions' distances pooled,
            between border voxels. Both empty: Dice and NSD 1, HD95 and ABD 0 mm. One empty: Dice and NSD 0, HD95 and
            ABD 373.1287 mm. Scores left out do not enter a mean.
        """
        penalty = self.distance_one_empty_mm
        return (
            f"{self.name} ({self.source}): HD95 is {self.hd95.value}"
            f"{', counted in voxels and taken as mm' if self.in_voxels else ''}. "
            f"{f'NSD is {self.nsd.value}. ' if self.has_nsd else ''}"
            f"Both empty: Dice and NSD {_share(self.overlap_both_empty)}, "
            f"HD95 and ABD {_mm(self.distance_both_empty_mm)}. "
            f"One empty{', or no voxel in common' if self.needs_overlap else ''}: Dice and NSD 0, HD95 and ABD "
            f"{penalty.value if isinstance(penalty, Diagonal) else _mm(penalty)}. Scores left out do not enter a mean."
        )

    def for_image(self, shape: Sequence[int], spacing_mm: Sequence[float]) -> "Definition":
        """Return the definition with the penalty in mm where it depends on the image's size.

        Args:
            shape: number of voxels along each axis of the whole image.
            spacing_mm: edge of a voxel along each axis, in their order.

        Examples:
            >>> DEFINITIONS["promise12"].for_image((4, 3, 12), (1, 1, 1)).distance_one_empty_mm
            13.0
        """
        if not isinstance(self.distance_one_empty_mm, Diagonal):
            return self
        unit = (1.0,) * len(shape) if self.distance_one_empty_mm is Diagonal.VOXELS else spacing_mm
        diagonal = math.hypot(*(size * edge for size, edge in zip(shape, unit, strict=True)))
        return replace(self, distance_one_empty_mm=diagonal)


def _share(value: float) -> str:
    return "left out" if math.isnan(value) else f"{value:g}"


def _mm(value: float) -> str:
    return "left out" if math.isnan(value) else f"{value:.7g} mm"


_OF_2023 = JoiningRules(dilations=3, smallest_mm3=50)
_NETC, _ENHANCING, _RESECTION_CAVITY = 1, 3, 4  # labels of glioma and metastases in BraTS from 2023 on
_OF_2024_GLIOMA = JoinedLesions(
    JoiningRules(dilations=3, smallest_mm3=20, dropped_voxels=20),
    {
        (1,): JoiningRules(5, 20, dropped_voxels=20, joined_by=(_ENHANCING, _RESECTION_CAVITY)),
        # the official code means 5 dilations for oedema, too, and misspells its name
        (2,): JoiningRules(3, 20, dropped_voxels=20, joined_by=(_ENHANCING, _RESECTION_CAVITY, _NETC)),
        (3,): JoiningRules(3, 10, dropped_voxels=10, joined_by=(_NETC, _RESECTION_CAVITY)),
        (4,): JoiningRules(5, 20, dropped_voxels=20, joined_by=(_ENHANCING, _NETC)),
    },
)


def _joined(
    rules: JoiningRules, *, enhancing_joined_by: tuple[int, ...] = (), counts_false: bool = True
) -> JoinedLesions:
    """Return one set of rules for all regions, apart from what joins lesions of enhancing tumour."""
    exceptions: dict[tuple[int, ...], JoiningRules] = (
        {(_ENHANCING,): replace(rules, joined_by=enhancing_joined_by)} if enhancing_joined_by else {}
    )
    return JoinedLesions(rules, exceptions, counts_false)


def _brats2023(name: str, source: str, lesions: JoinedLesions) -> Definition:
    return Definition(name, Percentile.BY_AREA, 1, 0, 374, source, lesions=lesions)


def _brats2024(name: str, source: str, penalty_mm: float | Diagonal, lesions: JoinedLesions) -> Definition:
    return Definition(
        name, Percentile.BY_AREA, 1, 0, penalty_mm, source, SurfaceShare.MEAN, tolerances_mm=(0.5, 1.0), lesions=lesions
    )


def _brats2025(name: str, source: str, lesions: MatchedLesions | None) -> Definition:
    return Definition(
        name,
        Percentile.POOLED,
        NAN,
        NAN,
        373,
        source,
        SurfaceShare.MEAN,
        tolerances_mm=(0.5,),
        needs_overlap=True,
        in_voxels=True,
        lesions=lesions,
    )


DEFINITIONS = {
    definition.name: definition
    for definition in (
        Definition("captk", Percentile.POOLED, 1, 0, 373.1287, "CaPTk, BraTS 2021 and 2022"),
        _brats2023("brats2023", "BraTS 2023: glioma, SSA and PED", _joined(_OF_2023)),
        _brats2023("brats2023-men", "BraTS 2023: meningioma", _joined(JoiningRules(1, 50))),
        _brats2023("brats2023-met", "BraTS 2023: metastases", _joined(JoiningRules(1, 2))),
        _brats2024("brats2024", "BraTS 2024: glioma after treatment", 337, _OF_2024_GLIOMA),
        _brats2024(
            "brats2024-ssa",
            "BraTS 2024: SSA",
            374,
            _joined(JoiningRules(3, 50, dropped_voxels=50), enhancing_joined_by=(_NETC,)),
        ),
        _brats2024("brats2024-ped", "BraTS 2024: PED", 374, _joined(JoiningRules(5, 10, dropped_voxels=10))),
        _brats2024("brats2024-men", "BraTS 2024: meningioma", 374, _joined(JoiningRules(1, 50))),
        _brats2024(
            "brats2024-met",
            "BraTS 2024: metastases",
            Diagonal.VOXELS,
            _joined(JoiningRules(1, 2, dropped_voxels=2), enhancing_joined_by=(_NETC,)),
        ),
        _brats2024(
            "brats2024-men-rt",
            "BraTS 2024: meningioma before radiotherapy",
            Diagonal.VOXELS,
            _joined(JoiningRules(1, 50, dropped_mm3=50), counts_false=False),
        ),
        _brats2025("brats2025", "BraTS 2025: all tasks but metastases", MatchedLesions()),
        _brats2025("brats2025-met", "BraTS 2025: metastases", MatchedLesions(smallest_mm3=20)),
        _brats2025("panoptica", "panoptica as BraTS 2025 sets it, whole masks alone", None),
        Definition("directed", Percentile.DIRECTED, 1, 0, 374, "BraTS 2023 without weights by area"),
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
            Diagonal.MM,
            "PROMISE12, which gives no scores for empty masks; those are this package's",
            has_thirds=True,
        ),
    )
}
