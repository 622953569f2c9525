"""Reads and writes medical images, and refuses those that are truncated, damaged or of another geometry."""

import gzip
import math
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import SimpleITK as sitk

from nnunetv2_gsp.errors import ConflictingInputError, DamagedFileError, InputError, MissingInputError

TOLERANCE = 1e-3  # mm, or of a direction's cosine: headers hold float32, and .nii.gz alone is off by 3e-6
_ORIGIN_TOLERANCE = 1e-3  # of a voxel
NIFTI = (".nii.gz", ".nii")
_HEADERS, _VOXELS = (".mhd", ".nhdr"), (".raw", ".zraw", ".raw.gz", ".img", ".img.gz")
_MOST_OF_A_BYTE = 1032  # that gzip makes of one


def is_nifti(file: Path) -> bool:
    """Tell by its ending, in any case, whether a file is a NIfTI image.

    Examples:
        >>> [is_nifti(Path(name)) for name in ("case.NII.GZ", "case.mha")]
        [True, False]
    """
    return file.name.lower().endswith(NIFTI)


def read_image(file: Path, *, must_be_finite: bool = True) -> sitk.Image:
    """Read a 3D image of one channel.

    Args:
        file: image file in any format that SimpleITK reads.
        must_be_finite: False takes NaN and infinity as SimpleITK reads them: as 0 from NIfTI files.

    Raises:
        MissingInputError: the file does not exist.
        DamagedFileError: it is truncated or damaged.
        InputError: it has another number of axes or channels, or voxels that have to be finite numbers and are not.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_image(sitk.Image([4, 5, 6], sitk.sitkInt16), Path(folder, "image.mha"), compressed=True)
        ...     read_image(Path(folder, "image.mha")).GetSize()
        (4, 5, 6)
    """
    image = read_whole(file)
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(
            "a 3D image of one channel",
            f"{image.GetDimension()}D with {image.GetNumberOfComponentsPerPixel()} channels",
            where=file,
        )
    if must_be_finite and not _is_finite(image, file):
        raise InputError(
            "finite numbers in every voxel", "NaN or infinity", where=file, remedy="give those voxels a value"
        )
    return image


def _is_finite(image: sitk.Image, file: Path) -> bool:
    if image.GetPixelID() not in (sitk.sitkFloat32, sitk.sitkFloat64):
        return True
    return nifti_is_finite(file) if is_nifti(file) else bool(np.isfinite(sitk.GetArrayViewFromImage(image)).all())


def read_whole(file: Path) -> sitk.Image:
    """Read an image of any dimension and number of channels, and refuse one that ends before its last voxel.

    Args:
        file: image file in any format that SimpleITK reads.

    Raises:
        MissingInputError: the file does not exist.
        DamagedFileError: it is truncated or damaged.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = Path(folder, "image.nii.gz").write_bytes(gzip.compress(bytes(100)))
        ...     read_whole(Path(folder, "image.nii.gz"))
        Traceback (most recent call last):
            ...
        nnunetv2_gsp.errors.DamagedFileError: ...image.nii.gz: expected a whole image, got one that...
    """
    with _refusing(file):
        if is_nifti(file):
            _header(file)
        return sitk.ReadImage(file)


def nifti_is_finite(file: Path) -> bool:
    """Tell whether a NIfTI image is free of NaN and infinity, which ITK would read as 0.

    Args:
        file: NIfTI image, `.nii` or `.nii.gz`.

    Raises:
        MissingInputError: the file does not exist.
        DamagedFileError: it cannot be read.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder, "image.nii.gz")
        ...     write_image(sitk.GetImageFromArray(np.full((2, 2, 2), np.nan)), file, compressed=True)
        ...     nifti_is_finite(file)
        False
    """
    import nibabel

    with _refusing(file):
        image: Any = nibabel.load(file)  # the header alone, until the voxels are asked for
        if image.get_data_dtype().kind not in "fc":
            return True
        return bool(np.isfinite(np.asanyarray(image.dataobj)).all())


def nifti_shape(file: Path, *, reads_to_its_end: bool = True) -> tuple[int, ...]:
    """Return the shape of a NIfTI image, (X, Y, Z) or (X, Y, Z, channels).

    Args:
        file: NIfTI image, `.nii` or `.nii.gz`.
        reads_to_its_end: False believes the header, unless the file is too small for what it says.

    Raises:
        MissingInputError: the file does not exist.
        DamagedFileError: it is truncated or damaged.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_image(sitk.Image([4, 5, 6], sitk.sitkInt16), Path(folder, "image.nii.gz"), compressed=True)
        ...     nifti_shape(Path(folder, "image.nii.gz"))
        (4, 5, 6)
    """
    with _refusing(file):
        return tuple(map(int, _header(file, reads_to_its_end).get_data_shape()))


def check_same_geometry(image: sitk.Image, file: Path, reference: sitk.Image, reference_file: Path) -> str:
    """Check that two images have the same size, origin, and up to `TOLERANCE` the same spacing and direction.

    Origins may differ by a thousandth of a voxel.

    Args:
        image: image whose geometry is checked.
        file: file that the image was read from, for the error.
        reference: image that has the expected geometry.
        reference_file: file that the reference was read from, for the error.

    Returns:
        A sentence on origins that differ by more than a header's rounding, or "".

    Raises:
        ConflictingInputError: the geometries differ.

    Examples:
        >>> image, other = (sitk.Image([4, 5, n_slices], sitk.sitkUInt8) for n_slices in (6, 7))
        >>> check_same_geometry(other, Path("other.mha"), image, Path("image.mha"))
        Traceback (most recent call last):
        ...
        nnunetv2_gsp.errors.ConflictingInputError: other.mha: expected the size (4, 5, 6) of image.mha, got (4, 5, 7)...
    """
    tolerances = {
        "Size": 0.0,
        "Spacing": TOLERANCE,
        "Origin": _ORIGIN_TOLERANCE * np.array(reference.GetSpacing()),
        "Direction": TOLERANCE,
    }
    for what, tolerance in tolerances.items():
        found, expected = (np.array(getattr(each, f"Get{what}")()) for each in (image, reference))
        if len(found) != len(expected) or (np.abs(found - expected) > tolerance).any():
            raise ConflictingInputError(
                f"the {what.lower()} {_numbers(expected)} of {reference_file}",
                _numbers(found),
                where=file,
                remedy="resample one of them, or give files that belong together",
            )
    return _note_on_origins(image.GetOrigin(), file, reference.GetOrigin(), reference_file)


def _note_on_origins(found: tuple[float, ...], file: Path, expected: tuple[float, ...], reference_file: Path) -> str:
    rounding = np.maximum(np.abs(expected), 1) * 1e-6  # of float32
    if (np.abs(np.array(found) - expected) <= rounding).all():
        return ""
    return (
        f"{file} is taken to lie where {reference_file} does: its origin {_numbers(found)} is off {_numbers(expected)} "
        f"by less than a thousandth of a voxel."
    )


def write_image(image: sitk.Image, file: Path, *, compressed: bool) -> None:
    """Write an image in the format that the ending of the file's name tells.

    Args:
        image: image of a voxel type that the format supports.
        file: file to write; an existing one is replaced.
        compressed: True compresses the voxels, where the format leaves the choice.

    Raises:
        OSError: the file can't be written, for instance to a full disk. The case is not at fault, so it is not skipped.
    """
    try:
        sitk.WriteImage(image, file, useCompression=compressed)
    except RuntimeError as error:  # ITK raises no other type, whatever happened
        raise OSError(
            f"{file}: expected to write an image, got an error, most likely for want of space or permission; "
            f"free some space and run again."
        ) from error


def parts_of(file: Path) -> list[Path]:
    """Return an image's file, and those beside its header that may hold the voxels.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     for name in ("case.mhd", "case.raw", "case.json"):
        ...         Path(folder, name).touch()
        ...     [part.name for part in parts_of(Path(folder, "case.mhd"))]
        ['case.mhd', 'case.raw']
    """
    if file.suffix.lower() not in _HEADERS:
        return [file]
    return [file, *(part for ending in _VOXELS if (part := file.with_suffix(ending)).is_file())]


def visible_files(folder: Path, pattern: str) -> list[Path]:
    """Return the files of a folder that match a pattern, sorted by name, without hidden files of the system.

    macOS leaves `._name` beside an image; nnU-Net's converter skips `_name`, too.

    Args:
        folder: folder that is searched, without its subfolders.
        pattern: pattern of file names, such as `*.nii.gz`.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     for name in ("case_1.nii.gz", "._case_1.nii.gz"):
        ...         Path(folder, name).touch()
        ...     [file.name for file in visible_files(Path(folder), "*.nii.gz")]
        ['case_1.nii.gz']
    """
    return sorted(file for file in folder.glob(pattern) if file.is_file() and not file.name.startswith((".", "_")))


@contextmanager
def _refusing(file: Path) -> Iterator[None]:
    """Turn any error of a library that reads the file into a MissingInputError or DamagedFileError."""
    if not file.is_file():
        raise MissingInputError("an image", "no such file", where=file)
    try:
        yield
    except Exception as error:  # a damaged file fails anywhere in the libraries that read it
        got, remedy = _reason(error, file)
        raise DamagedFileError("a whole image", got, where=file, remedy=remedy) from error


def _header(file: Path, reads_to_its_end: bool = True) -> Any:
    """Return the header of a NIfTI image; raise an error if it ends before its last voxel.

    ITK would silently read missing voxels as zeros.
    """
    import nibabel

    is_compressed = file.suffix.lower() == ".gz"
    opened: Any = gzip.open if is_compressed else open
    with opened(file, "rb") as stream:
        is_nifti2 = stream.read(4) == (540).to_bytes(4, "little")  # bytes of its header
        stream.seek(0)
        header = (nibabel.nifti2.Nifti2Header if is_nifti2 else nibabel.Nifti1Header).from_fileobj(stream)
        shape = map(int, header.get_data_shape())
        expected = int(header["vox_offset"]) + header.get_data_dtype().itemsize * math.prod(shape)
        if reads_to_its_end:
            found = stream.tell() + _n_bytes(stream)  # to its end, where gzip keeps the checksum
        else:
            found = file.stat().st_size * (_MOST_OF_A_BYTE if is_compressed else 1)
    if found < expected:
        raise EOFError(f"{found} of {expected} bytes")
    return header


def _n_bytes(stream: IO[bytes]) -> int:
    total = 0
    while block := stream.read(1 << 20):
        total += len(block)
    return total


def _reason(error: Exception, file: Path) -> tuple[str, str]:
    """Return a library's error in a few words, and what mends it."""
    if isinstance(error, (EOFError, zlib.error, gzip.BadGzipFile)):
        return f"one that is cut off or damaged ({error})", "get it again"
    if voxels := _missing_voxels(file):
        return f"a header whose voxels, {voxels}, are not there", f"put {voxels} beside it"
    said = _in_itks_words(error)
    if "orthonormal" in said:
        return f"one that SimpleITK refuses ({said})", "give it a qform or sform whose axes are at right angles"
    return f"one that cannot be read ({said or type(error).__name__})", "get it again, or mend its header"


def _missing_voxels(header: Path) -> str | None:
    """Return the name of the file that a MetaImage header keeps its voxels in, if it is not there."""
    if header.suffix.lower() != ".mhd":
        return None
    found = re.search(rb"^ElementDataFile\s*=\s*(\S[^\r\n]*)", header.read_bytes()[:100_000], re.MULTILINE)
    name = found[1].decode(errors="replace").strip() if found else "LOCAL"
    return None if name in ("LOCAL", "LIST") or "%" in name or (header.parent / name).is_file() else name


def _in_itks_words(error: Exception) -> str:
    """Return what ITK says went wrong, without where in its source."""
    found = re.search(r"ERROR: (?:\w+\(0x[0-9a-f]+\): )?(.*)", str(error), re.DOTALL)
    return " ".join(found[1].split()).rstrip(".!") if found else ""


def _numbers(values: Iterable[float]) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in values) + ")"
