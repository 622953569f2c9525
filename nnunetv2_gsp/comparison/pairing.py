"""Pairs the predictions of several contenders with the same references."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nnunetv2_gsp.comparison.costs import ModelCost
from nnunetv2_gsp.comparison.protocols import TrainingProtocol
from nnunetv2_gsp.comparison.training_records import LearningCurves
from nnunetv2_gsp.errors import ConflictingInputError, InputError, MissingInputError
from nnunetv2_gsp.metrics.cases import check_same_cases, find_segmentations, first_channel_of
from nnunetv2_gsp.metrics.region_labels import RegionLabels, find_region_labels


@dataclass(frozen=True)
class Contender:
    """A trained model, or a folder of predictions, that is compared with others.

    Attributes:
        name: unique among them.
        predictions: case -> file.
        cost: of the model.
        protocol: how it was trained.
        curves: how training went, an entry for each fold; empty where nobody logged it.
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
        references: case -> file.
        folds: case -> the fold that validates it; empty where there are no folds.
        labels: which regions there are.
        images: folder of CASE_0000 files to draw on, or None.
        title: of the report.
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
    """Pair folders of predictions, named after what tells their paths apart.

    Args:
        predictions: two or more folders, the baseline's first, all of the same cases.
        references: folder of the references of these cases.
        dataset_json: which regions or labels there are; None takes what `find_region_labels` finds.
        images: folder of CASE_0000 files to draw on; None draws on black.

    Raises:
        InputError: folders are missing, don't have the same cases as the references, have other regions, or there is
            no image of any case.
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
        several: of each contender; those without regions go with any.

    Returns:
        The first that a dataset.json names; labels as found where none does.

    Raises:
        ConflictingInputError: another dataset.json names others.
    """
    named = [labels for labels in several if labels.regions is not None]
    for labels in named[1:]:
        if _scored(labels) != _scored(named[0]):
            raise ConflictingInputError(
                "the same regions and ignore label of all contenders",
                f"{_listed(named[0])} in the {named[0].source}, but {_listed(labels)} in the {labels.source}",
                remedy="compare only what was trained for the same regions",
                parameters=labels.chosen_by,
            )
    return named[0] if named else several[0]


def check_distinct(names: Sequence[str], parameters: Sequence[str]) -> None:
    """Check that there are two or more, and none twice.

    Args:
        names: of those that are to be compared.
        parameters: which of the caller's parameters name them, for the error.

    Raises:
        InputError: there are fewer, or one is there twice.
    """
    if len(set(names)) < max(2, len(names)):
        raise InputError("two or more to compare, each named once", ", ".join(names) or "none", parameters=parameters)


def _scored(labels: RegionLabels) -> tuple[dict[str, list[int]], int | None]:
    return {name: sorted(region) for name, region in (labels.regions or {}).items()}, labels.ignore_label


def _listed(labels: RegionLabels) -> str:
    regions = {name: "+".join(map(str, region)) for name, region in _scored(labels)[0].items()}
    if labels.ignore_label is not None:
        regions["ignore"] = str(labels.ignore_label)
    return ", ".join(f"{name} {region}" for name, region in regions.items())


def _distinct_ends(paths: Sequence[str]) -> dict[str, str]:
    """Shorten paths to as many of their last parts as tell them apart."""
    parts = {path: Path(path).parts for path in paths}
    for n_parts in range(1, max(map(len, parts.values())) + 1):
        ends = {path: "/".join(part[-n_parts:]) for path, part in parts.items()}
        if len(set(ends.values())) == len(paths):
            return ends
    return {path: path for path in paths}
