"""How do nnU-Net's predictions become a challenge's archive?"""
import gzip
import json
import re
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from nnunetv2_gsp.datasets.brats import CAVITY_REGION, REGIONS
from nnunetv2_gsp.datasets.conversion import visible
from nnunetv2_gsp.datasets.labels import CAVITY, EDEMA, ENHANCING, LABELS, NECROSIS, inverse, relabel
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.files import whole, zip_entry
from nnunetv2_gsp.images import check_same_geometry, read_image, write_image
from nnunetv2_gsp.parallel import in_parallel
from nnunetv2_gsp.submission.checking import check_submission
from nnunetv2_gsp.submission.enhancing import enhancing_to_necrosis
from nnunetv2_gsp.submission.rules import Rules, find_images, rules_of

_PLAIN_NAMES = {  # how plain labels begin that mean what ours do, in lower case
    NECROSIS: re.compile(r"necro|non.?enh|(ncr|netc?)(?![a-z])"),
    EDEMA: re.compile(r"(peritumou?ral.)?o?edema|(ed|snfh)(?![a-z])"),
    ENHANCING: re.compile(r"(gd.)?enhanc|et(?![a-z])"),
    CAVITY: re.compile(r"resection|cavity|rc(?![a-z])"),
}


@dataclass(frozen=True)
class Job:
    """One prediction, the name of its file in the archive, and the image that was predicted, where it is known."""

    prediction: Path
    name: str
    image: Path | None


@dataclass(frozen=True)
class Written:
    """What came of a job: files for the archive, or the sentence that says why there are none."""

    files: tuple[tuple[str, bytes], ...] = ()
    problem: str = ""


def write_submission(predictions: Path, file: Path, challenge: str, *, images: Path | None = None,
                     names: str | None = None, et_threshold: int = 0, overwrite: bool = False,
                     processes: int = 1) -> int:
    """Write predictions as the flat zip that a challenge takes: its labels, its names, the geometry of its images.

    The archive is checked as `check_submission` does before it stands under its name, so there is a valid one or none.

    Args:
        predictions: folder of nnU-Net's segmentations, with the labels of a dataset that `convert` made.
        file: the new zip.
        challenge: one of `editions.CHALLENGES`.
        images: folder of the challenge's images, or an imagesTs made of them: whose cases have to be there, and whose
            geometry the files get. Without it the geometry is that of the predictions.
        names: template of the names in the archive, with {case}.
        et_threshold: BraTS: fewer voxels of ET than that become necrosis.
        overwrite: replace a file of that name.
        processes: how many cases are converted at a time.

    Returns:
        The number of cases.

    Raises:
        InputError: a prediction is missing, damaged, of another dataset or geometry; every such one is listed.
    """
    rules = rules_of(challenge)
    check_target(file, overwrite)
    rules.check_template(names)
    check_convention(predictions, rules)
    jobs, problems = _jobs(predictions, rules, images, names)
    write = partial(_written, rules, et_threshold)
    written = list(in_parallel(write, jobs, processes, "Submit"))
    problems += [each.problem for each in written if each.problem]
    _refuse(problems, file)
    with whole(file) as unfinished:
        _write_zip((entry for each in written for entry in each.files), unfinished)
        _refuse(check_submission(unfinished, challenge, images, processes), file)
    return len(jobs)


def check_convention(predictions: Path, rules: Rules) -> None:
    """Raise InputError unless the dataset.json that nnU-Net puts beside predictions gives BraTS's labels our meaning.

    nnU-Net's own converters have 1 for oedema and 2 for necrosis, which no label value would show. Regions are told by
    their labels, plain labels by their names.
    """
    file = predictions / "dataset.json"
    if not (rules.is_brats and file.is_file()):
        return
    try:
        labels = json.loads(file.read_text(encoding="utf-8"))["labels"].items()
        values = {name: _as_set(value) for name, value in labels if name not in ("background", "ignore")}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"Expected nnU-Net's dataset.json with labels, found {file} that can't be read; copy it from "
                         f"the trained model's folder.") from error
    has_regions = any(len(value) > 1 for value in values.values())
    if complaint := _region_complaint(values) if has_regions else _plain_complaint(values):
        raise InputError(f"Expected the labels 1 necrosis, 2 oedema, 3 enhancing in {file}, as nnUNetv2_gsp convert "
                         f"makes them, found {complaint}; submit predictions of a network that was trained on a "
                         f"dataset made by it.")


def _region_complaint(values: dict[str, frozenset[int]]) -> str:
    needed = {name: frozenset(region) for name, region in REGIONS.items()}
    known = {*needed.values(), *map(frozenset, CAVITY_REGION.values())}
    strange = [f"the region {name} of {sorted(value)}" for name, value in values.items() if value not in known]
    lacking = [f"no region of {sorted(region)}" for region in needed.values() if region not in values.values()]
    return next(iter(strange + lacking), "")


def _plain_complaint(values: dict[str, frozenset[int]]) -> str:
    strange = [f"{name!r} for {label}" for name, value in values.items() for label in value
               if label not in _PLAIN_NAMES or not _PLAIN_NAMES[label].match(name.strip().lower())]
    lacking = [f"no name for {label}" for label in (NECROSIS, EDEMA, ENHANCING)
               if frozenset([label]) not in values.values()]
    return next(iter(strange + lacking), "")


def check_target(file: Path, overwrite: bool) -> None:
    """Raise InputError if the archive can not be made there."""
    if file.suffix != ".zip":
        raise InputError(f"Expected the name of a .zip for -o, got {file}.")
    if file.exists() and not overwrite:
        raise InputError(f"{file} exists and is not replaced; remove it, choose another name, or add --overwrite.")
    if not file.absolute().parent.is_dir():
        raise InputError(f"Expected a folder for {file}, found none; make it, or name another file.")


def _jobs(predictions: Path, rules: Rules, images: Path | None, names: str | None) -> tuple[list[Job], list[str]]:
    """Return what is to be written, and what is wrong with the cases as a whole."""
    endings = rules.prediction_endings
    files = [(prediction, ending) for ending in endings for prediction in visible(predictions, f"*{ending}")]
    if not files:
        raise InputError(f"Expected predictions of nnU-Net, {' or '.join(endings)}, in {predictions}, found none.")
    image_of = find_images(images, rules) if images else None
    of_key: dict[str, list[Job]] = defaultdict(list)
    problems = []
    for prediction, ending in files:
        try:
            name = rules.file_name(prediction.name.removesuffix(ending), names)
        except InputError as error:
            problems.append(str(error))
            continue
        key = rules.key_of(name) or ""
        if image_of is not None and key not in image_of:
            problems.append(f"Expected predictions of the cases in {images}, found {prediction}, which is not among "
                            f"them.")
        else:
            of_key[key].append(Job(prediction, name, image_of[key] if image_of else None))
    problems += [f"Expected one prediction of {key}, found {' and '.join(str(job.prediction) for job in jobs)}."
                 for key, jobs in of_key.items() if len(jobs) > 1]
    problems += [f"Expected a prediction of {key} in {predictions}, found none."
                 for key in sorted(set(image_of or ()) - set(of_key))]
    return [jobs[0] for jobs in of_key.values()], problems


def _written(rules: Rules, et_threshold: int, job: Job) -> Written:
    try:
        prediction = read_image(job.prediction)
        image = read_image(job.image) if job.image else prediction
        check_same_geometry(prediction, job.prediction, image, job.image or job.prediction)
        table = inverse(LABELS[rules.challenge])
        inside = sitk.GetArrayFromImage(prediction)
        relabel(inside, table, job.prediction)  # before the threshold, which could hide an unknown label
        on_disk = relabel(enhancing_to_necrosis(inside, et_threshold), table, job.prediction)
    except InputError as error:
        return Written(problem=str(error))
    if rules.is_brats:
        return Written(((job.name, _nifti(on_disk, job.image or job.prediction)),))
    return Written(_meta_image(on_disk, image, job.name))


def _nifti(voxels: np.ndarray, geometry: Path) -> bytes:
    """Return a `.nii.gz` of uint8 voxels (Z, Y, X) with another file's qform and sform, every bit of them."""
    import nibabel

    header: Any = nibabel.load(geometry).header.copy()
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    header.set_intent("none")
    header["cal_min"] = header["cal_max"] = 0  # window of the image, of no use to labels
    image = nibabel.Nifti1Image(voxels.T, None, header)
    image.header.extensions.clear()
    return gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)


def _meta_image(voxels: np.ndarray, geometry: sitk.Image, name: str) -> tuple[tuple[str, bytes], ...]:
    """Return `.mhd` and `.raw` of uint8 voxels (Z, Y, X) with another image's geometry."""
    image = sitk.GetImageFromArray(voxels)
    image.CopyInformation(geometry)
    with tempfile.TemporaryDirectory() as folder:
        header = Path(folder, name)
        write_image(image, header, compressed=False)  # else the voxels go to a .zraw
        return tuple((file.name, file.read_bytes()) for file in (header, header.with_suffix(".raw")))


def _write_zip(files: Iterable[tuple[str, bytes]], target: Path) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files:
            entry = zip_entry(name)
            entry.compress_type = zipfile.ZIP_STORED if name.endswith(".gz") else zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)


def _refuse(problems: list[str], file: Path) -> None:
    if problems:
        raise InputError("\n".join([f"{file} is not written:", *problems]))


def _as_set(value: Any) -> frozenset[int]:
    """Return the labels of a region, or a plain label as a region of one; raise TypeError if it is neither."""
    labels = value if isinstance(value, list) else [value]
    if not labels or any(type(label) is not int for label in labels):
        raise TypeError(f"{value!r} is no label and no region")
    return frozenset(labels)
