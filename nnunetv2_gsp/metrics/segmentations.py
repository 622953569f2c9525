"""Reads a segmentation from its file: the label of every voxel, and the image geometry."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nnunetv2_gsp.errors import ConflictingInputError, DamagedFileError, InputError
from nnunetv2_gsp.metrics.label_conventions import check_not_raw
from nnunetv2_gsp.metrics.overlap import Mask
from nnunetv2_gsp.metrics.region_labels import RegionLabels

LabelMap = npt.NDArray[np.integer[Any]]
_SitkImage = Any  # its methods have no types
_TIFF = (".tif", ".tiff")


@dataclass(frozen=True)
class Segmentation:
    """Labels and geometry of a segmentation, as its file holds them.

    Attributes:
        labels: integers (D, H, W) or (H, W).
        spacing_mm: edge of a voxel along each axis of `labels`, in their order.
        direction: float64 (3, 3) or (2, 2), direction cosines in SimpleITK's order of axes.
        origin_mm: float64 (3,) or (2,), position of the first voxel in SimpleITK's order of axes.
    """

    labels: LabelMap
    spacing_mm: tuple[float, ...]
    direction: npt.NDArray[np.float64]
    origin_mm: npt.NDArray[np.float64]


def read_segmentation(file: Path) -> Segmentation:
    """Read a segmentation from a file.

    Args:
        file: image of whole numbers in any format that SimpleITK reads.

    Raises:
        InputError: it is missing, truncated or damaged, neither 2D nor 3D, or holds values that are not whole numbers.

    Examples:
        >>> import SimpleITK as sitk
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     sitk.WriteImage(sitk.Image([6, 5, 4], sitk.sitkUInt8), f"{folder}/case.nii.gz")
        ...     read_segmentation(Path(folder, "case.nii.gz")).labels.shape
        (4, 5, 6)
    """
    return _as_segmentation(_read(file), file)


def read_pair(reference_file: Path, prediction_file: Path, labels: RegionLabels) -> tuple[Segmentation, Segmentation]:
    """Read a reference and its prediction, and check that they fit together.

    Args:
        reference_file: file of the reference segmentation of a case.
        prediction_file: file of the predicted segmentation of that case, on the same grid of voxels.
        labels: the labels that may occur, and the one to ignore.

    Raises:
        InputError: a file can't be read, their geometries differ, or there is an unknown label.
    """
    from nnunetv2_gsp.images import check_same_geometry

    files = reference_file, prediction_file
    images = {file: _read(file) for file in files}
    for file, other in (files, files[::-1]):
        if _is_volume_in_tiff(images[file], file) and not file.with_suffix(".json").is_file():
            images[file].SetSpacing(images[other].GetSpacing())  # nnU-Net's gt_segmentations are without theirs
    check_same_geometry(images[prediction_file], prediction_file, images[reference_file], reference_file)
    read = {file: _as_segmentation(image, file) for file, image in images.items()}
    for file, segmentation in read.items():
        _check_labels(segmentation, labels, file)
    return read[reference_file], read[prediction_file]


def labels_in(segmentation: LabelMap) -> set[int]:
    """Return the set of labels that occur in a segmentation.

    Args:
        segmentation: array of integer labels, any shape.

    Examples:
        >>> labels_in(np.array([[0, 3], [3, 7]]))
        {0, 3, 7}
    """
    if segmentation.size and segmentation.min() >= 0 and segmentation.max() < 2**16:
        return set(np.flatnonzero(np.bincount(segmentation.ravel().astype(np.int64))).tolist())
    return set(np.unique(segmentation).tolist())


def mask_of(labels: LabelMap, region: Sequence[int]) -> Mask:
    """Return where a segmentation has one of a region's labels, as bool of the same shape.

    Args:
        labels: integers, any shape.
        region: one label or more.

    Examples:
        >>> mask_of(np.array([0, 1, 2, 3]), [1, 3]).tolist()
        [False, True, False, True]
    """
    mask: Mask = labels == region[0]
    for label in region[1:]:
        mask |= labels == label
    return mask


def _check_labels(segmentation: Segmentation, labels: RegionLabels, file: Path) -> None:
    if labels.known_labels is None:
        return
    found = labels_in(segmentation.labels)
    check_not_raw(found, labels.known_labels, file)
    unknown = sorted(found - labels.known_labels)
    if unknown:
        raise ConflictingInputError(
            f"labels among {sorted(labels.known_labels)} ({labels.source})",
            str(unknown),
            where=file,
            remedy="check that the file belongs to this dataset",
            parameters=labels.chosen_by,
        )


def _read(file: Path) -> _SitkImage:
    from nnunetv2_gsp.images import is_nifti, nifti_is_finite, read_whole

    image: _SitkImage = read_whole(file)
    if image.GetDimension() not in (2, 3) or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(
            "a 2D or 3D segmentation of one channel",
            f"{image.GetDimension()}D with {image.GetNumberOfComponentsPerPixel()} channels",
            where=file,
            remedy="convert it",
        )
    if is_nifti(file) and not nifti_is_finite(file):
        raise _not_whole_numbers(file)
    if _is_volume_in_tiff(image, file):
        image.SetSpacing(_tiff_spacing_mm(file)[::-1])
    return image


def _is_volume_in_tiff(image: _SitkImage, file: Path) -> bool:
    return file.suffix.lower() in _TIFF and image.GetDimension() == 3


def _tiff_spacing_mm(file: Path) -> tuple[float, float, float]:
    """Return the spacing (D, H, W) of a TIFF, which nnU-Net keeps in a file beside it; without one it is 1."""
    beside = file.with_suffix(".json")
    if not beside.is_file():
        return 1.0, 1.0, 1.0
    try:
        d, h, w = map(float, json.loads(beside.read_text(encoding="utf-8"))["spacing"])
        if min(d, h, w) <= 0:
            raise ValueError("a spacing is above 0")
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedFileError("a spacing of three axes, as nnU-Net keeps it", "another one", where=beside) from error
    return d, h, w


def _as_segmentation(image: _SitkImage, file: Path) -> Segmentation:
    import SimpleITK as sitk

    array, axes = sitk.GetArrayFromImage(image), image.GetDimension()
    if not np.issubdtype(array.dtype, np.integer):
        if not np.array_equal(array, np.rint(array)) or not np.isfinite(array).all():
            raise _not_whole_numbers(file)
        array = array.astype(np.int64)
    return Segmentation(
        array, image.GetSpacing()[::-1], np.array(image.GetDirection()).reshape(axes, axes), np.array(image.GetOrigin())
    )


def _not_whole_numbers(file: Path) -> InputError:
    return InputError(
        "whole numbers for labels", "others", where=file, remedy="give segmentations, not probabilities or images"
    )
