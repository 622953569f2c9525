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
    """One patient at one time point, as found in a source.

    Attributes:
        name: name that no other case of the dataset has.
        images: one file for each channel, in their order; or the one 4D file that `DatasetFormat.split` splits.
        label: file of the segmentation; None where there is none.
        part: part of the dataset that the case belongs to, `TRAINING` or `TEST`.
    """

    name: str
    images: tuple[Path, ...]
    label: Path | None
    part: str

    @property
    def files(self) -> list[Path]:
        """All files of the case, the segmentation last.

        Examples:
            >>> case = Case("Case00", (Path("Case00.mhd"),), Path("Case00_segmentation.mhd"), TRAINING)
            >>> [file.name for file in case.files]
            ['Case00.mhd', 'Case00_segmentation.mhd']
        """
        return [*self.images, *([self.label] if self.label else [])]


@dataclass(frozen=True)
class DatasetFormat:
    """Description of an edition's dataset, as it stands in dataset.json.

    Attributes:
        edition: name of the edition, a key of `LABEL_MAPPINGS`.
        channels: names of the channels, by which nnU-Net chooses the normalisation.
        labels: name of each label or region -> its label or labels, inside nnU-Net.
        regions_class_order: label painted for each region, where later regions cover earlier ones.
        file_ending: ending of the names of images and labels in the dataset, such as .nii.gz.
        split: function that writes a case's 4D image as 3D images to a folder; None where the source has 3D images.
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
        case: name of the case in the source.
        reason: sentence that says what was expected, what was found, and what mends it.
    """

    case: str
    reason: str


@dataclass
class Survey:
    """Cases that were found in a source, complete and incomplete ones.

    Attributes:
        format: channels, labels and file ending of the dataset to make.
        cases: cases that have all their files and a unique name.
        skipped: cases that lack files, or whose name is not unique.
        notes: sentences for the user that call for no action.
    """

    format: DatasetFormat
    cases: list[Case] = field(default_factory=list)
    skipped: list[SkippedCase] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def collect(self, candidates: Iterable[Path], find: Callable[[Path], Case], name: Callable[[Path], str]) -> None:
        """Sort candidates into cases and skipped cases.

        Args:
            candidates: one image or folder for each case.
            find: function that returns a candidate's case, or raises InputError if the case is incomplete.
            name: function that returns a candidate's name, for skipped ones.

        Examples:
            >>> survey = Survey(DatasetFormat("promise12", ("T2",), {"prostate": 1}))
            >>> survey.collect([Path("Case00.mhd")], lambda file: Case(file.stem, (file,), None, TEST), str)
            >>> [case.name for case in survey.cases]
            ['Case00']
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
        """Move cases, with their labels, from training to test.

        Args:
            held_out: names of the cases to move.

        Raises:
            MissingInputError: a name is not among the cases.

        Examples:
            >>> cases = [Case(name, (Path(f"{name}.mhd"),), None, TRAINING) for name in ("Case00", "Case01")]
            >>> survey = Survey(DatasetFormat("promise12", ("T2",), {"prostate": 1}), cases)
            >>> survey.hold_out(["Case01"])
            >>> [(case.name, case.part) for case in survey.cases]
            [('Case00', 'Tr'), ('Case01', 'Ts')]
        """
        unknown = set(held_out) - {case.name for case in self.cases}
        if unknown:
            raise MissingInputError(
                "held-out cases among those of the source", ", ".join(sorted(unknown)), parameters=["held_out"]
            )
        self.cases = [replace(case, part=TEST) if case.name in held_out else case for case in self.cases]


def _drop_repeated(cases: Iterable[Case]) -> tuple[list[Case], list[SkippedCase]]:
    """Return the cases with a unique name, and the others as skipped, as either of two might be meant."""
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
    """Tell by the names of folders, the nearest first, whether files are for training or for prediction.

    The name of the source itself counts only for files without a segmentation: files with one are for training even in
    a source called test_brats.

    Args:
        path: a folder in the source, or the source itself.
        source: folder of all the data.
        labelled: True where the files have a segmentation among them.

    Returns:
        `TRAINING`, `TEST`, or None where no name tells.

    Examples:
        >>> part_told_by(Path("data/MICCAI_ValidationData/case"), Path("data"), labelled=False) == TEST
        True
    """
    told = nearest(path, source, _part)
    return _part(_words(source.name)) if told is None and not labelled else told


def nearest(path: Path, source: Path, tell: Callable[[list[str]], Told | None]) -> Told | None:
    """Return the first answer that the folder names of a path give, from the last one up to the one below the source.

    Args:
        path: a file or folder in the source, or the source itself.
        source: folder where the search ends; its own name does not count, as its owner chose it.
        tell: function of the words of a name in lower case, such as [miccai, training, data] for
            `MICCAI_TrainingData`; it returns None where they give no answer.

    Returns:
        The first answer of `tell` that is not None, or None.

    Examples:
        >>> tell = lambda words: words[0] if words[0] in ("train", "test") else None
        >>> nearest(Path("data/train/test_cases/Case00"), Path("data"), tell)
        'test'
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
    """Yield the source and all folders below it in sorted order, each once, following links.

    Args:
        source: folder to start from; hidden folders and `__MACOSX` are skipped.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as source:
        ...     Path(source, "HGG", "Brats18_1").mkdir(parents=True)
        ...     [folder.relative_to(source).as_posix() for folder in folders_below(Path(source))]
        ['.', 'HGG', 'HGG/Brats18_1']
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
