"""Makes an nnU-Net raw dataset of a challenge's data: checked, in parallel, and completely or not at all.

The module of each layout searches a source and returns its findings (`Survey`); all further steps are shared.
"""

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from nnunetv2_gsp.datasets.case_conversion import convert_case
from nnunetv2_gsp.datasets.source import TEST, TRAINING, Case, DatasetFormat, SkippedCase, Survey, folder_of
from nnunetv2_gsp.errors import ConflictingInputError, InputError, MissingInputError, SeveralProblemsError
from nnunetv2_gsp.files import beside, check_target, write_json
from nnunetv2_gsp.images import parts_of
from nnunetv2_gsp.nnunet import nnunet_folder
from nnunetv2_gsp.parallel import in_parallel

REPORT = "conversion_report.json"
_WORK = "in_progress"  # folder of notes on finished cases and of temporary files, removed when all are done


@dataclass(frozen=True)
class ConversionReport:
    """Report of a conversion, which is written as conversion_report.json into the dataset.

    Attributes:
        source: folder of the data that were converted.
        edition: name of the challenge, a key of `CHALLENGES`.
        labels: label on disk -> label inside nnU-Net.
        training: names of the cases in imagesTr.
        test: names of the cases in imagesTs.
        skipped: whatever of the source is not in the dataset, with the reason.
        notes: sentences for the user that call for no action.
        folders: folder in the source -> number of its cases in imagesTr and in imagesTs.
    """

    source: str
    edition: str
    labels: Mapping[int, int]
    training: list[str]
    test: list[str]
    skipped: list[SkippedCase]
    notes: list[str]
    folders: dict[str, dict[str, int]] = field(default_factory=dict)


def convert(
    look_through: Callable[[Path], Survey],
    source: Path,
    dataset: Path,
    *,
    overwrite: bool = False,
    strict: bool = False,
    processes: int = 1,
) -> ConversionReport:
    """Make an nnU-Net raw dataset of the cases of a source.

    Every image is read and compared with the others of its case. The dataset appears under its name only when it is
    complete, and an interrupted conversion continues with the cases that are left.

    Args:
        look_through: function that finds the cases of a source folder.
        source: folder of the challenge's data; it is only read.
        dataset: folder to create, `.../nnUNet_raw/DatasetXXX_Name`.
        overwrite: True replaces a dataset of that name once the new one is complete.
        strict: True makes no dataset if anything in the source has to be skipped.
        processes: number of cases converted at the same time, from 1 on; one takes about 0.3 GB.

    Raises:
        InputError: the source does not exist; the dataset exists, is a link, overlaps the source or would have no case;
            or something has to be skipped and `strict` is True.
        OSError: a file can't be written; finished cases are kept for the next call.
    """
    _check_folders(source, dataset, overwrite)
    survey = look_through(source)
    _check_survey(survey, source, strict)
    unfinished = _resumed(dataset, source, survey.format)
    report = _report(survey, source, _convert_cases(survey, unfinished, processes))
    if not report.training + report.test or (strict and report.skipped):
        shutil.rmtree(unfinished)
        _refuse(report.skipped, source, strict)
    _remove_leftovers(unfinished, survey.format, report)
    _describe(unfinished, survey.format, report)
    _put_in_place(unfinished, dataset)
    return report


def raw_dataset(dataset_id: int, name: str) -> Path:
    """Return the folder in nnUNet_raw of a dataset, which need not exist yet.

    Args:
        dataset_id: id of the dataset, 1 to 999, that no other dataset has.
        name: name behind the id, of letters, digits and `_ . + -`, such as BraTS.

    Raises:
        MissingInputError: nnUNet_raw names no folder.
        InputError: the id or the name is not of this form.
        ConflictingInputError: another dataset has the id, so that nnU-Net couldn't tell them apart.
    """
    from nnunetv2.utilities.dataset_name_id_conversion import find_candidate_datasets

    raw = nnunet_folder("nnUNet_raw", must_exist=True)
    if not 1 <= dataset_id <= 999:
        raise InputError("an id from 1 to 999", str(dataset_id), parameters=["dataset_id"])
    if not re.fullmatch(r"\w[\w.+-]*", name):
        raise InputError("a name of letters, digits and _ . + -", repr(name), parameters=["name"])
    dataset = f"Dataset{dataset_id:03d}_{name}"
    others = set(find_candidate_datasets(dataset_id)) - {dataset}
    if others:
        raise ConflictingInputError(
            f"an id for {dataset} that no other dataset has",
            f"{dataset_id}, which {min(others)} has",
            parameters=["dataset_id"],
        )
    return raw / dataset


def _check_folders(source: Path, dataset: Path, overwrite: bool) -> None:
    """Check source and dataset before the source is searched, which takes a while."""
    if not source.is_dir():
        raise MissingInputError("a folder of the challenge's data", "none", where=source, parameters=["source"])
    check_target(dataset, overwrite, is_folder=True, parameters=("dataset", "overwrite"))
    for passing in (beside(dataset), _replaced(dataset)):
        check_target(passing, True, is_folder=True, parameters=("dataset",))
    for written in (dataset, beside(dataset)):
        if source.resolve().is_relative_to(written.resolve()):
            raise ConflictingInputError(
                f"a source outside of {written}, which is written to", str(source), parameters=["source", "dataset"]
            )


def _check_survey(survey: Survey, source: Path, strict: bool) -> None:
    skipped = survey.skipped + survey.left_over
    if not survey.cases or (strict and skipped):
        _refuse(skipped, source, strict)


def _refuse(skipped: Sequence[SkippedCase], source: Path, strict: bool) -> None:
    problems = [f"{each.case}: {each.reason}" for each in skipped]
    if strict:
        raise SeveralProblemsError(
            "every case to be in order, and nothing else",
            problems,
            where=source,
            remedy="mend them or move them away",
            parameters=["strict"],
        )
    raise SeveralProblemsError("a case that is in order", problems, where=source, remedy="mend one at least")


def _resumed(dataset: Path, source: Path, dataset_format: DatasetFormat) -> Path:
    """Return the folder to work in, with the finished cases of an earlier conversion of the same source."""
    unfinished = beside(dataset)  # nnU-Net does not take this name for a dataset
    about, file = {"source": str(source.resolve()), "edition": dataset_format.challenge.name}, unfinished / REPORT
    if not file.is_file() or json.loads(file.read_text()) != about:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        write_json(about, file)
    (unfinished / _WORK).mkdir(exist_ok=True)
    return unfinished


@dataclass(frozen=True)
class _Outcome:
    """What became of a case: the reason if it is skipped, and notes on it."""

    case: Case
    reason: str = ""
    notes: tuple[str, ...] = ()


def _convert_cases(survey: Survey, unfinished: Path, processes: int) -> list[_Outcome]:
    """Convert the cases that are left."""
    convert_one = partial(_convert_unless_finished, survey.format, unfinished)
    return list(in_parallel(convert_one, survey.cases, processes, "Converting"))


def _convert_unless_finished(dataset_format: DatasetFormat, dataset: Path, case: Case) -> _Outcome:
    """Convert a case unless it was finished and has not changed since."""
    file = dataset / _WORK / f"{case.name}.json"
    parts = [(part, part.stat()) for each in case.files for part in parts_of(each)]
    state = [[str(part), about.st_size, about.st_mtime_ns] for part, about in parts]
    content: dict[str, Any] = {"part": case.part, "files": state}
    if file.is_file():
        finished = json.loads(file.read_text())
        if {**finished, **content} == finished:
            return _Outcome(case, notes=tuple(finished["notes"]))
    try:
        notes = convert_case(dataset_format, dataset, dataset / _WORK, case)
    except InputError as error:
        file.unlink(missing_ok=True)
        return _Outcome(case, error.told())
    write_json({**content, "notes": notes}, file)
    return _Outcome(case, notes=tuple(notes))


def _report(survey: Survey, source: Path, outcomes: list[_Outcome]) -> ConversionReport:
    taken = [outcome.case for outcome in outcomes if not outcome.reason]
    names = {part: sorted(case.name for case in taken if case.part == part) for part in (TRAINING, TEST)}
    failed = [SkippedCase(outcome.case.name, outcome.reason) for outcome in outcomes if outcome.reason]
    skipped = sorted([*survey.skipped, *survey.left_over, *failed], key=lambda skipped: skipped.case)
    notes = [*survey.notes, *(note for outcome in outcomes for note in outcome.notes)]
    challenge = survey.format.challenge
    return ConversionReport(
        str(source),
        challenge.name,
        challenge.labels,
        names[TRAINING],
        names[TEST],
        skipped,
        notes,
        _folders(taken, source),
    )


def _folders(cases: Sequence[Case], source: Path) -> dict[str, dict[str, int]]:
    folders: dict[str, dict[str, int]] = {}
    for case in sorted(cases, key=folder_of):
        counts = folders.setdefault(folder_of(case).relative_to(source).as_posix(), {"training": 0, "test": 0})
        counts["training" if case.part == TRAINING else "test"] += 1
    return folders


def _remove_leftovers(unfinished: Path, dataset_format: DatasetFormat, report: ConversionReport) -> None:
    """Remove files that do not belong to the dataset: notes, and cases that are no longer in the source."""
    shutil.rmtree(unfinished / _WORK)
    for part, kept in ((TRAINING, report.training), (TEST, report.test)):
        for folder, n_letters in (("labels", 0), ("images", len("_0000"))):
            for file in (unfinished / f"{folder}{part}").glob("*"):
                name = file.name.removesuffix(dataset_format.challenge.file_ending)
                if name[: len(name) - n_letters] not in kept:
                    file.unlink()


def _describe(unfinished: Path, dataset_format: DatasetFormat, report: ConversionReport) -> None:
    """Write nnU-Net's dataset.json and the report."""
    from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json

    challenge = dataset_format.challenge
    regions: dict[str, Any] = {}
    if challenge.regions_class_order is not None:
        regions["regions_class_order"] = challenge.regions_class_order
    generate_dataset_json(
        str(unfinished),
        channel_names=dict(enumerate(dataset_format.channels)),
        labels={"background": 0, **challenge.regions},
        num_training_cases=len(report.training),
        file_ending=challenge.file_ending,
        license="that of the source",
        converted_by="nnunetv2_gsp",
        **regions,
    )
    write_json(asdict(report), unfinished / REPORT)


def _put_in_place(unfinished: Path, dataset: Path) -> None:
    """Rename the new dataset, after moving an old one away, as a folder can't replace a non-empty one in one step."""
    replaced = _replaced(dataset)
    shutil.rmtree(replaced, ignore_errors=True)
    if dataset.exists():
        dataset.rename(replaced)
    unfinished.rename(dataset)
    shutil.rmtree(replaced, ignore_errors=True)


def _replaced(dataset: Path) -> Path:
    return dataset.with_name(f"replaced_{dataset.name}")
