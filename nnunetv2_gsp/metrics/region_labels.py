"""Finds the labels that make up each region to score: from a dataset.json, or from the labels in the files."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2_gsp.errors import ConflictingInputError, DamagedFileError, MissingInputError


@dataclass(frozen=True)
class RegionLabels:
    """The labels of each region that is scored.

    Attributes:
        regions: name of the region -> labels that make it up; None where every label that occurs is a region.
        ignore_label: voxels with this label in the reference count for nothing; None where there is no such label.
        known_labels: labels that may occur in a file; None allows any.
        source: words for outputs that say where the labels are from, such as "labels as found".
        chosen_by: names of the caller's parameters that choose other labels, for errors.
    """

    regions: Mapping[str, tuple[int, ...]] | None = None
    ignore_label: int | None = None
    known_labels: frozenset[int] | None = None
    source: str = "labels as found"
    chosen_by: tuple[str, ...] = ()

    def regions_among(self, found: Collection[int]) -> Mapping[str, tuple[int, ...]]:
        """Return the regions; without any, one for each label found except the background's 0.

        Args:
            found: labels that occur in the files, from 0 on.

        Examples:
            >>> RegionLabels().regions_among({0, 2, 1})
            {'1': (1,), '2': (2,)}
        """
        if self.regions is not None:
            return self.regions
        return {str(label): (label,) for label in sorted(found) if label != 0}

    def by_name(self) -> dict[str, list[int] | None]:
        """Return the labels of each region, sorted, and the ignore label, as two sources of labels are compared.

        Examples:
            >>> RegionLabels({"TC": (3, 1)}, ignore_label=7).by_name()
            {'TC': [1, 3], 'ignore': [7]}
        """
        regions: dict[str, list[int] | None] = {name: sorted(group) for name, group in (self.regions or {}).items()}
        return {**regions, "ignore": None if self.ignore_label is None else [self.ignore_label]}

    def listed(self) -> str:
        """Return regions and ignore label in words.

        Examples:
            >>> RegionLabels({"TC": (3, 1), "ET": (3,)}).listed()
            'TC 1+3, ET 3'
        """
        return ", ".join(f"{name} {'+'.join(map(str, group))}" for name, group in self.by_name().items() if group)


def read_region_labels(dataset_json: Path, chosen_by: Sequence[str] = ()) -> RegionLabels:
    """Return the regions or labels of a dataset.json.

    Args:
        dataset_json: dataset.json of an nnU-Net dataset or model.
        chosen_by: names of the caller's parameters that choose another file, for errors.

    Raises:
        MissingInputError: the file does not exist.
        DamagedFileError: it is not a dataset.json, or its labels are not whole numbers.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = Path(folder, "dataset.json").write_text('{"labels": {"background": 0, "tumor_core": [1, 3]}}')
        ...     read_region_labels(Path(folder, "dataset.json")).regions
        {'tumor_core': (1, 3)}
    """
    try:
        labels: dict[str, Any] = dict(json.loads(dataset_json.read_text(encoding="utf-8"))["labels"])
        groups = {name: _group(value) for name, value in labels.items()}
        [ignore_label] = groups.get("ignore", (None,))
    except FileNotFoundError as error:
        raise MissingInputError(
            "nnU-Net's dataset.json", "none", where=dataset_json, remedy="put it there", parameters=chosen_by
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedFileError(
            "nnU-Net's dataset.json with whole numbers for its labels (one for ignore)",
            "something else",
            where=dataset_json,
            remedy="mend it",
            parameters=chosen_by,
        ) from error
    regions = {name: group for name, group in groups.items() if name != "ignore" and set(group) != {0}}
    known_labels = frozenset(label for group in groups.values() for label in group) | {0}
    return RegionLabels(regions, ignore_label, known_labels, f"labels of {dataset_json}", tuple(chosen_by))


def find_region_labels(dataset_json: Path | None, references: Path, predictions: Path) -> RegionLabels:
    """Return the labels of the given dataset.json, or of the one that nnU-Net left nearby, or those found.

    nnU-Net's prediction writes one beside its files, its training writes one into the model folder, which is two levels
    above a fold's validation, and a raw dataset has one beside labelsTr.

    Args:
        dataset_json: dataset.json whose labels are taken for both; None looks for one.
        references: folder of the references, such as labelsTr.
        predictions: folder of the predictions; a dataset.json in or above it takes precedence.

    Raises:
        MissingInputError: the given file does not exist.
        DamagedFileError: the file that is taken is not a dataset.json.
        ConflictingInputError: that of the predictions names other labels than that of the references.
    """
    chosen_by = ("dataset_json",)
    if dataset_json is not None:
        return read_region_labels(dataset_json, chosen_by)
    predictions, references = predictions.absolute(), references.absolute()
    of_predictions = _nearest((predictions, predictions.parent, predictions.parent.parent), chosen_by)
    of_references = _nearest((references, references.parent), chosen_by)
    if of_predictions is not None and of_references is not None:
        check_same_regions([of_references, of_predictions], "of references and predictions", "convert one of them")
    return of_predictions or of_references or RegionLabels(chosen_by=chosen_by)


def check_same_regions(several: Sequence[RegionLabels], whose: str, remedy: str) -> None:
    """Check that regions and ignore labels from several dataset.json files are the same.

    Args:
        several: labels from one file or more.
        whose: words that say whose they are, for the error.
        remedy: what mends it, for the error.

    Raises:
        ConflictingInputError: two of them differ.

    Examples:
        >>> check_same_regions([RegionLabels({"TC": (1, 3)}), RegionLabels({"TC": (3, 1)})], "of both", "")
    """
    for labels in several[1:]:
        if labels.by_name() != several[0].by_name():
            raise ConflictingInputError(
                f"the same regions and ignore label {whose}",
                f"{several[0].listed()} in the {several[0].source}, but {labels.listed()} in the {labels.source}",
                remedy=remedy,
                parameters=labels.chosen_by,
            )


def _nearest(folders: Sequence[Path], chosen_by: Sequence[str]) -> RegionLabels | None:
    """Return the labels of the dataset.json in the first folder that has one; None where none has."""
    files = (folder / "dataset.json" for folder in folders)
    return next((read_region_labels(file, chosen_by) for file in files if file.is_file()), None)


def _group(value: Any) -> tuple[int, ...]:
    """Return the labels of an entry, one or a list; raise ValueError if it holds none, or one that is not whole."""
    group = value if isinstance(value, list) else [value]
    if not group or any(isinstance(label, float) and not label.is_integer() for label in group):
        raise ValueError(f"no labels: {value}")
    return tuple(map(int, group))
