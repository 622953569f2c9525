"""Pairs the predictions of several contenders with the same references."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nnunetv2_gsp.comparison.costs import ModelCost
from nnunetv2_gsp.comparison.protocols import TrainingProtocol
from nnunetv2_gsp.comparison.training_records import LearningCurves
from nnunetv2_gsp.errors import InputError, MissingInputError
from nnunetv2_gsp.metrics.cases import check_same_cases, find_segmentations, first_channel_of
from nnunetv2_gsp.metrics.region_labels import RegionLabels, check_same_regions, find_region_labels


@dataclass(frozen=True)
class Contender:
    """A trained model, or a folder of predictions, that is compared with others.

    Attributes:
        name: name that no other contender of the comparison has.
        predictions: name of each case -> file of its prediction.
        cost: what the model costs in parameters, time and memory.
        protocol: patch size, batch size, epochs and devices of its training.
        curves: losses and pseudo Dice over epochs, an entry for each fold; empty where they were not logged.
    """

    name: str
    predictions: Mapping[str, Path]
    cost: ModelCost = field(default_factory=ModelCost)
    protocol: TrainingProtocol = field(default_factory=TrainingProtocol)
    curves: Sequence[LearningCurves] = ()


@dataclass(frozen=True)
class Pairing:
    """Contenders and the references that all of them are compared with.

    Attributes:
        contenders: two or more; the first one is the baseline.
        references: name of each case -> file of its reference.
        folds: case -> the fold that validates it; empty where there are no folds.
        labels: the regions that are scored, and the labels that make up each.
        images: folder of CASE_0000 images to draw on; None draws on black.
        title: line below the report's heading that says what was compared.
    """

    contenders: Sequence[Contender]
    references: Mapping[str, Path]
    folds: Mapping[str, str]
    labels: RegionLabels
    images: Path | None
    title: str


def pair_folders(
    predictions: Sequence[Path], references: Path, *, dataset_json: Path | None = None, images: Path | None = None
) -> Pairing:
    """Pair folders of predictions; each is named after the last parts of its path that tell it from the others.

    Args:
        predictions: two or more folders, the baseline's first, all of the same cases.
        references: folder of the references, one for each case.
        dataset_json: nnU-Net's file that names regions or labels; None takes what `find_region_labels` finds.
        images: folder of CASE_0000 images to draw on; None draws on black.

    Raises:
        InputError: folders are missing, don't have the same cases as the references, have other regions, or no case has
            an image.
    """
    paths = [str(folder.absolute()) for folder in predictions]
    check_distinct(paths, ["predictions"])
    names = _distinct_ends(paths)
    reference_files = find_segmentations(references, ["references"])
    contenders = [Contender(names[path], find_segmentations(Path(path), ["predictions"])) for path in paths]
    for contender in contenders:
        check_same_cases(reference_files, contender.predictions)
    if images is not None and not any(first_channel_of(case, images) for case in reference_files):
        raise MissingInputError(
            f"images of the cases (such as {min(reference_files)}_0000.nii.gz)",
            "none",
            where=images,
            parameters=["images"],
        )
    labels = common_labels([find_region_labels(dataset_json, references, folder) for folder in predictions])
    return Pairing(contenders, dict(sorted(reference_files.items())), {}, labels, images, str(references))


def common_labels(several: Sequence[RegionLabels]) -> RegionLabels:
    """Return the labels that all contenders have.

    Args:
        several: labels of each contender; those without regions fit any others.

    Returns:
        The first labels that come from a dataset.json; if none do, the labels as found.

    Raises:
        ConflictingInputError: two dataset.json files name different labels.

    Examples:
        >>> named = RegionLabels({"tumor_core": (1, 3)}, source="labels of dataset.json")
        >>> common_labels([RegionLabels(), named]).source
        'labels of dataset.json'
    """
    named = [labels for labels in several if labels.regions is not None]
    check_same_regions(named, "of all contenders", "compare only what was trained for the same regions")
    return named[0] if named else several[0]


def check_distinct(names: Sequence[str], parameters: Sequence[str]) -> None:
    """Check that there are two or more names, and none twice.

    Args:
        names: names of the contenders that are to be compared.
        parameters: names of the caller's parameters that give the contenders, for the error.

    Raises:
        InputError: there are fewer than two names, or one occurs twice.

    Examples:
        >>> check_distinct(["nnUNetTrainer", "nnUNetTrainer"], ["trainers"])
        Traceback (most recent call last):
            ...
        nnunetv2_gsp.errors.InputError: Expected two or more to compare, each named once, got nnUNetTrainer...
    """
    if len(set(names)) < max(2, len(names)):
        raise InputError("two or more to compare, each named once", ", ".join(names) or "none", parameters=parameters)


def _distinct_ends(paths: Sequence[str]) -> dict[str, str]:
    """Shorten paths to the fewest last parts that still tell them apart."""
    parts = {path: Path(path).parts for path in paths}
    for n_parts in range(1, max(map(len, parts.values())) + 1):
        ends = {path: "/".join(part[-n_parts:]) for path, part in parts.items()}
        if len(set(ends.values())) == len(paths):
            return ends
    return {path: path for path in paths}
