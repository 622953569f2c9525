"""Converts one case: reads its images and label, compares them, and writes them into an nnU-Net raw dataset."""

import gzip
import shutil
import tempfile
from pathlib import Path

import SimpleITK as sitk

from nnunetv2_gsp.datasets.labels import LABEL_MAPPINGS, relabel
from nnunetv2_gsp.datasets.source import Case, DatasetFormat
from nnunetv2_gsp.files import whole
from nnunetv2_gsp.images import check_same_geometry, read_image, write_image


def convert_case(dataset_format: DatasetFormat, dataset: Path, scratch: Path, case: Case) -> None:
    """Write a case's images and label into a dataset, after all of them have been read and compared.

    Images that come in the dataset's own format keep every byte, `.nii` is compressed, the rest is read and written;
    labels go through the edition's table.

    Args:
        dataset_format: channels, labels and file ending of the dataset.
        dataset: folder of the dataset; imagesTr, labelsTr and so on are created where they are missing.
        scratch: folder for temporary files, which are removed at the end.
        case: the case with its files in the source.

    Raises:
        InputError: a file is missing or damaged, has another geometry than the first image, or an unknown label.
        OSError: a file can't be written.
    """
    if dataset_format.split is None:
        _convert_3d_case(dataset_format, dataset, case)
        return
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        _convert_3d_case(dataset_format, dataset, dataset_format.split(case, Path(folder)))


def _convert_3d_case(dataset_format: DatasetFormat, dataset: Path, case: Case) -> None:
    images = _read_images(case)
    label = _read_label(case.label, images[0], case, dataset_format) if case.label else None
    for number, (image, file) in enumerate(zip(images, case.images, strict=True)):
        name = f"{case.name}_{number:04d}{dataset_format.file_ending}"
        _write_image(image, file, dataset / f"images{case.part}" / name)
    if label is not None:
        _write(label, dataset / f"labels{case.part}" / f"{case.name}{dataset_format.file_ending}")


def _read_images(case: Case) -> list[sitk.Image]:
    images = [read_image(file) for file in case.images]
    for image, file in zip(images, case.images, strict=True):
        check_same_geometry(image, file, images[0], case.images[0])
    return images


def _read_label(file: Path, image: sitk.Image, case: Case, dataset_format: DatasetFormat) -> sitk.Image:
    """Return the segmentation with nnU-Net's labels and the geometry of its image."""
    label = read_image(file)
    check_same_geometry(label, file, image, case.images[0])
    mapping = LABEL_MAPPINGS[dataset_format.edition]
    converted = sitk.GetImageFromArray(relabel(sitk.GetArrayFromImage(label), mapping, file))
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
