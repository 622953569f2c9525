"""What a folder of challenge data holds: its cases, their files, and whether they are to train with or to predict."""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from nnunetv2_gsp.errors import InputError, MissingInputError

TRAINING, TEST = "Tr", "Ts"  # nnU-Net's imagesTr and imagesTs
_PART_BEGINNINGS = {TEST: ("valid", "test", "live"), TRAINING: ("train", "hgg", "lgg")}  # of words in folders' names

Told = TypeVar("Told")


@dataclass(frozen=True)
class Case:
    """One patient at one time, as found in a source.

    Attributes:
        name: unique in the dataset.
        images: a file for each channel, in their order; or the one file that a `DatasetFormat.split` takes apart.
        label: segmentation on disk, where there is one.
        part: `TRAINING` or `TEST`.
    """

    name: str
    images: tuple[Path, ...]
    label: Path | None
    part: str

    @property
    def files(self) -> list[Path]:
        """All files of the case, the segmentation last."""
        return [*self.images, *([self.label] if self.label else [])]


@dataclass(frozen=True)
class DatasetFormat:
    """What nnU-Net is told about the dataset of an edition, in its dataset.json.

    Attributes:
        edition: key of `LABEL_MAPPINGS`.
        channels: names of the channels; nnU-Net's normalisation goes by them.
        labels: name of each label or region -> its label or labels, inside nnU-Net.
        regions_class_order: label painted for each region, where later regions cover earlier ones.
        file_ending: of images and labels in the dataset.
        split: turns a case of one 4D image into a case of 3D images in a given folder, where the source has 4D ones.
    """

    edition: str
    channels: tuple[str, ...]
    labels: Mapping[str, int | tuple[int, ...]]
    regions_class_order: tuple[int, ...] | None = None
    file_ending: str = ".nii.gz"
    split: Callable[[Case, Path], Case] | None = None


@dataclass(frozen=True)
class SkippedCase:
    """A case that is not converted.

    Attributes:
        case: its name.
        reason: a sentence: what was expected, what is there, and what mends it.
    """

    case: str
    reason: str


@dataclass
class Survey:
    """What a source holds.

    Attributes:
        format: of the dataset that is made of it.
        cases: those with all their files, names unique.
        skipped: those that lack some, or whose name is not unique.
        notes: sentences that a user should read and need not act on.
    """

    format: DatasetFormat
    cases: list[Case] = field(default_factory=list)
    skipped: list[SkippedCase] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def collect(self, candidates: Iterable[Path], find: Callable[[Path], Case], name: Callable[[Path], str]) -> None:
        """Sort candidates into cases and skipped ones.

        Args:
            candidates: an image or a folder of each case.
            find: returns a candidate's case, or raises InputError where the case is not complete.
            name: returns a candidate's name, for one that is skipped.
        """
        found = []
        for candidate in candidates:
            try:
                found.append(find(candidate))
            except InputError as error:
                self.skipped.append(SkippedCase(name(candidate), error.told()))
        self.cases, repeated = _drop_repeated(found)
        self.skipped += repeated

    def hold_out(self, held_out: Collection[str]) -> None:
        """Move cases from training to test, their labels with them.

        Args:
            held_out: names of cases.

        Raises:
            MissingInputError: one is not among the cases.
        """
        unknown = set(held_out) - {case.name for case in self.cases}
        if unknown:
            raise MissingInputError(
                "held-out cases among those of the source", ", ".join(sorted(unknown)), parameters=["held_out"]
            )
        self.cases = [replace(case, part=TEST) if case.name in held_out else case for case in self.cases]


def _drop_repeated(cases: Iterable[Case]) -> tuple[list[Case], list[SkippedCase]]:
    """Return the cases whose name no other has, and the others as skipped: nobody can tell which of two is meant."""
    of_name: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        of_name[case.name].append(case)
    unique = [same[0] for same in of_name.values() if len(same) == 1]
    repeated = [
        SkippedCase(
            name,
            f"Expected one case {name}, got {len(same)}: in "
            f"{' and '.join(str(case.images[0].parent) for case in same)}; keep one of them.",
        )
        for name, same in of_name.items()
        if len(same) > 1
    ]
    return unique, repeated


def part_told_by(path: Path, source: Path, labelled: bool) -> str | None:
    """Tell by the names of folders, the nearest first, whether files are to train with or to predict.

    What the source itself is called counts for files without label alone: with one they are to train with in a source
    called test_brats, too.

    Args:
        path: folder in the source, or the source.
        source: folder of all the data.
        labelled: whether the files have a segmentation among them.

    Returns:
        `TRAINING`, `TEST`, or None where no name tells.

    Examples:
        >>> part_told_by(Path("data/MICCAI_ValidationData/case"), Path("data"), labelled=False) == TEST
        True
    """
    told = nearest(path, source, _part)
    return _part(_words(source.name)) if told is None and not labelled else told


def nearest(path: Path, source: Path, tell: Callable[[list[str]], Told | None]) -> Told | None:
    """Return what the words in the names of a path tell, from its last name up to the first one below the source.

    Args:
        path: in the source, or the source.
        source: folder where the search ends; its own name is its owner's choice and does not count.
        tell: takes the words of a name in lower case, as in [miccai, training, data] for `MICCAI_TrainingData`, and
            returns None where they tell nothing.

    Returns:
        What `tell` returned first that is not None, or None.
    """
    for name in reversed(path.relative_to(source).parts):
        told = tell(_words(name))
        if told is not None:
            return told
    return None


def _words(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def _part(words: list[str]) -> str | None:
    told = {part for part, beginnings in _PART_BEGINNINGS.items() for word in words if word.startswith(beginnings)}
    return told.pop() if len(told) == 1 else None


def folders_below(source: Path) -> Iterator[Path]:
    """Yield the source and all folders in it, in order, also through links, each once.

    Args:
        source: folder to start with; hidden folders and `__MACOSX` in it are left out.
    """
    seen = set()
    for folder, children, _ in os.walk(source, followlinks=True):
        real = os.path.realpath(folder)
        children[:] = sorted(child for child in children if not child.startswith(".") and child != "__MACOSX")
        if real in seen:
            children.clear()
            continue
        seen.add(real)
        yield Path(folder)
