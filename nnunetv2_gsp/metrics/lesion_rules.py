"""Says by which rules lesions are told apart, matched and scored; data alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class JoiningRules:
    """When lesions of a region count as one, and which are too small.

    Attributes:
        dilations: voxels, from 1 on; lesions that touch after so many dilations are one, and what a prediction has
            within them belongs to the lesion.
        smallest_mm3: lesions of the reference up to this volume are not scored.
        dropped_voxels: lesions of the prediction with up to so many voxels are dropped; None drops none by their
            number of voxels.
        dropped_mm3: lesions of the prediction up to this volume are dropped; None drops none by their volume.
        joined_by: labels; lesions that touch the same lesion of one of these labels are one.
    """

    dilations: int
    smallest_mm3: float
    dropped_voxels: int | None = None
    dropped_mm3: float | None = None
    joined_by: tuple[int, ...] = ()

    @property
    def joins_prediction(self) -> bool:
        """Tell whether lesions of the prediction are joined as those of the reference are, and small ones dropped."""
        return self.dropped_voxels is not None or self.dropped_mm3 is not None


@dataclass(frozen=True)
class JoinedLesions:
    """Lesions are joined where they are near, and each is compared with all that lies near it (BraTS 2023 and 2024).

    Attributes:
        rules: those of every region that is not among the exceptions.
        exceptions: labels of a region, sorted -> the rules of that region.
        counts_false: True where false lesions enter the mean with the penalty.
    """

    rules: JoiningRules
    exceptions: Mapping[tuple[int, ...], JoiningRules] = field(default_factory=dict)
    counts_false: bool = True

    def rules_of(self, region: Sequence[int]) -> JoiningRules:
        """Return the rules of a region.

        Args:
            region: labels that make up the region, in any order.

        Examples:
            >>> lesions = JoinedLesions(JoiningRules(3, smallest_mm3=20), {(1, 3): JoiningRules(3, smallest_mm3=10)})
            >>> lesions.rules_of([3, 1]).smallest_mm3
            10
        """
        return self.exceptions.get(tuple(sorted(region)), self.rules)


@dataclass(frozen=True)
class MatchedLesions:
    """Each lesion is compared with at most one of the prediction, so that their Dice is largest (BraTS 2025).

    Attributes:
        smallest_mm3: smaller lesions of the reference are not scored, and missed and false ones enter the mean with the
            penalty; None takes the mean over all matched lesions and no others.
        found_dice: Dice from which on a lesion counts as found where small and large ones are counted apart.
    """

    smallest_mm3: float | None = None
    found_dice: float = 0.1
