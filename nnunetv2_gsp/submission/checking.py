"""Would the challenge take an archive? Every violation at once, and no byte of it is trusted.

Nothing is unpacked under a name of the archive's choice, and nothing is read beyond what a case can have.
"""
import gzip
import io
import math
import re
import stat
import tempfile
import zipfile
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import SimpleITK as sitk

from nnunetv2_gsp.datasets.labels import check_labels
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.images import TOLERANCE, read_image
from nnunetv2_gsp.parallel import in_parallel
from nnunetv2_gsp.submission.rules import Rules, find_images, rules_of

_HEADER_BYTES = 1_000_000  # with NIfTI's extensions
_MOST_VOXELS = 512 * 512 * 512  # of a case, where neither images nor the edition say how many there are


@dataclass(frozen=True)
class Entry:
    """A file in the archive that has a case's name, and the case's image where it is known."""

    number: int  # in the archive, since names may repeat
    name: str
    image: Path | None


def check_submission(file: Path, challenge: str, images: Path | None = None, processes: int = 1) -> list[str]:
    """Check an archive, from whatever program, against the rules of its challenge.

    Args:
        file: zip.
        challenge: one of `editions.CHALLENGES`.
        images: folder of the challenge's images, or an imagesTs made of them: whose cases have to be there, and whose
            geometry the files need. Without it BraTS is held to its edition's size, and nobody tells what is missing.
        processes: how many cases are read at a time.

    Returns:
        A sentence for each violation; none if all is well.

    Raises:
        InputError: there is no such file, or the images are not in order.
    """
    rules = rules_of(challenge)
    image_of = find_images(images, rules) if images else None
    if not file.is_file():
        raise InputError(f"Expected an archive {file}, found no such file.")
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
    except Exception as error:  # what a stranger wrote fails in any way
        return [f"Expected a zip, found {file}, which is none or not all of one ({type(error).__name__})."]
    if sum(info.compress_size for info in infos) > file.stat().st_size:
        return [f"Expected files that lie one after another in {file}, found some that share bytes."]
    entries, violations = _checked_names(infos, rules, image_of)
    for found in in_parallel(partial(_content_violations, file, rules), entries, processes, "Check"):
        violations += found
    return violations


def _checked_names(infos: list[zipfile.ZipInfo], rules: Rules, image_of: dict[str, Path] | None
                   ) -> tuple[list[Entry], list[str]]:
    """Return the files that are worth reading, and what is wrong with the names."""
    violations = []
    of_key: dict[str, list[Entry]] = defaultdict(list)
    names = [info.orig_filename for info in infos]
    raw = set() if rules.is_brats else {_raw_name(name) for name in names if name.endswith(".mhd")}
    for number, info in enumerate(infos):
        name = info.orig_filename
        key = rules.key_of(name)
        if complaint := _entry_complaint(info):
            violations.append(f"Expected plain files without folders, found {name!r}, {complaint}.")
        elif name in raw:
            if names.count(name) > 1:
                violations.append(f"Expected {name!r} once, found it {names.count(name)} times.")
        elif key is None:
            violations.append(f"Expected {rules.naming}, found {name!r}.")
        elif image_of is not None and key not in image_of:
            violations.append(f"Expected the cases of the images alone, found {name!r}, which is not among them.")
        else:
            of_key[key].append(Entry(number, name, image_of[key] if image_of else None))
    violations += [f"Expected one file for {key}, found {len(entries)}: "
                   f"{' and '.join(repr(entry.name) for entry in entries)}."
                   for key, entries in of_key.items() if len(entries) > 1]
    violations += [f"Expected a file for {key}, found none." for key in sorted(set(image_of or ()) - set(of_key))]
    if not infos:
        violations.append("Expected a file for each case, found an empty archive.")
    return [entry for entries in of_key.values() for entry in entries], violations


def _entry_complaint(info: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(info.external_attr >> 16)
    name = info.orig_filename
    if re.search(r"(^|[/\\])\.\.([/\\]|$)|^[/\\]|^[A-Za-z]:", name):
        return "a path that leads out of the archive"
    if re.search(r"[/\\]", name):
        return "which lies in a folder or is one"
    if kind not in (0, stat.S_IFREG):
        return "a link or a device"
    return "which is encrypted" if info.flag_bits & 1 else ""


def _content_violations(file: Path, rules: Rules, entry: Entry) -> list[str]:
    check = _nifti_violations if rules.is_brats else _meta_image_violations
    try:
        with zipfile.ZipFile(file) as archive:
            return check(archive, rules, entry)
    except InputError as error:
        return [str(error)]
    except Exception as error:  # what a stranger wrote fails in any way
        return [f"Expected a whole image in {entry.name!r}, found one that can not be read ({type(error).__name__})."]


def _nifti_violations(archive: zipfile.ZipFile, rules: Rules, entry: Entry) -> list[str]:
    import nibabel

    expected: Any = nibabel.load(entry.image).header if entry.image else None
    size = tuple(expected.get_data_shape()) if expected is not None else rules.size
    assert size is not None  # every edition of BraTS has one
    most_bytes = _HEADER_BYTES + 8 * math.prod(size)  # voxels of 8 bytes at most
    with archive.open(_bounded(archive, entry, most_bytes)) as packed, gzip.GzipFile(fileobj=packed) as stream:
        content = _read(stream, most_bytes, entry)
    header: Any = nibabel.Nifti1Header.from_fileobj(io.BytesIO(content))  # an image's own forgets slope and intercept
    if tuple(header.get_data_shape()) != size:
        return [f"Expected {_by(size)} voxels in {entry.name!r}, found {_by(header.get_data_shape())}."]
    violations = []
    if header.get_data_dtype().kind not in "iu" or header.get_slope_inter() not in ((None, None), (1, 0)):
        violations.append(f"Expected unscaled integers in {entry.name!r}, found {header.get_data_dtype()} with slope "
                          f"and intercept {header.get_slope_inter()}.")
    if expected is not None:
        violations += _affine_violations(header, expected, rules, entry)
    voxels = np.asanyarray(nibabel.Nifti1Image.from_bytes(content).dataobj)
    return violations + _label_violations(voxels, rules, entry)


def _affine_violations(header: Any, expected: Any, rules: Rules, entry: Entry) -> list[str]:
    if not np.allclose(header.get_best_affine(), expected.get_best_affine(), rtol=0, atol=TOLERANCE):
        return [f"Expected {entry.name!r} to lie where its image does, found the affine "
                f"{_rows(header.get_best_affine())} and not {_rows(expected.get_best_affine())}."]
    if rules.exact_qform and not np.array_equal(header.get_qform(), expected.get_qform()):
        return [f"Expected {entry.name!r} to have exactly the qform of its image, {_rows(expected.get_qform())}, found "
                f"{_rows(header.get_qform())}."]
    return []


def _meta_image_violations(archive: zipfile.ZipFile, rules: Rules, entry: Entry) -> list[str]:
    with archive.open(_bounded(archive, entry, _HEADER_BYTES)) as stream:
        header = _read(stream, _HEADER_BYTES, entry)
    fields, raw_name = _fields(header), _raw_name(entry.name)
    if complaint := _header_complaint(fields, raw_name):
        return [f"Expected a header of uncompressed uint8 voxels in {raw_name!r} in {entry.name!r}, each of its fields "
                f"once, found {complaint}."]
    if raw_name not in archive.namelist():
        return [f"Expected {raw_name!r} beside {entry.name!r}, found none."]
    image = read_image(entry.image) if entry.image else None
    size = tuple(int(length) for length in fields["DimSize"][0].split())
    if image is not None and size != image.GetSize():
        return [f"Expected {_by(image.GetSize())} voxels in {entry.name!r}, found {_by(size)}."]
    if min(size) < 1:  # which ITK reads without complaint
        return [f"Expected at least one voxel along each axis in {entry.name!r}, found {_by(size)}."]
    with archive.open(raw_name) as stream:
        voxels = _read(stream, min(math.prod(size), _MOST_VOXELS), Entry(entry.number, raw_name, None))
    if len(voxels) != math.prod(size):  # ITK would set memory aside for as many as the header says
        return [f"Expected {math.prod(size)} bytes in {raw_name!r}, found {len(voxels)}."]
    submitted = _read_meta_image(entry.name, header, voxels)
    violations = _geometry_violations(submitted, image, entry) if image is not None else []
    return violations + _label_violations(sitk.GetArrayViewFromImage(submitted), rules, entry)


def _header_complaint(fields: dict[str, list[str]], raw_name: str) -> str:
    """Say which fields let the header be anything but plain voxels in the file beside it; "" if none does."""
    asked = {"NDims": "3", "ElementType": "MET_UCHAR", "CompressedData": "False", "ElementDataFile": raw_name}
    # without a CompressedData, voxels are uncompressed; nothing else goes without saying
    wrong = {name for name, value in asked.items() if fields.get(name, ["False"]) != [value]}
    repeated = {name for name, values in fields.items() if len(values) > 1}
    return ", ".join(f"{name} = {' and '.join(fields.get(name, ['nothing']))!r}" for name in sorted(wrong | repeated))


def _geometry_violations(submitted: sitk.Image, image: sitk.Image, entry: Entry) -> list[str]:
    pairs = {what: (getattr(submitted, f"Get{what}")(), getattr(image, f"Get{what}")())
             for what in ("Spacing", "Origin", "Direction")}
    return [f"Expected the {what.lower()} {expected} of its image in {entry.name!r}, found {found}."
            for what, (found, expected) in pairs.items() if not np.allclose(found, expected, rtol=0, atol=TOLERANCE)]


def _read_meta_image(name: str, header: bytes, voxels: bytes) -> sitk.Image:
    """Read a header that was found to point to the `.raw` of its name alone, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, name).write_bytes(header)
        Path(folder, _raw_name(name)).write_bytes(voxels)
        return sitk.ReadImage(Path(folder, name))  # not read_image, whose errors name the folder


def _raw_name(header_name: str) -> str:
    return f"{header_name.removesuffix('.mhd')}.raw"


def _fields(header: bytes) -> dict[str, list[str]]:
    """Return the values of each field of a MetaImage header, which should have one each."""
    fields = defaultdict(list)
    for line in header.decode("ascii").splitlines():
        name, _, value = line.partition("=")
        fields[name.strip()].append(value.strip())
    return fields


def _label_violations(voxels: np.ndarray, rules: Rules, entry: Entry) -> list[str]:
    try:
        check_labels(voxels, rules.labels, repr(entry.name))
    except InputError as error:
        return [str(error)]
    return []


def _bounded(archive: zipfile.ZipFile, entry: Entry, most_bytes: int) -> zipfile.ZipInfo:
    """Return the entry if it says that it has not too many bytes; zipfile reads no more than it says."""
    info = archive.infolist()[entry.number]
    if info.file_size > most_bytes:
        raise InputError(f"Expected at most {most_bytes} bytes in {entry.name!r}, found {info.file_size}.")
    return info


def _read(stream: IO[bytes] | gzip.GzipFile, most_bytes: int, entry: Entry) -> bytes:
    """Read to the end, where checksums are compared, but never much more than there can be."""
    content = io.BytesIO()
    while block := stream.read(1 << 20):
        content.write(block)
        if content.tell() > most_bytes:
            raise InputError(f"Expected at most {most_bytes} bytes in {entry.name!r} once unpacked, found more.")
    return content.getvalue()


def _by(size: tuple[int, ...]) -> str:
    return "×".join(map(str, size))


def _rows(matrix: np.ndarray | None) -> str:
    return "none" if matrix is None else str(np.round(matrix, 6).tolist())
