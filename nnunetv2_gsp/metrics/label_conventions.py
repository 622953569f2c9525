"""Tells the raw labels of BraTS up to 2022, where enhancing tumour is 4, from nnU-Net's, where it is 3."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from nnunetv2_gsp.errors import ConflictingInputError
from nnunetv2_gsp.metrics.region_labels import RegionLabels
from nnunetv2_gsp.metrics.scoring import VOLUMES, Scores

_RAW, _CONVERTED = {1, 2, 4}, {1, 2, 3}


def are_raw(found: Collection[int], known: Collection[int]) -> bool:
    """Tell whether labels of a file are the raw ones of BraTS up to 2022 where nnU-Net's are expected.

    Args:
        found: labels that occur in the file.
        known: labels that may occur, as the dataset.json has them.

    Examples:
        >>> are_raw({0, 1, 2, 4}, known={0, 1, 2, 3}), are_raw({0, 5}, known={0, 1, 2, 3})
        (True, False)
    """
    return 4 in found and {*found} - {0} <= _RAW and {*known} - {0} == _CONVERTED


def check_not_raw(found: Collection[int], known: Collection[int], file: Path) -> None:
    """Check that a file does not have raw labels where nnU-Net's are expected.

    Args:
        found: labels that occur in the file.
        known: labels that may occur, as the dataset.json has them.
        file: the file, for the error.

    Raises:
        ConflictingInputError: it has.

    Examples:
        >>> check_not_raw({0, 1, 2, 3}, known={0, 1, 2, 3}, file=Path("case.nii.gz"))
    """
    if are_raw(found, known):
        raise _raw_labels("label 3 for enhancing tumour, as nnU-Net's dataset has it", "label 4", file)


def check_same_labels(scores: Iterable[Mapping[str, Scores]], labels: RegionLabels) -> None:
    """Check that, where labels are taken as found, not one side has 3 for enhancing tumour and the other one 4.

    Args:
        scores: scores by region of each case.
        labels: the regions that were scored.

    Raises:
        ConflictingInputError: over all cases one side has label 4, and beside it at most 1 and 2, the other one 3 and
            at most these.

    Examples:
        >>> both = [{"4": {"reference_mm3": 9.0, "prediction_mm3": 2.0}}]
        >>> check_same_labels(both, RegionLabels())
    """
    if labels.regions is not None:
        return
    cases = list(scores)
    found = {side: {label for case in cases for label in case if case[label][side] > 0} for side in VOLUMES}
    for raw, converted in (VOLUMES, VOLUMES[::-1]):
        if "4" in found[raw] <= {"1", "2", "4"} and "3" in found[converted] <= {"1", "2", "3"}:
            names = {VOLUMES[0]: "references", VOLUMES[1]: "predictions"}
            raise _raw_labels(
                f"the same labels in both folders, such as 3 for enhancing tumour in the {names[converted]}",
                f"label 4 and never 3 in the {names[raw]}",
            )


def _raw_labels(expected: str, got: str, file: Path | None = None) -> ConflictingInputError:
    return ConflictingInputError(
        expected,
        f"{got}, as BraTS has it up to 2022",
        where=file,
        parameters=["raw_labels"],
    )
