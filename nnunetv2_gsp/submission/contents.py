"""Checks the files of a case in an archive: that they are complete, and have the right type, geometry and labels."""

import gzip
import io
import math
import tempfile
import zipfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import SimpleITK as sitk

from nnunetv2_gsp.challenges.challenge import Challenge, Place
from nnunetv2_gsp.datasets.labels import check_labels
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.images import TOLERANCE, read_image
from nnunetv2_gsp.submission.rules import Rules
from nnunetv2_gsp.wording import times

_HEADER_BYTES = 1_000_000  # with NIfTI's extensions
_MOST_VOXELS = 512 * 512 * 512  # of a case whose size neither its image nor the edition tells


@dataclass(frozen=True)
class ArchiveEntry:
    """A file in the archive whose name is a case's.

    Attributes:
        number: index in the archive, from 0 on, since names may repeat.
        name: name of the file in the archive.
        image: file of the case's image; None where it is not known.
    """

    number: int
    name: str
    image: Path | None


@dataclass
class Findings:
    """What was found in the file of a case.

    Attributes:
        violations: a sentence for each rule that it breaks.
        notes: sentences on what the challenge takes, but hardly anybody means.
    """

    violations: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check_content(archive: Path, rules: Rules, entry: ArchiveEntry) -> Findings:
    """Read the file of a case and compare it with the rules.

    Args:
        archive: zip file, written by any program.
        rules: rules of the challenge that the file is checked against.
        entry: the case's file in the archive.
    """
    found = Findings()
    check = _check_meta_image if rules.archive.ending == ".mhd" else _check_nifti
    try:
        with zipfile.ZipFile(archive) as opened:
            check(opened, rules, entry, found)
    except InputError as error:
        return Findings([error.told()])
    except Exception as error:  # a stranger's file may fail in any way
        return Findings(
            [f"Expected a whole image in {entry.name!r}, got one that cannot be read ({type(error).__name__})."]
        )
    return found


def raw_name(header_name: str) -> str:
    """Return the name of the file of voxels that belongs to a MetaImage header.

    Args:
        header_name: name of the header's file, which ends in `.mhd`.

    Examples:
        >>> raw_name("Case00_segmentation.mhd")
        'Case00_segmentation.raw'
    """
    return f"{header_name.removesuffix('.mhd')}.raw"


def _check_nifti(archive: zipfile.ZipFile, rules: Rules, entry: ArchiveEntry, found: Findings) -> None:
    import nibabel

    expected: Any = nibabel.load(entry.image).header if entry.image else None
    sizes = (tuple(expected.get_data_shape()),) if expected is not None else rules.of.sizes
    most_voxels = max(map(math.prod, sizes), default=_MOST_VOXELS)
    content = _read_packed(archive, entry, _HEADER_BYTES + 8 * most_voxels)  # voxels of 8 bytes at most
    header: Any = nibabel.Nifti1Header.from_fileobj(io.BytesIO(content))  # an image's own forgets slope and intercept
    if sizes and tuple(header.get_data_shape()) not in sizes:
        wanted = " or ".join(map(times, sizes))
        found.violations.append(f"Expected {wanted} voxels in {entry.name!r}, got {times(header.get_data_shape())}.")
        return
    voxels = np.asanyarray(nibabel.Nifti1Image.from_bytes(content).dataobj)
    _check_type(header, rules, entry, found)
    _check_place(header, expected, rules, entry, found)
    found.violations += _label_violations(voxels, rules, entry)


def _check_type(header: Any, rules: Rules, entry: ArchiveEntry, found: Findings) -> None:
    if header.get_data_dtype().kind in "iu" and header.get_slope_inter() in ((None, None), (1, 0)):
        return
    dtype, scale = header.get_data_dtype(), header.get_slope_inter()
    if rules.archive.lenient:
        found.notes.append(f"{entry.name!r} holds {dtype} (slope and intercept {scale}), taken where labels are whole.")
    else:
        found.violations.append(
            f"Expected unscaled integers in {entry.name!r}, got {dtype} with slope and intercept {scale}."
        )


def _check_place(header: Any, expected: Any, rules: Rules, entry: ArchiveEntry, found: Findings) -> None:
    """Compare where a file lies with its image, or without one, with where all images of the edition lie."""
    affine = expected.get_best_affine() if expected is not None else _edition_affine(rules.of)
    if affine is None:
        return
    complaint, place = "", rules.archive.place
    whose = "its image does" if expected is not None else f"all of {rules.challenge} do"
    if not np.allclose(header.get_best_affine(), affine, rtol=0, atol=TOLERANCE):
        complaint = (
            f"{entry.name!r} to lie where {whose}, with the affine {_rows(affine)}, got "
            f"{_rows(header.get_best_affine())}"
        )
    qform = expected.get_qform() if expected is not None else affine
    if place is Place.EXACT and not complaint and not np.array_equal(header.get_qform(), qform):
        complaint = (
            f"{entry.name!r} to have exactly the qform of {'its image' if expected is not None else rules.challenge}, "
            f"{_rows(qform)}, got {_rows(header.get_qform())}"
        )
    if complaint and place is Place.ANYWHERE:
        found.notes.append(f"The challenge does not look where files lie, but expected is {complaint}.")
    elif complaint:
        found.violations.append(f"Expected {complaint}.")


def _edition_affine(challenge: Challenge) -> np.ndarray | None:
    """Return the affine of NIfTI files with the origin of all images of a challenge; ITK turns x and y around."""
    if challenge.origin is None:
        return None
    x, y, z = challenge.origin
    return np.array([[-1, 0, 0, 0 - x], [0, -1, 0, 0 - y], [0, 0, 1, z], [0, 0, 0, 1]])


def _check_meta_image(archive: zipfile.ZipFile, rules: Rules, entry: ArchiveEntry, found: Findings) -> None:
    found.violations += _meta_image_violations(archive, rules, entry)


def _meta_image_violations(archive: zipfile.ZipFile, rules: Rules, entry: ArchiveEntry) -> list[str]:
    with archive.open(_bounded(archive, entry, _HEADER_BYTES)) as stream:
        header = _read(stream, _HEADER_BYTES, entry.name)
    fields, raw = _fields(header), raw_name(entry.name)
    if complaint := _header_complaint(fields, raw):
        return [
            (
                f"Expected a header of uncompressed uint8 voxels in {raw!r} in {entry.name!r}, each of its fields "
                f"once, got {complaint}."
            )
        ]
    if raw not in archive.namelist():
        return [f"Expected {raw!r} beside {entry.name!r}, got none."]
    image = read_image(entry.image, must_be_finite=False) if entry.image else None
    size = tuple(int(length) for length in fields["DimSize"][0].split())
    if violations := _size_violations(size, image, entry):
        return violations
    with archive.open(raw) as stream:
        voxels = _read(stream, min(math.prod(size), _MOST_VOXELS), raw)
    if len(voxels) != math.prod(size):  # ITK would set memory aside for as many as the header says
        return [f"Expected {math.prod(size)} bytes in {raw!r}, got {len(voxels)}."]
    submitted = _read_meta_image(entry.name, header, voxels)
    return [
        *(_geometry_violations(submitted, image, entry) if image is not None else []),
        *_label_violations(sitk.GetArrayViewFromImage(submitted), rules, entry),
    ]


def _header_complaint(fields: dict[str, list[str]], raw: str) -> str:
    """Name the header's fields that do not describe plain voxels in the file beside it; "" if there is none."""
    asked = {"NDims": "3", "ElementType": "MET_UCHAR", "CompressedData": "False", "ElementDataFile": raw}
    # without a CompressedData, voxels are uncompressed; nothing else goes without saying
    wrong = {name for name, value in asked.items() if fields.get(name, ["False"]) != [value]}
    repeated = {name for name, values in fields.items() if len(values) > 1}
    return ", ".join(f"{name} = {' and '.join(fields.get(name, ['nothing']))!r}" for name in sorted(wrong | repeated))


def _size_violations(size: tuple[int, ...], image: sitk.Image | None, entry: ArchiveEntry) -> list[str]:
    if image is not None and size != image.GetSize():
        return [f"Expected {times(image.GetSize())} voxels in {entry.name!r}, got {times(size)}."]
    if min(size) < 1:  # which ITK reads without complaint
        return [f"Expected at least one voxel along each axis in {entry.name!r}, got {times(size)}."]
    return []


def _geometry_violations(submitted: sitk.Image, image: sitk.Image, entry: ArchiveEntry) -> list[str]:
    pairs = {
        what: (getattr(submitted, f"Get{what}")(), getattr(image, f"Get{what}")())
        for what in ("Spacing", "Origin", "Direction")
    }
    return [
        f"Expected the {what.lower()} {expected} of its image in {entry.name!r}, got {found}."
        for what, (found, expected) in pairs.items()
        if not np.allclose(found, expected, rtol=0, atol=TOLERANCE)
    ]


def _read_meta_image(name: str, header: bytes, voxels: bytes) -> sitk.Image:
    """Read an image, in a folder of its own, whose header was checked to point only to the `.raw` of its name."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, name).write_bytes(header)
        Path(folder, raw_name(name)).write_bytes(voxels)
        return sitk.ReadImage(Path(folder, name))  # not read_image, whose errors name the folder


def _fields(header: bytes) -> dict[str, list[str]]:
    """Return the values of each field of a MetaImage header; a valid header has one value for each."""
    fields = defaultdict(list)
    for line in header.decode("ascii").splitlines():
        name, _, value = line.partition("=")
        fields[name.strip()].append(value.strip())
    return fields


def _label_violations(voxels: np.ndarray, rules: Rules, entry: ArchiveEntry) -> list[str]:
    try:
        check_labels(voxels, rules.labels, repr(entry.name))
    except InputError as error:
        return [error.told()]
    return []


def _read_packed(archive: zipfile.ZipFile, entry: ArchiveEntry, most_bytes: int) -> bytes:
    with archive.open(_bounded(archive, entry, most_bytes)) as packed, gzip.GzipFile(fileobj=packed) as stream:
        return _read(stream, most_bytes, entry.name)


def _bounded(archive: zipfile.ZipFile, entry: ArchiveEntry, most_bytes: int) -> zipfile.ZipInfo:
    """Return the entry if its stated size is within the limit; zipfile reads no more than the stated size."""
    info = archive.infolist()[entry.number]
    if info.file_size > most_bytes:
        raise InputError(f"at most {most_bytes} bytes", str(info.file_size), where=repr(entry.name))
    return info


def _read(stream: IO[bytes] | gzip.GzipFile, most_bytes: int, name: str) -> bytes:
    """Read to the end, where checksums are compared, but hardly more than the largest possible size."""
    content = io.BytesIO()
    while block := stream.read(1 << 20):
        content.write(block)
        if content.tell() > most_bytes:
            raise InputError(f"at most {most_bytes} bytes once unpacked", "more", where=repr(name))
    return content.getvalue()


def _rows(matrix: np.ndarray | None) -> str:
    return "none" if matrix is None else str(np.round(matrix, 6).tolist())
