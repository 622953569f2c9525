"""How does a challenge's data become an nnU-Net raw dataset? Checked, in parallel, and whole or not at all.

A module for each challenge looks through a source and says what it found (`Survey`); what follows is the same for all.
"""
import gzip
import json
import os
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import SimpleITK as sitk

from nnunetv2_gsp.datasets.labels import LABELS, relabel
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.files import beside, whole, write_json
from nnunetv2_gsp.images import check_same_geometry, is_hidden, read_image, write_image
from nnunetv2_gsp.parallel import in_parallel

TRAINING, TEST = "Tr", "Ts"  # nnU-Net's imagesTr and imagesTs
REPORT = "conversion_report.json"
_WORK = "in_progress"  # folder of notes on finished cases and of passing files, gone when all are done
_PART_BEGINNINGS = {TEST: ("valid", "test", "live"), TRAINING: ("train", "hgg", "lgg")}  # of words in folders' names

Told = TypeVar("Told")


@dataclass(frozen=True)
class Case:
    """One patient at one time, as found in a source.

    Attributes:
        name: unique in the dataset.
        images: a file for each channel, in their order; or the one file that a `Format.split` takes apart.
        label: segmentation on disk, where there is one.
        part: `TRAINING` or `TEST`.
    """

    name: str
    images: tuple[Path, ...]
    label: Path | None
    part: str


@dataclass(frozen=True)
class Format:
    """What nnU-Net is told about the dataset of an edition.

    Attributes:
        edition: key of `LABELS`.
        channels: names of the channels; nnU-Net's normalisation goes by them.
        labels: names of the labels or regions, inside nnU-Net.
        regions_class_order: label painted for each region, where later regions cover earlier ones.
        file_ending: of images and labels in the dataset.
        split: makes a case of 3D files in a folder of one that is not, where the source has such.
    """

    edition: str
    channels: tuple[str, ...]
    labels: Mapping[str, int | tuple[int, ...]]
    regions_class_order: tuple[int, ...] | None = None
    file_ending: str = ".nii.gz"
    split: Callable[[Case, Path], Case] | None = None


@dataclass(frozen=True)
class Skipped:
    """A case that is not converted, and why."""

    case: str
    reason: str


@dataclass
class Survey:
    """What a source holds.

    Attributes:
        format: of the dataset that is made of it.
        cases: those with all their files, names unique.
        skipped: those that lack some, or whose name is not unique.
        notes: what a user should know and need not mend.
    """

    format: Format
    cases: list[Case] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """What a conversion did; written as conversion_report.json into the dataset.

    Attributes:
        source: folder that was converted.
        edition: key of `LABELS`.
        labels: on disk -> inside nnU-Net.
        training: names of the cases in imagesTr.
        test: names of the cases in imagesTs.
        skipped: cases that are not in the dataset.
        notes: what a user should know and need not mend.
    """

    source: str
    edition: str
    labels: Mapping[int, int]
    training: list[str]
    test: list[str]
    skipped: list[Skipped]
    notes: list[str]

    def lines(self) -> list[str]:
        """Return what the command line shows."""
        return [f"{self.edition}: {len(self.training)} cases to train with, {len(self.test)} to predict, "
                f"{len(self.skipped)} skipped",
                *(f"note: {note}" for note in self.notes),
                *(f"skipped {skipped.case}: {skipped.reason}" for skipped in self.skipped)]


def convert(look_through: Callable[[Path], Survey], source: Path, dataset: Path, *, overwrite: bool = False,
            strict: bool = False, processes: int = 1) -> Report:
    """Make an nnU-Net raw dataset of a source.

    Every image is read and compared with the others of its case. Images that come in the dataset's own format keep
    every byte, `.nii` is compressed, the rest is read and written; labels go through the edition's table. The dataset
    appears under its name when it is complete, and an interrupted conversion goes on with the cases that are left.

    Args:
        look_through: says what the source holds.
        source: folder that nothing is written to.
        dataset: folder to make, `.../nnUNet_raw/DatasetXXX_Name`.
        overwrite: replace a dataset of that name, once the new one is complete.
        strict: make no dataset if a case has to be skipped.
        processes: how many cases are converted at a time; one takes about 0.3 GB.

    Raises:
        InputError: there is no such source, the dataset exists, is a link, lies where the source does, would have no
            case, or `strict` and one is skipped.
        OSError: a file can not be written; what is finished stays for the next time.
    """
    _check_target(source, dataset, overwrite)
    survey = look_through(source)
    if strict:
        _refuse_skipped(survey.skipped)
    if not survey.cases:
        raise InputError(f"Expected a complete case in {source}, found none; {_summary(survey.skipped)}")
    unfinished = _resumed(dataset, source, survey.format)
    convert_one = partial(_convert_unless_finished, survey.format, unfinished)
    failures = in_parallel(convert_one, survey.cases, processes, "Convert")
    failed = [Skipped(case.name, reason) for case, reason in zip(survey.cases, failures, strict=True) if reason]
    report = _report(survey, source, failed)
    if failed and (strict or not report.training + report.test):
        shutil.rmtree(unfinished)
        _refuse_skipped(report.skipped)
    _complete(unfinished, survey.format, report)
    _put_in_place(unfinished, dataset)
    return report


def raw_dataset(dataset_id: int, name: str) -> Path:
    """Return the folder of a dataset in nnUNet_raw, which is not made.

    Raises:
        InputError: nnUNet_raw is no folder, or nnU-Net could not tell the dataset by its id.
    """
    from nnunetv2.paths import nnUNet_raw
    from nnunetv2.utilities.dataset_name_id_conversion import find_candidate_datasets

    raw = nnUNet_raw.get()
    if not raw or not Path(raw).is_dir():
        raise InputError("Expected nnUNet_raw to name the folder of the raw datasets, found none: export "
                         "nnUNet_raw=/path/to/nnUNet_raw")
    if not 1 <= dataset_id <= 999 or not re.fullmatch(r"\w[\w.+-]*", name):
        raise InputError(f"Expected an id from 1 to 999 and a name of letters, digits, _ . + -, got {dataset_id} and "
                         f"{name!r}.")
    dataset = f"Dataset{dataset_id:03d}_{name}"
    others = set(find_candidate_datasets(dataset_id)) - {dataset}
    if others:
        raise InputError(f"Expected an id that is free, but {dataset} would share {dataset_id} with {min(others)}; "
                         f"choose another with -d.")
    return Path(raw) / dataset


def drop_repeated(cases: Iterable[Case]) -> tuple[list[Case], list[Skipped]]:
    """Return the cases whose name no other has, and the others as skipped: which of two is meant, nobody can tell."""
    of_name: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        of_name[case.name].append(case)
    unique = [same[0] for same in of_name.values() if len(same) == 1]
    repeated = [Skipped(name, f"Expected one case {name}, found {len(same)}: in "
                              f"{' and '.join(str(case.images[0].parent) for case in same)}; keep one of them.")
                for name, same in of_name.items() if len(same) > 1]
    return unique, repeated


def part_told_by(path: Path, source: Path, labelled: bool) -> str | None:
    """Tell by the folders' names, the nearest first, whether files are to train with or to predict; None if untold.

    What the source itself is called counts for files without label alone: with one they are to train with in a source
    called test_brats, too.
    """
    told = nearest(path, source, _part)
    return _part(_words(source.name)) if told is None and not labelled else told


def nearest(path: Path, source: Path, tell: Callable[[list[str]], Told | None]) -> Told | None:
    """Return what the words in the names of a path tell, from its last name up to the first one below the source.

    Args:
        path: in the source, or the source.
        source: folder where the search ends; its own name is its owner's choice and does not count.
        tell: takes the words of a name in lower case: miccai, training and data for `MICCAI_TrainingData`.
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
    """Yield the source and all folders in it, in order, also through links, each once."""
    seen = set()
    for folder, children, _ in os.walk(source, followlinks=True):
        real = os.path.realpath(folder)
        children[:] = sorted(child for child in children if not child.startswith(".") and child != "__MACOSX")
        if real in seen:
            children.clear()
            continue
        seen.add(real)
        yield Path(folder)


def hold_out(survey: Survey, held_out: Collection[str]) -> None:
    """Move cases from training to test, their labels with them.

    Raises:
        InputError: one is not among the survey's.
    """
    unknown = set(held_out) - {case.name for case in survey.cases}
    if unknown:
        raise InputError(f"Expected held-out cases among those of the source, got {', '.join(sorted(unknown))}.")
    survey.cases = [replace(case, part=TEST) if case.name in held_out else case for case in survey.cases]


def _check_target(source: Path, dataset: Path, overwrite: bool) -> None:
    """Before the source is looked through, which takes a while."""
    if not source.is_dir():
        raise InputError(f"Expected a folder {source}, found none; give the one that holds the challenge's data.")
    for folder in (dataset, beside(dataset), _replaced(dataset)):
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise InputError(f"Expected a folder or nothing at {folder}, found a link or a file; move it away, or "
                             f"choose another name.")
    if dataset.exists() and not overwrite:
        raise InputError(f"{dataset} exists and is not replaced; remove it, choose another name, or add --overwrite.")
    for folder in (dataset, beside(dataset)):
        if source.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"Expected a source outside of {folder}, which is written to, found {source}.")


def _resumed(dataset: Path, source: Path, dataset_format: Format) -> Path:
    """Return the folder to work in, with what an earlier conversion of the same source left there."""
    unfinished = beside(dataset)  # a name nnU-Net does not take for a dataset
    about, file = {"source": str(source.resolve()), "edition": dataset_format.edition}, unfinished / REPORT
    if not file.is_file() or json.loads(file.read_text()) != about:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        write_json(about, file)
    (unfinished / _WORK).mkdir(exist_ok=True)
    return unfinished


def _convert_unless_finished(dataset_format: Format, dataset: Path, case: Case) -> str | None:
    """Convert a case that has changed since it was finished, or never was; return why it is skipped, if it is."""
    note = dataset / _WORK / f"{case.name}.json"
    state = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in _files(case)]
    content = {"part": case.part, "files": state}
    if note.is_file() and json.loads(note.read_text()) == content:
        return None
    try:
        with tempfile.TemporaryDirectory(dir=dataset / _WORK) as folder:
            three_d = dataset_format.split(case, Path(folder)) if dataset_format.split else case
            _convert_case(dataset_format, dataset, three_d)
    except InputError as error:
        note.unlink(missing_ok=True)
        return str(error)
    write_json(content, note)
    return None


def _convert_case(dataset_format: Format, dataset: Path, case: Case) -> None:
    """Read and compare everything before the first file is written."""
    images = [read_image(file) for file in case.images]
    for image, file in zip(images, case.images, strict=True):
        check_same_geometry(image, file, images[0], case.images[0])
    label = _converted_label(case.label, images[0], case, dataset_format) if case.label else None
    image_targets, label_target = _targets(case, dataset_format, dataset)
    for image, file, target in zip(images, case.images, image_targets, strict=True):
        _write_image(image, file, target)
    if label is not None:
        _write(label, label_target)


def _converted_label(file: Path, image: sitk.Image, case: Case, dataset_format: Format) -> sitk.Image:
    label = read_image(file)
    check_same_geometry(label, file, image, case.images[0])
    converted = sitk.GetImageFromArray(relabel(sitk.GetArrayFromImage(label), LABELS[dataset_format.edition], file))
    converted.CopyInformation(image)  # nnU-Net warns of differences far below the tolerance
    return converted


def _write_image(image: sitk.Image, source: Path, target: Path) -> None:
    compressed = target.name.endswith(".nii.gz")
    if compressed and source.name.endswith(".nii.gz"):
        _copy(source, target)
    elif compressed and source.name.endswith(".nii"):
        _compress(source, target)
    else:
        _write(image, target)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    with whole(target) as unfinished:
        shutil.copyfile(source, unfinished)


def _compress(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    with whole(target) as unfinished, source.open("rb") as plain, unfinished.open("wb") as packed, \
            gzip.GzipFile("", "wb", 6, packed, mtime=0) as compressed:  # without a name or time, the same bytes again
        shutil.copyfileobj(plain, compressed)


def _write(image: sitk.Image, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    with whole(target) as unfinished:
        write_image(image, unfinished, compressed=True)


def _files(case: Case) -> list[Path]:
    return [*case.images, *([case.label] if case.label else [])]


def _targets(case: Case, dataset_format: Format, dataset: Path) -> tuple[list[Path], Path]:
    images, labels, ending = dataset / f"images{case.part}", dataset / f"labels{case.part}", dataset_format.file_ending
    return ([images / f"{case.name}_{number:04d}{ending}" for number in range(len(dataset_format.channels))],
            labels / f"{case.name}{ending}")


def _report(survey: Survey, source: Path, failed: list[Skipped]) -> Report:
    lost = {skipped.case for skipped in failed}
    names = {part: sorted(case.name for case in survey.cases if case.part == part and case.name not in lost)
             for part in (TRAINING, TEST)}
    return Report(str(source), survey.format.edition, LABELS[survey.format.edition], names[TRAINING], names[TEST],
                  sorted([*survey.skipped, *failed], key=lambda skipped: skipped.case), survey.notes)


def _complete(unfinished: Path, dataset_format: Format, report: Report) -> None:
    """Drop what does not belong to the dataset, of cases that were there before for instance, and describe it."""
    from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json

    shutil.rmtree(unfinished / _WORK)
    names = {TRAINING: set(report.training), TEST: set(report.test)}
    for part, kept in names.items():
        for file in (unfinished / f"labels{part}").glob("*"):
            if file.name.removesuffix(dataset_format.file_ending) not in kept:
                file.unlink()
        for file in (unfinished / f"images{part}").glob("*"):
            if file.name.removesuffix(dataset_format.file_ending)[:-5] not in kept:
                file.unlink()
    extra: dict[str, Any] = {}
    if dataset_format.regions_class_order is not None:
        extra["regions_class_order"] = dataset_format.regions_class_order
    generate_dataset_json(
        str(unfinished),
        channel_names=dict(enumerate(dataset_format.channels)),
        labels={"background": 0, **dataset_format.labels},
        num_training_cases=len(report.training),
        file_ending=dataset_format.file_ending,
        license="that of the source",
        converted_by="nnunetv2_gsp",
        **extra,
    )
    write_json(asdict(report), unfinished / REPORT)


def _put_in_place(unfinished: Path, dataset: Path) -> None:
    """Rename, the old dataset out of the way first: a folder can not take the place of a full one in one step."""
    replaced = _replaced(dataset)
    shutil.rmtree(replaced, ignore_errors=True)
    if dataset.exists():
        dataset.rename(replaced)
    unfinished.rename(dataset)
    shutil.rmtree(replaced, ignore_errors=True)


def _replaced(dataset: Path) -> Path:
    return dataset.with_name(f"replaced_{dataset.name}")


def _refuse_skipped(skipped: list[Skipped]) -> None:
    if skipped:
        raise InputError(f"Expected every case to be in order, {_summary(skipped)} Nothing is converted.")


def _summary(skipped: list[Skipped]) -> str:
    if not skipped:
        return "and none was skipped."
    return f"found {len(skipped)} that can not be taken: " + " ".join(each.reason for each in skipped)


def visible(folder: Path, pattern: str) -> list[Path]:
    """Return the files of a folder that match, in order, without those that a system left behind."""
    return sorted(file for file in folder.glob(pattern) if file.is_file() and not is_hidden(file))
