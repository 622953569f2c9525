"""What a folder of challenge data holds: its cases, their files, and whether they are to train with or to predict."""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from nnunetv2_gsp.challenges import Challenge
from nnunetv2_gsp.challenges.not_taken import not_taken
from nnunetv2_gsp.errors import InputError, MissingInputError
from nnunetv2_gsp.wording import first_few

TRAINING, TEST = "Tr", "Ts"  # nnU-Net's imagesTr and imagesTs
_PART_WORDS = {  # words in folders' names
    TEST: re.compile(r"(test|valid|live|holdout|heldout).*|(val|dev)(s|sets?|data|cases|split|folds?|images)?|devel"),
    TRAINING: re.compile(r"(train|hgg|lgg).*"),
}
_IMAGES = (".nii.gz", ".nii", ".mha", ".mhd", ".raw", ".zraw", ".nrrd", ".nhdr", ".img", ".hdr")

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
    """Description of the dataset that a source becomes.

    Attributes:
        challenge: challenge that the data are of; it has labels, regions and the files' ending.
        channels: names of the channels, by which nnU-Net chooses the normalisation.
        split: function that writes a case's 4D image as 3D images to a folder; None where the source has 3D images.
    """

    challenge: Challenge
    channels: tuple[str, ...]
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
    """Cases that were found in a source, complete and incomplete ones, and what is no case.

    Attributes:
        format: the dataset to make.
        cases: cases that have all their files and a unique name.
        skipped: cases that lack files, or whose name is not unique.
        left_over: whatever else stands in the source and is not taken.
        notes: sentences for the user that call for no action.
    """

    format: DatasetFormat
    cases: list[Case] = field(default_factory=list)
    skipped: list[SkippedCase] = field(default_factory=list)
    left_over: list[SkippedCase] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _named: list[Path] = field(default_factory=list)  # folders and files that are skipped or left over

    def collect(self, candidates: Iterable[Path], find: Callable[[Path], Case], name: Callable[[Path], str]) -> None:
        """Sort candidates into cases and skipped cases.

        Args:
            candidates: one image or folder for each case; those of which one is a link to the other are one case.
            find: function that returns a candidate's case, or raises InputError if the case is incomplete.
            name: function that returns a candidate's name, for skipped ones.

        Examples:
            >>> from nnunetv2_gsp.challenges import CHALLENGES
            >>> survey = Survey(DatasetFormat(CHALLENGES["promise12"], ("T2",)))
            >>> survey.collect([Path("Case00.mhd")], lambda file: Case(file.stem, (file,), None, TEST), str)
            >>> [case.name for case in survey.cases]
            ['Case00']
        """
        found = []
        for candidate in candidates:
            try:
                found.append(find(candidate))
            except InputError as error:
                self._named.append(candidate)
                self.skipped.append(SkippedCase(name(candidate), error.told()))
        self._without_repeated(self._without_links(found))

    def leave_out(self, path: Path, reason: str) -> None:
        """Name a folder or file that is not taken.

        Args:
            path: the folder or file.
            reason: sentence that says why.

        Examples:
            >>> from nnunetv2_gsp.challenges import CHALLENGES
            >>> survey = Survey(DatasetFormat(CHALLENGES["promise12"], ("T2",)))
            >>> survey.leave_out(Path("x.nii"), "Expected MetaImages, got NIfTI.")
            >>> survey.left_over
            [SkippedCase(case='x.nii', reason='Expected MetaImages, got NIfTI.')]
        """
        self._named.append(path)
        self.left_over.append(SkippedCase(path.name, reason))

    def account_for(self, source: Path, known: Iterable[Path] = ()) -> None:
        """Name every image in a source that no case claims, and mention all other files.

        Args:
            source: folder that the cases are from.
            known: files that were used to find the cases.
        """
        claimed = {os.path.realpath(file) for case in self.cases for file in case.files}
        claimed |= {os.path.realpath(file) for file in (*self._named, *known)}
        others, copies = [], []
        for folder in folders_below(source):
            if any(folder.is_relative_to(path) for path in self._named):
                continue
            files = [file for file in _files(folder) if os.path.realpath(file) not in claimed]
            images = [file for file in files if file.name.endswith(_IMAGES)]
            others += [file for file in files if file not in images]
            copies += [file for file in images if _is_copy(file)]
            left = [file for file in images if not _is_copy(file) and not _belongs(file, claimed, self._named)]
            self._name_images(folder, source, left)
        self._note("Not taken, as a .nii.gz of the same name stands beside:", copies)
        self._note("Not taken, as it is no image:", others)

    def _note(self, what: str, files: list[Path]) -> None:
        if files:
            self.notes.append(f"{what} {first_few([file.name for file in files])}.")

    def train_on_all(self) -> None:
        """Move every case that has a label to training, whatever its folder is called.

        Examples:
            >>> from nnunetv2_gsp.challenges import CHALLENGES
            >>> case = Case("Case00", (Path("Case00.mhd"),), Path("Case00_segmentation.mhd"), TEST)
            >>> survey = Survey(DatasetFormat(CHALLENGES["promise12"], ("T2",)), [case])
            >>> survey.train_on_all()
            >>> [case.part for case in survey.cases]
            ['Tr']
        """
        self.cases = [replace(case, part=TRAINING) if case.label else case for case in self.cases]

    def _without_links(self, cases: Iterable[Case]) -> list[Case]:
        """Return each case once, where several lead to the same file: the one that somebody set apart, if any."""
        of_file: dict[str, list[Case]] = defaultdict(list)
        for case in cases:
            of_file[os.path.realpath(case.images[0])].append(case)
        for same in of_file.values():
            same.sort(key=lambda case: case.part != TEST)
        torn = [same[0].images[0] for same in of_file.values() if len({case.part for case in same}) > 1]
        self._note("Not trained on, as a link to it stands in a folder that is set apart:", torn)
        return [same[0] for same in of_file.values()]

    def _without_repeated(self, cases: Iterable[Case]) -> None:
        """Keep the cases with a unique name, and skip the others, as either of two might be meant."""
        of_name: dict[str, list[Case]] = defaultdict(list)
        for case in cases:
            of_name[case.name].append(case)
        self.cases = [same[0] for same in of_name.values() if len(same) == 1]
        for name, same in of_name.items():
            if len(same) > 1:
                folders = " and ".join(str(case.images[0].parent) for case in same)
                reason = f"Expected one case {name}, got {len(same)}: in {folders}; keep one of them."
                self.skipped.append(SkippedCase(name, reason))
                self._named += [file for case in same for file in case.files]

    def _name_images(self, folder: Path, source: Path, images: list[Path]) -> None:
        if not images:
            return
        n = f"{len(images)} image{'s' * (len(images) > 1)} ({images[0].name}{' for one' * (len(images) > 1)})"
        title = not_taken(folder.name)
        reason = InputError(
            "images that belong to a case",
            f"{n} of {title}, which is not taken" if title else f"{n} that belong to none",
            where=folder,
            remedy="name folder and files as the challenge does, or make a plain nnU-Net dataset of them",
        )
        self.left_over.append(SkippedCase(str(folder.relative_to(source)), reason.told()))

    def hold_out(self, held_out: Collection[str]) -> None:
        """Move cases, with their labels, from training to test.

        Args:
            held_out: names of the cases to move.

        Raises:
            MissingInputError: a name is not among the cases.

        Examples:
            >>> from nnunetv2_gsp.challenges import CHALLENGES
            >>> cases = [Case(name, (Path(f"{name}.mhd"),), None, TRAINING) for name in ("Case00", "Case01")]
            >>> survey = Survey(DatasetFormat(CHALLENGES["promise12"], ("T2",)), cases)
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


def folder_of(case: Case) -> Path:
    """Return the folder in a source that a case lies in, apart from a folder of its own.

    Args:
        case: case with its files.

    Examples:
        >>> folder_of(Case("x", (Path("HGG/x/x_t1.nii"),), None, TEST)).as_posix()
        'HGG'
    """
    folder = case.images[0].parent
    return folder.parent if folder.name == case.name else folder


def _is_copy(file: Path) -> bool:
    return file.suffix == ".nii" and file.with_name(f"{file.name}.gz").is_file()


def _files(folder: Path) -> list[Path]:
    """Return the files of a folder, without hidden ones of the system."""
    return sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))


def _belongs(file: Path, claimed: Collection[str], named: Collection[Path]) -> bool:
    """Tell whether a file holds the voxels of a header that is spoken of, or the label of such a case."""
    header = file.with_suffix(".mhd")
    if file.suffix in (".raw", ".zraw") and header.is_file():
        return os.path.realpath(header) in claimed or _belongs(header, claimed, named)
    return any(
        file.parent == path.parent and re.match(rf"{re.escape(path.stem)}(?![a-zA-Z0-9])", file.name) for path in named
    )


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
    bare = [re.sub(r"^(brats|miccai|promise|my)", "", word) for word in words]  # as in bratsval
    told = {part for part, pattern in _PART_WORDS.items() for word in bare if pattern.fullmatch(word)}
    return told.pop() if len(told) == 1 else None


def folders_below(source: Path) -> Iterator[Path]:
    """Yield the source and all folders below it in sorted order, following links.

    A folder that a link leads to is yielded under each of its names, since a name may tell what it is for.

    Args:
        source: folder to start from; hidden folders and `__MACOSX` are skipped.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as source:
        ...     Path(source, "HGG", "Brats18_1").mkdir(parents=True)
        ...     [folder.relative_to(source).as_posix() for folder in folders_below(Path(source))]
        ['.', 'HGG', 'HGG/Brats18_1']
    """
    return _below(source, frozenset())


def _below(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in above:  # a link back
        return
    yield folder
    for child in sorted(folder.iterdir()):
        if child.is_dir() and not child.name.startswith(".") and child.name != "__MACOSX":
            yield from _below(child, above | {real})
