"""Reads and writes medical images, and says in a sentence where one is not whole or lies elsewhere."""
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import SimpleITK as sitk

from nnunetv2_gsp.errors import InputError

TOLERANCE = 1e-3  # mm, or of a direction's cosine: headers hold float32, and .nii.gz alone is off by 3e-6
NIFTI = (".nii.gz", ".nii")


def read_image(file: Path) -> sitk.Image:
    """Read a 3D image of one channel.

    Raises:
        InputError: it is missing, cut off, damaged, or of another kind.
    """
    image = read_whole(file)
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"Expected a 3D image of one channel in {file}, found {image.GetDimension()}D with "
                         f"{image.GetNumberOfComponentsPerPixel()} channels.")
    return image


def read_whole(file: Path) -> sitk.Image:
    """Read an image of any dimension and number of channels.

    Raises:
        InputError: it is missing, cut off, or damaged.
    """
    with _refusing(file):
        if file.name.endswith(NIFTI):
            _whole_header(file)
        return sitk.ReadImage(file)


def nifti_is_finite(file: Path) -> bool:
    """Tell whether a whole NIfTI image is free of NaN and infinity, which ITK would read as 0.

    Raises:
        InputError: it is missing, or can not be read.
    """
    import nibabel

    with _refusing(file):
        image = nibabel.Nifti1Image.from_filename(file)  # the header alone, until the voxels are asked for
        if image.get_data_dtype().kind not in "fc":
            return True
        return bool(np.isfinite(np.asanyarray(image.dataobj)).all())


def nifti_shape(file: Path) -> tuple[int, ...]:
    """Return the shape of a NIfTI image, (X, Y, Z) or (X, Y, Z, channels).

    Raises:
        InputError: it is missing, cut off, or damaged.
    """
    with _refusing(file):
        return tuple(map(int, _whole_header(file).get_data_shape()))


def check_same_geometry(image: sitk.Image, file: Path, reference: sitk.Image, reference_file: Path) -> None:
    """Raise InputError unless both have one size and, up to `TOLERANCE`, one spacing, origin and direction."""
    for what in ("Size", "Spacing", "Origin", "Direction"):
        found, expected = (getattr(each, f"Get{what}")() for each in (image, reference))
        if len(found) != len(expected) or not np.allclose(found, expected, rtol=0, atol=TOLERANCE):
            raise InputError(f"Expected {file} to have the {what.lower()} {_numbers(expected)} of {reference_file}, "
                             f"found {_numbers(found)}; resample one of them, or give files that belong together.")


def write_image(image: sitk.Image, file: Path, *, compressed: bool) -> None:
    """Write an image in the format that the file's name ends in.

    Raises:
        OSError: the disk is full, for instance. It is no fault of the case that is written, so it skips none.
    """
    try:
        sitk.WriteImage(image, file, useCompression=compressed)
    except RuntimeError as error:  # all that ITK has for whatever happened
        raise OSError(f"Expected room and permission to write {file}, found that it can't be written; free some space "
                      f"and run again.") from error


def is_hidden(file: Path) -> bool:
    """Tell whether a system left the file behind, as macOS does with `._name`; nnU-Net's converter skips `_name`."""
    return file.name.startswith((".", "_"))


@contextmanager
def _refusing(file: Path) -> Iterator[None]:
    if not file.is_file():
        raise InputError(f"Expected an image {file}, found no such file.")
    try:
        yield
    except Exception as error:  # a damaged file fails anywhere in the libraries that read it
        raise InputError(f"Expected a whole image in {file}, found {_reason(error)}; get it again.") from error


def _whole_header(file: Path) -> Any:
    """Return the header of a NIfTI image; raise an error if it ends before its last voxel.

    ITK would read what is missing as zeros, without a word.
    """
    import nibabel

    opened: Any = gzip.open if file.name.endswith(".gz") else open
    with opened(file, "rb") as stream:
        header = nibabel.Nifti1Header.from_fileobj(stream)
        found = stream.tell() + _n_bytes(stream)  # to its end, where gzip keeps the checksum
    expected = int(header["vox_offset"]) + header.get_data_dtype().itemsize * int(np.prod(header.get_data_shape()))
    if found < expected:
        raise EOFError(f"{found} of {expected} bytes")
    return header


def _n_bytes(stream: IO[bytes]) -> int:
    total = 0
    while block := stream.read(1 << 20):
        total += len(block)
    return total


def _reason(error: Exception) -> str:
    """Say in a few words what a library says in many lines, or in none."""
    if isinstance(error, (EOFError, zlib.error, gzip.BadGzipFile)):
        return f"one that is cut off or damaged ({error})"
    return f"one that can not be read ({type(error).__name__})"


def _numbers(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in values) + ")"
