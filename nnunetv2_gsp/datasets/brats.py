"""Makes an nnU-Net raw dataset of the case folders of BraTS 2018 to 2024.

The names of the cases tell the edition. Channels, labels (`labels.LABEL_MAPPINGS`) and regions are the same for all
editions, so that a network trained on one can be used on another.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from nnunetv2_gsp.datasets.conversion import ConversionReport, convert
from nnunetv2_gsp.datasets.labels import CAVITY, EDEMA, ENHANCING, NECROSIS
from nnunetv2_gsp.datasets.source import TEST, TRAINING, Case, DatasetFormat, Survey, folders_below, part_told_by
from nnunetv2_gsp.errors import ConflictingInputError, MissingInputError
from nnunetv2_gsp.images import NIFTI, visible_files

CHANNELS = ("t1", "t1ce", "t2", "flair")
REGIONS = {
    "whole_tumor": (NECROSIS, EDEMA, ENHANCING),
    "tumor_core": (NECROSIS, ENHANCING),
    "enhancing_tumor": (ENHANCING,),
}
REGIONS_CLASS_ORDER = (EDEMA, NECROSIS, ENHANCING)  # label that remains of each region once the next is painted over it
CAVITY_REGION = {"resection_cavity": (CAVITY,)}


class Naming(NamedTuple):
    """File names of an edition, which are `<case><ending>.nii.gz`.

    Attributes:
        case: pattern that the names of cases match.
        modalities: ending of each channel's image, in the order of `CHANNELS`.
        segmentation: ending of the segmentation.

    Examples:
        >>> NAMINGS["brats2023"].modalities
        ('-t1n', '-t1c', '-t2w', '-t2f')
    """

    case: re.Pattern[str]
    modalities: tuple[str, ...]
    segmentation: str


def _until_2022(case: str) -> Naming:
    return Naming(re.compile(case), ("_t1", "_t1ce", "_t2", "_flair"), "_seg")


def _from_2023(case: str) -> Naming:
    return Naming(re.compile(case), ("-t1n", "-t1c", "-t2w", "-t2f"), "-seg")


NAMINGS = {
    "brats2018": _until_2022(r"Brats18_\w+"),
    "brats2019": _until_2022(r"BraTS19_\w+"),
    "brats2020": _until_2022(r"BraTS20_(Training|Validation)_\d{3}"),
    "brats2021": _until_2022(r"BraTS2021_\d{5}"),
    "brats2023": _from_2023(r"BraTS-GLI-\d{5}-0\d{2}"),
    "brats2024": _from_2023(r"BraTS-GLI-\d{5}-[1-9]\d{2}"),  # after treatment: timepoints from 100 on
}


def edition_of(case: str) -> str | None:
    """Return the edition whose cases have names like this one, or None.

    Args:
        case: name of a case folder, such as BraTS2021_00000.

    Examples:
        >>> edition_of("BraTS-GLI-00005-100")
        'brats2024'
    """
    return next((edition for edition, naming in NAMINGS.items() if naming.case.fullmatch(case)), None)


def format_of(edition: str) -> DatasetFormat:
    """Return channels, labels and regions of a dataset of an edition.

    Args:
        edition: name of the edition, a key of `NAMINGS`, such as brats2021.

    Examples:
        >>> sorted(format_of("brats2024").labels)
        ['enhancing_tumor', 'resection_cavity', 'tumor_core', 'whole_tumor']
    """
    if edition == "brats2024":
        return DatasetFormat(edition, CHANNELS, {**REGIONS, **CAVITY_REGION}, (*REGIONS_CLASS_ORDER, CAVITY))
    return DatasetFormat(edition, CHANNELS, REGIONS, REGIONS_CLASS_ORDER)


def survey_brats(source: Path, edition: str | None = None) -> Survey:
    """Find the cases of one edition and their files in a source, also in subfolders such as HGG and LGG.

    Args:
        source: folder that holds the case folders at any depth.
        edition: key of `NAMINGS` whose labels the cases have; None goes by the names of the cases.

    Raises:
        MissingInputError: the source holds no case.
        ConflictingInputError: there are cases of several editions, and none is given.
    """
    folders = _case_folders(source)
    if not folders:
        raise MissingInputError(
            "case folders named as BraTS 2018 to 2024 name them (BraTS2021_00000, BraTS-GLI-00000-000)",
            "none",
            where=source,
            remedy="give the folder that holds them",
        )
    survey = Survey(format_of(edition or _one_edition(folders, source)))
    survey.collect(folders, partial(_find_case, source=source, notes=survey.notes), lambda folder: folder.name)
    return survey


def convert_brats(
    source: Path,
    dataset: Path,
    held_out: Collection[str] = (),
    edition: str | None = None,
    *,
    overwrite: bool = False,
    strict: bool = False,
    processes: int = 1,
) -> ConversionReport:
    """Make an nnU-Net raw dataset of BraTS 2018, 2019, 2020, 2021, 2023 (glioma) or 2024 (glioma after treatment).

    Cases with a segmentation go to imagesTr and labelsTr, validation cases to imagesTs.

    Args:
        source: folder that holds the case folders at any depth.
        dataset: folder to create, `.../nnUNet_raw/DatasetXXX_Name`.
        held_out: names of cases that go to imagesTs and labelsTs instead of imagesTr and labelsTr.
        edition: key of `NAMINGS` whose labels the cases have; None goes by the names of the cases.
        overwrite: True replaces a dataset of that name once the new one is complete.
        strict: True makes no dataset if a case has to be skipped.
        processes: number of cases converted at the same time, from 1 on; one takes about 0.3 GB.

    Raises:
        InputError: as `survey_brats` and `conversion.convert`, or a held-out case is not among the cases.
    """

    def look_through(source: Path) -> Survey:
        survey = survey_brats(source, edition)
        survey.hold_out(held_out)
        return survey

    return convert(look_through, source, dataset, overwrite=overwrite, strict=strict, processes=processes)


def _case_folders(source: Path) -> list[Path]:
    """Find the folders that are named like cases, except those (such as BraTS19_data) that hold cases and no image."""
    folders = [folder for folder in folders_below(source) if edition_of(folder.name)]
    above_cases = {parent for folder in folders for parent in folder.parents}
    return [folder for folder in folders if folder not in above_cases or any(visible_files(folder, "*.nii*"))]


def _one_edition(folders: Iterable[Path], source: Path) -> str:
    of_edition: dict[str, list[Path]] = defaultdict(list)
    for folder in folders:
        of_edition[edition_of(folder.name) or ""].append(folder)
    if len(of_edition) > 1:
        found = ", ".join(f"{edition} ({len(cases)}, {cases[0].name} for one)" for edition, cases in of_edition.items())
        raise ConflictingInputError(
            "cases of one edition", found, where=source, remedy="give the folder of one", parameters=["edition"]
        )
    return next(iter(of_edition))


def _find_case(folder: Path, source: Path, notes: list[str]) -> Case:
    naming = NAMINGS[edition_of(folder.name) or ""]
    images = tuple(_existing(folder, ending, naming) for ending in naming.modalities)
    label = _image(folder, naming.segmentation) or _misnamed_segmentation(folder, images, notes)
    part = part_told_by(folder, source, label is not None)
    if label is None and part == TRAINING:
        return Case(folder.name, images, _existing(folder, naming.segmentation, naming), part)
    return Case(folder.name, images, label, part or (TRAINING if label else TEST))


def _existing(folder: Path, ending: str, naming: Naming) -> Path:
    file = _image(folder, ending)
    if file is None:
        needed = ", ".join(each[1:] for each in (*naming.modalities, naming.segmentation))
        raise MissingInputError(
            f"{folder.name}{ending}.nii.gz or .nii",
            "neither",
            where=folder,
            remedy=f"add it: a case to train with has {needed}",
        )
    return file


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
