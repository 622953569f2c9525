"""Converts one case: reads its images and label, compares them, and writes them into an nnU-Net raw dataset."""

import gzip
import re
import shutil
import tempfile
from pathlib import Path

import SimpleITK as sitk

from nnunetv2_gsp.datasets.labels import relabel, whole_labels
from nnunetv2_gsp.datasets.source import Case, DatasetFormat
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.files import whole
from nnunetv2_gsp.images import check_same_geometry, read_image, write_image


def convert_case(dataset_format: DatasetFormat, dataset: Path, scratch: Path, case: Case) -> list[str]:
    """Write a case's images and label into a dataset, after all of them have been read and compared.

    Images that come in the dataset's own format keep every byte, `.nii` is compressed, the rest is read and written;
    labels go through the challenge's table.

    Args:
        dataset_format: channels, labels and file ending of the dataset.
        dataset: folder of the dataset; imagesTr, labelsTr and so on are created where they are missing.
        scratch: folder for temporary files, which are removed at the end.
        case: the case with its files in the source.

    Returns:
        Sentences on what was taken though it is not exact, for the user.

    Raises:
        InputError: a file is missing or damaged, has another geometry than the first image, NaN, or an unknown label.
        OSError: a file can't be written.
    """
    if dataset_format.split is None:
        return _convert_3d_case(dataset_format, dataset, case)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        try:
            return _convert_3d_case(dataset_format, dataset, dataset_format.split(case, Path(folder)))
        except InputError as error:
            raise _of_the_source(error, Path(folder), case) from error


def _of_the_source(error: InputError, folder: Path, case: Case) -> InputError:
    """Return an error on a temporary file as one on the 4D image that the file is a channel of."""
    text = re.compile(rf"{re.escape(str(folder))}/\S*_(\d{{4}})\.nii\.gz")
    channels = text.findall(str(error.where))
    where = f"{case.images[0]}, channel {int(channels[0])}" if channels else error.where
    expected = text.sub(lambda found: f"{case.images[0]}, channel {int(found[1])}", error.expected)
    return InputError(expected, error.got, where=where, remedy=error.remedy, parameters=error.parameters)


def _convert_3d_case(dataset_format: DatasetFormat, dataset: Path, case: Case) -> list[str]:
    ending = dataset_format.challenge.file_ending
    images, notes = _read_images(case)
    label, label_notes = _read_label(case.label, images[0], case, dataset_format) if case.label else (None, [])
    for number, (image, file) in enumerate(zip(images, case.images, strict=True)):
        _write_image(image, file, dataset / f"images{case.part}" / f"{case.name}_{number:04d}{ending}")
    if label is not None:
        _write(label, dataset / f"labels{case.part}" / f"{case.name}{ending}")
    return notes + label_notes


def _read_images(case: Case) -> tuple[list[sitk.Image], list[str]]:
    images = [read_image(file) for file in case.images]
    notes = [
        check_same_geometry(image, file, images[0], case.images[0])
        for image, file in zip(images, case.images, strict=True)
    ]
    return images, [note for note in notes if note]


def _read_label(
    file: Path, image: sitk.Image, case: Case, dataset_format: DatasetFormat
) -> tuple[sitk.Image, list[str]]:
    """Return the segmentation with nnU-Net's labels and the geometry of its image, and notes on it."""
    label = read_image(file)
    moved = check_same_geometry(label, file, image, case.images[0])
    whole, scaled = whole_labels(sitk.GetArrayFromImage(label))
    converted = sitk.GetImageFromArray(relabel(whole, dataset_format.challenge.labels, file))
    converted.CopyInformation(image)  # nnU-Net warns of differences far below the tolerance
    return converted, [*([moved] if moved else []), *([f"{file}: {scaled}."] if scaled else [])]


def _write_image(image: sitk.Image, source: Path, target: Path) -> None:
    compressed = target.name.endswith(".nii.gz")
    if compressed and source.name.endswith(".nii.gz"):
        _copy(source, target)
    elif compressed and source.name.endswith(".nii"):
        _compress(source, target)
    else:
        _write(image, target)


def _copy(source: Path, target: Path) -> None:
    with whole(target) as unfinished:
        shutil.copyfile(source, unfinished)


def _compress(source: Path, target: Path) -> None:
    with (
        whole(target) as unfinished,
        source.open("rb") as plain,
        unfinished.open("wb") as packed,
        gzip.GzipFile("", "wb", 6, packed, mtime=0) as compressed,
    ):  # without a name or time, the same bytes again
        shutil.copyfileobj(plain, compressed)


def _write(image: sitk.Image, target: Path) -> None:
    with whole(target) as unfinished:
        write_image(image, unfinished, compressed=True)
