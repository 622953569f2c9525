"""Makes an nnU-Net raw dataset of the Medical Segmentation Decathlon's brain or prostate task, whose images are 4D.

Task01 (BraTS 2016/17) gets the channels, labels and regions of `brats.py`, so that it can be mixed with those editions.

Task05 keeps PZ and TZ as plain labels, with no region for the whole prostate: that is how the Decathlon scores it and
how nnU-Net's published figures were made, the zones exclude each other, and regions would change the loss. The prostate
is the union of both, in any evaluation.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from nnunetv2_gsp.datasets.brats import CHANNELS, REGIONS, REGIONS_CLASS_ORDER
from nnunetv2_gsp.datasets.conversion import ConversionReport, convert
from nnunetv2_gsp.datasets.source import TEST, TRAINING, Case, DatasetFormat, Survey
from nnunetv2_gsp.errors import DamagedFileError, InputError, MissingInputError
from nnunetv2_gsp.images import nifti_shape, visible_files

_TASK01_MODALITIES = ("t1w", "t1gd", "t2w", "flair")  # in the order of `CHANNELS`
_TASK05_MODALITIES = ("t2", "adc")


def survey_msd(source: Path) -> Survey:
    """Find the cases of Task01_BrainTumour or Task05_Prostate; the modalities in dataset.json tell which it is.

    Args:
        source: folder of the task, with dataset.json, imagesTr, labelsTr and imagesTs.

    Raises:
        DamagedFileError: dataset.json is missing or can't be read.
        InputError: dataset.json belongs to another task.
        MissingInputError: the source holds no case.
    """
    survey = Survey(_format(_modalities(source), source))
    images = [*visible_files(source / "imagesTr", "*.nii.gz"), *visible_files(source / "imagesTs", "*.nii.gz")]
    if not images:
        raise MissingInputError("images", "none", where=source / "imagesTr", remedy="unpack the task's archive again")
    survey.collect(images, _find_case, _name)
    return survey


def convert_msd(
    source: Path, dataset: Path, *, overwrite: bool = False, strict: bool = False, processes: int = 1
) -> ConversionReport:
    """Make an nnU-Net raw dataset of Task01_BrainTumour or Task05_Prostate; nnU-Net's converter splits the 4D images.

    Args:
        source: folder of the task, with dataset.json, imagesTr, labelsTr and imagesTs.
        dataset: folder to create, `.../nnUNet_raw/DatasetXXX_Name`.
        overwrite: True replaces a dataset of that name once the new one is complete.
        strict: True makes no dataset if a case has to be skipped.
        processes: number of cases converted at the same time, from 1 on; one takes about 0.3 GB.

    Raises:
        InputError: as `survey_msd` and `conversion.convert`.
    """
    return convert(survey_msd, source, dataset, overwrite=overwrite, strict=strict, processes=processes)


def _find_case(image: Path) -> Case:
    if image.parent.name == "imagesTs":
        return Case(_name(image), (image,), None, TEST)
    label = image.parent.with_name("labelsTr") / image.name
    if not label.is_file():
        raise MissingInputError(f"the label {label}", "none", where=image)
    return Case(_name(image), (image,), label, TRAINING)


def _modalities(source: Path) -> tuple[str, ...]:
    """Return the names of the channels, in their order on disk."""
    file = source / "dataset.json"
    try:
        modality: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))["modality"]
        return tuple(str(modality[number]) for number in sorted(modality, key=int))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedFileError(
            "the Decathlon's dataset.json with its modalities",
            "none that can be read",
            where=file,
            remedy="give the folder Task01_BrainTumour or Task05_Prostate",
        ) from error


def _format(modalities: tuple[str, ...], source: Path) -> DatasetFormat:
    names = [modality.lower() for modality in modalities]
    if sorted(names) == sorted(_TASK01_MODALITIES):
        order = tuple(names.index(modality) for modality in _TASK01_MODALITIES)
        return DatasetFormat("msd_task01", CHANNELS, REGIONS, REGIONS_CLASS_ORDER, split=partial(_split, order))
    if sorted(names) == sorted(_TASK05_MODALITIES):
        order = tuple(range(len(modalities)))
        return DatasetFormat("msd_task05", modalities, {"PZ": 1, "TZ": 2}, split=partial(_split, order))
    raise InputError(
        "the modalities of Task01 (FLAIR, T1w, t1gd, T2w) or Task05 (T2, ADC)",
        ", ".join(modalities),
        where=source / "dataset.json",
        remedy="convert other tasks with nnUNetv2_convert_MSD_dataset",
    )


def _split(order: tuple[int, ...], case: Case, folder: Path) -> Case:
    """Let nnU-Net's converter write a case's channels to a folder, and return them in the order of `CHANNELS`."""
    from nnunetv2.dataset_conversion.convert_MSD_dataset import split_4d_nifti

    [image] = case.images
    _check_channels(image, len(order))
    split_4d_nifti(str(image), str(folder))
    return replace(case, images=tuple(folder / f"{_name(image)}_{number:04d}.nii.gz" for number in order))


def _check_channels(image: Path, expected: int) -> None:
    """Refuse images on which nnU-Net's converter would fail, or which it would fill up with zeros."""
    shape = nifti_shape(image)
    if len(shape) != 4 or shape[3] != expected:
        raise InputError(f"a 4D image with {expected} channels", f"the shape {shape}", where=image)


def _name(image: Path) -> str:
    return image.name.removesuffix(".nii.gz")
