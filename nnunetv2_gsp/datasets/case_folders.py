"""Finds the cases of a source with a folder for each case, as all tasks of BraTS have it.

The names of the folders tell the task and its edition; where several editions share them, the year in the name of a
folder above tells, or the user.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from nnunetv2_gsp.challenges import Challenge
from nnunetv2_gsp.challenges.challenge import CaseFolders
from nnunetv2_gsp.challenges.not_taken import not_taken
from nnunetv2_gsp.datasets.source import TEST, TRAINING, Case, DatasetFormat, Survey, folders_below, part_told_by
from nnunetv2_gsp.errors import ConflictingInputError, InputError, MissingInputError
from nnunetv2_gsp.images import NIFTI, visible_files

_PLAIN = "name folders and files as an edition does and choose it, or make a plain nnU-Net dataset of them"


def survey_case_folders(family: Sequence[Challenge], source: Path, edition: str | None = None) -> Survey:
    """Find the cases of one task and edition and their files in a source, also in subfolders such as HGG and LGG.

    Args:
        family: challenges that the names of the folders are compared with, the oldest edition first.
        source: folder that holds the case folders at any depth.
        edition: edition whose labels the cases have, one of the family's; None goes by the names of the folders.

    Raises:
        MissingInputError: the source holds no case.
        ConflictingInputError: there are cases of several editions or tasks, and none is given.
    """
    chosen = next((challenge for challenge in family if edition is not None and challenge.edition == edition), None)
    folders = _case_folders(family, source, chosen)
    if not folders:
        raise _no_cases(source)
    challenge = chosen or _told(family, folders, source)
    survey = Survey(DatasetFormat(challenge, challenge.channels))
    ours = [folder for folder in folders if _task(family, folder) in (challenge.task, None)]
    find = partial(_find_case, _layouts(family, challenge), source, survey.notes)
    survey.collect(ours, find, lambda folder: folder.name)
    for folder in folders:
        if folder not in ours:
            survey.leave_out(folder, _of_another_task(family, folder, challenge).told())
    survey.account_for(source)
    return survey


def _case_folders(family: Sequence[Challenge], source: Path, chosen: Challenge | None) -> list[Path]:
    """Find the case folders, without those (such as BraTS19_data) that are named like cases and hold cases only.

    A folder of any name is a case where its files are named as the chosen edition names them.
    """
    folders = [
        folder
        for folder in folders_below(source)
        if _task(family, folder) or (chosen is not None and _is_complete(folder, chosen.layout))
    ]
    above_cases = {parent for folder in folders for parent in folder.parents}
    return [folder for folder in folders if folder not in above_cases or any(visible_files(folder, "*.nii*"))]


def _fits(challenge: Challenge, folder: Path) -> bool:
    return isinstance(challenge.layout, CaseFolders) and bool(challenge.layout.case.fullmatch(folder.name))


def _task(family: Iterable[Challenge], folder: Path) -> str | None:
    return next((challenge.task for challenge in family if _fits(challenge, folder)), None)


def _layouts(family: Iterable[Challenge], challenge: Challenge) -> list[CaseFolders]:
    """Return the layouts of a challenge's task; its own comes last, for folders whose names fit none."""
    of_task = [each for each in family if each.task == challenge.task and each is not challenge]
    return [each.layout for each in (*of_task, challenge) if isinstance(each.layout, CaseFolders)]


def _told(family: Sequence[Challenge], folders: list[Path], source: Path) -> Challenge:
    """Return the challenge that the names tell: of the family's first task, if any case is of it."""
    tasks = {_task(family, folder) for folder in folders}
    task = family[0].task if family[0].task in tasks else tasks.pop() if len(tasks) == 1 else None
    if task is None:
        raise _several("cases of one task", family, folders, source)
    ours = [folder for folder in folders if _task(family, folder) == task]
    fitting = [
        challenge for challenge in family if challenge.task == task and all(_fits(challenge, folder) for folder in ours)
    ]
    if not fitting:
        raise _several("cases of one edition", family, ours, source)
    return _one_of(fitting, ours, source)


def _one_of(fitting: Sequence[Challenge], folders: Iterable[Path], source: Path) -> Challenge:
    """Return the edition among those with the same names: by the year in a folder's name, or by what they have."""
    years = _years(folders, source)
    fitting = [challenge for challenge in fitting if challenge.edition[:4] in years] or fitting
    by_name = [challenge for challenge in fitting if challenge.told_by_names]
    if len(by_name) == 1:
        return by_name[0]
    if all(challenge.labels == fitting[0].labels for challenge in fitting):
        return fitting[-1]
    raise ConflictingInputError(
        "names that tell the edition",
        f"those of {' and '.join(challenge.name for challenge in fitting)}, whose labels differ",
        where=source,
        remedy="say which edition it is",
        parameters=["edition"],
    )


def _years(folders: Iterable[Path], source: Path) -> set[str]:
    """Find the years in names such as ASNR-MICCAI-BraTS2023-PED-Challenge-TrainingData, the source's own included."""
    names = {source.resolve().name, *(name for folder in folders for name in folder.relative_to(source).parts[:-1])}
    return {year for name in names for year in re.findall(r"brats\D{0,10}(20\d\d)", name.lower())}


def _several(expected: str, family: Sequence[Challenge], folders: Iterable[Path], source: Path) -> InputError:
    of_name: dict[str, list[str]] = defaultdict(list)
    for folder in folders:
        of_name[next(challenge.name for challenge in family if _fits(challenge, folder))].append(folder.name)
    found = ", ".join(f"{name} ({len(cases)}, {cases[0]} for one)" for name, cases in of_name.items())
    return ConflictingInputError(expected, found, where=source, remedy="give the folder of one", parameters=["edition"])


def _of_another_task(family: Sequence[Challenge], folder: Path, challenge: Challenge) -> InputError:
    other = [each for each in family if _fits(each, folder)]
    return ConflictingInputError(
        f"a case of {challenge.name} ({challenge.task})",
        f"one of {other[-1].task}",
        where=folder,
        remedy=f"make a dataset of its own of it (edition {' or '.join(each.edition for each in other)})",
    )


def _no_cases(source: Path) -> InputError:
    for folder in folders_below(source):
        if title := not_taken(folder.name):
            return MissingInputError(
                "case folders of BraTS",
                f"{title} ({folder.name} for one), which is not taken",
                where=source,
                remedy=_PLAIN,
            )
    return MissingInputError(
        "case folders named as BraTS 2018 to 2025 name them (BraTS2021_00000, BraTS-GLI-00000-000)",
        "none",
        where=source,
        remedy=f"give the folder that holds them, or {_PLAIN}",
        parameters=["edition"],
    )


def _find_case(layouts: Sequence[CaseFolders], source: Path, notes: list[str], folder: Path) -> Case:
    layout = next((each for each in layouts if each.case.fullmatch(folder.name)), layouts[-1])
    images = tuple(_existing(folder, ending, layout) for ending in layout.images)
    label = _image(folder, layout.segmentation) or _misnamed_segmentation(folder, images, notes)
    part = part_told_by(folder, source, label is not None)
    if label is None and part == TRAINING:
        return Case(folder.name, images, _existing(folder, layout.segmentation, layout), part)
    return Case(folder.name, images, label, part or (TRAINING if label else TEST))


def _existing(folder: Path, ending: str, layout: CaseFolders) -> Path:
    file = _image(folder, ending)
    if file is None:
        needed = ", ".join(each[1:] for each in (*layout.images, layout.segmentation))
        raise MissingInputError(
            f"{folder.name}{ending}.nii.gz or .nii",
            "neither",
            where=folder,
            remedy=f"add it: a case to train with has {needed}",
        )
    return file


def _is_complete(folder: Path, layout: object) -> bool:
    return isinstance(layout, CaseFolders) and all(_image(folder, ending) for ending in layout.images)


def _image(folder: Path, ending: str) -> Path | None:
    """Find `<case><ending>` as `.nii.gz`, which nnU-Net can use unchanged, or else as `.nii`."""
    files = [folder / f"{folder.name}{ending}{file_type}" for file_type in NIFTI]
    return next((file for file in files if file.is_file()), None)


def _misnamed_segmentation(folder: Path, images: Iterable[Path], notes: list[str]) -> Path | None:
    """Find the only other image with "seg" in its name, as BraTS20_Training_355 has it in a well-known copy."""
    others = [file for file in visible_files(folder, "*.nii*") if file not in images and "seg" in file.name.lower()]
    if len(others) != 1:
        return None
    notes.append(f"{others[0]} is taken for the segmentation of {folder.name}, which has none of the usual name.")
    return others[0]
