"""Finds the cases of a task of the Medical Segmentation Decathlon, whose images are 4D."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from nnunetv2_gsp.challenges import Challenge
from nnunetv2_gsp.challenges.challenge import Decathlon
from nnunetv2_gsp.datasets.source import TEST, TRAINING, Case, DatasetFormat, Survey
from nnunetv2_gsp.errors import DamagedFileError, InputError, MissingInputError
from nnunetv2_gsp.images import nifti_shape, visible_files


def survey_decathlon(family: Sequence[Challenge], source: Path, _edition: str | None = None) -> Survey:
    """Find the cases of a task; the modalities in dataset.json tell which it is.

    Args:
        family: the tasks that are known.
        source: folder of the task, with dataset.json, imagesTr, labelsTr and imagesTs.

    Raises:
        DamagedFileError: dataset.json is missing or can't be read.
        InputError: dataset.json belongs to another task.
        MissingInputError: the source holds no case.
    """
    survey = Survey(_format(family, _modalities(family, source), source))
    images = [*visible_files(source / "imagesTr", "*.nii.gz"), *visible_files(source / "imagesTs", "*.nii.gz")]
    if not images:
        raise MissingInputError("images", "none", where=source / "imagesTr", remedy="unpack the task's archive again")
    survey.collect(images, _find_case, _name)
    survey.account_for(source, known=[source / "dataset.json"])
    return survey


def _find_case(image: Path) -> Case:
    if image.parent.name == "imagesTs":
        return Case(_name(image), (image,), None, TEST)
    label = image.parent.with_name("labelsTr") / image.name
    if not label.is_file():
        raise MissingInputError(f"the label {label}", "none", where=image)
    return Case(_name(image), (image,), label, TRAINING)


def _layout(challenge: Challenge) -> Decathlon:
    assert isinstance(challenge.layout, Decathlon)
    return challenge.layout


def _modalities(family: Sequence[Challenge], source: Path) -> tuple[str, ...]:
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
            remedy=f"give the folder {' or '.join(_layout(challenge).folder for challenge in family)}",
        ) from error


def _format(family: Sequence[Challenge], modalities: tuple[str, ...], source: Path) -> DatasetFormat:
    names = [modality.lower() for modality in modalities]
    for challenge in family:
        layout = _layout(challenge)
        if sorted(names) == sorted(layout.modalities):
            if layout.keeps_order:
                return DatasetFormat(challenge, modalities, partial(_split, tuple(range(len(names)))))
            order = tuple(names.index(modality) for modality in layout.modalities)
            return DatasetFormat(challenge, challenge.channels, partial(_split, order))
    known = (f"{_layout(each).folder} ({', '.join(_layout(each).modalities)})" for each in family)
    raise InputError(
        f"the modalities of {' or '.join(known)}",
        ", ".join(modalities),
        where=source / "dataset.json",
        remedy="convert other tasks with nnUNetv2_convert_MSD_dataset",
    )


def _split(order: tuple[int, ...], case: Case, folder: Path) -> Case:
    """Let nnU-Net's converter write a case's channels to a folder, and return them in the order of the channels."""
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
