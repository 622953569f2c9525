"""Writes nnU-Net's predictions as a challenge's archive."""

import gzip
import logging
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from nnunetv2_gsp.datasets.labels import inverse, relabel, whole_labels
from nnunetv2_gsp.errors import InputError, MissingInputError, SeveralProblemsError
from nnunetv2_gsp.files import check_target, whole, zip_entry
from nnunetv2_gsp.images import check_same_geometry, read_image, visible_files, write_image
from nnunetv2_gsp.parallel import in_parallel
from nnunetv2_gsp.submission.checking import check_submission
from nnunetv2_gsp.submission.convention import check_convention
from nnunetv2_gsp.submission.et_threshold import (
    EtThreshold,
    check_threshold_arguments,
    choose_threshold,
    enhancing_to_necrosis,
)
from nnunetv2_gsp.submission.rules import Rules, find_images, rules_of

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictedCase:
    """A case that is to be submitted, with its prediction.

    Attributes:
        prediction: file of the prediction that nnU-Net wrote.
        name: name of the case's file in the archive.
        image: file of the image that was predicted; None where it is not known.
    """

    prediction: Path
    name: str
    image: Path | None


@dataclass(frozen=True)
class ConvertedCase:
    """Files of a converted case, or the reason why there are none.

    Attributes:
        files: name and content of each file for the archive; empty where there is a problem.
        problem: sentence that says why there are no files; empty where there are some.
        notes: sentences on what was taken though it is not exact.
    """

    files: tuple[tuple[str, bytes], ...] = ()
    problem: str = ""
    notes: tuple[str, ...] = ()


def write_submission(
    predictions: Path,
    output: Path,
    challenge: str,
    *,
    images: Path | None = None,
    names: str | None = None,
    et_threshold: EtThreshold = 0,
    cross_validation: Path | None = None,
    references: Path | None = None,
    overwrite: bool = False,
    processes: int = 1,
) -> int:
    """Write predictions as the flat zip that a challenge accepts, with its labels, names and image geometry.

    The archive is checked as by `check_submission` before it gets its name, so the result is a valid archive or none.

    Args:
        predictions: folder of nnU-Net's segmentations, with the labels of a dataset that `convert_challenge` made.
        output: zip file to write.
        challenge: name of the challenge, one of `challenges.SUBMISSIONS`.
        images: folder of the challenge's images, or an imagesTs made of them; they tell which cases are needed, and the
            files get their geometry. If None, the geometry is that of the predictions.
        names: template of the names in the archive, such as `{case}.nii.gz`; None takes the challenge's own.
        et_threshold: for BraTS, smallest number of ET voxels that are kept in a case, fewer become necrosis; 0 keeps
            all, and "auto" chooses the number on a cross-validation.
        cross_validation: folder that `nnUNetv2_accumulate_crossval_results` wrote, for an `et_threshold` of "auto".
        references: folder of the cross-validation's references; None takes those of the dataset that its plans name.
        overwrite: True replaces an existing file of that name.
        processes: number of cases converted at the same time, from 1 on.

    Returns:
        The number of cases in the archive.

    Raises:
        InputError: the arguments do not fit together, or the labels of the predictions have another meaning.
        TargetExistsError: a file of that name exists, and is not to be replaced.
        SeveralProblemsError: predictions are missing, damaged, of another dataset or geometry; all are listed.
    """
    rules = rules_of(challenge)
    _check_output(output, overwrite)
    rules.check_template(names)
    check_threshold_arguments(rules, et_threshold, cross_validation, references)
    check_convention(predictions, rules)
    image_of = find_images(images, rules) if images else None
    cases, problems = _find_cases(predictions, rules, image_of, names)
    threshold = _threshold(rules, et_threshold, cross_validation, references, processes)
    converted = list(in_parallel(partial(_convert, rules, threshold), cases, processes, "Converting"))
    for note in (note for each in converted for note in each.notes):
        _log.info("note: %s", note)
    _refuse(problems + [each.problem for each in converted if each.problem], predictions)
    with whole(output) as unfinished:
        _write_zip((file for each in converted for file in each.files), unfinished)
        _refuse(check_submission(unfinished, challenge, images, processes), predictions)
    return len(cases)


def _check_output(output: Path, overwrite: bool) -> None:
    if output.suffix != ".zip":
        raise InputError("a name that ends in .zip", str(output), parameters=["output"])
    check_target(output, overwrite)


def _threshold(
    rules: Rules, et_threshold: EtThreshold, cross_validation: Path | None, references: Path | None, processes: int
) -> int:
    """Return the threshold in voxels; with "auto" choose it, and log its effect."""
    if not isinstance(et_threshold, str):
        return et_threshold
    assert cross_validation is not None  # as check_threshold_arguments found
    check_convention(cross_validation, rules)
    choice = choose_threshold(cross_validation, rules, references, processes)
    _log.info(
        "ET threshold %d voxels: mean ET Dice %.4f -> %.4f on the %d cases of %s",
        choice.threshold,
        choice.dice_without,
        choice.dice_with,
        choice.n_cases,
        cross_validation,
    )
    return choice.threshold


def _find_cases(
    predictions: Path, rules: Rules, image_of: Mapping[str, Path] | None, names: str | None
) -> tuple[list[PredictedCase], list[str]]:
    """Return the cases that are to be submitted, and a sentence for each problem with the predictions."""
    of_key: dict[str, list[PredictedCase]] = defaultdict(list)
    problems = []
    for prediction, name in _predictions(predictions, rules):
        try:
            case = _predicted_case(prediction, rules.file_name(name, names), rules, image_of)
        except InputError as error:
            problems.append(error.told())
        else:
            of_key[rules.key_of(case.name) or ""].append(case)
    problems += [
        f"Expected one prediction of {key}, got {' and '.join(str(case.prediction) for case in cases)}."
        for key, cases in of_key.items()
        if len(cases) > 1
    ]
    problems += [
        f"Expected a prediction of {key} in {predictions}, got none."
        for key in sorted(set(image_of or ()) - set(of_key))
    ]
    return [cases[0] for cases in of_key.values()], problems


def _predictions(folder: Path, rules: Rules) -> list[tuple[Path, str]]:
    """Return the files of the predictions, and the names of their cases in nnU-Net's dataset."""
    endings = rules.prediction_endings
    found = [
        (file, file.name.removesuffix(ending)) for ending in endings for file in visible_files(folder, f"*{ending}")
    ]
    if not found:
        raise MissingInputError(
            f"predictions of nnU-Net ({' or '.join(endings)})", "none", where=folder, parameters=["predictions"]
        )
    return found


def _predicted_case(prediction: Path, name: str, rules: Rules, image_of: Mapping[str, Path] | None) -> PredictedCase:
    if image_of is None:
        return PredictedCase(prediction, name, None)
    image = image_of.get(rules.key_of(name) or "")
    if image is None:
        raise MissingInputError("a prediction of one of the images", "one of another case", where=prediction)
    return PredictedCase(prediction, name, image)


def _convert(rules: Rules, et_threshold: int, case: PredictedCase) -> ConvertedCase:
    try:
        geometry, on_disk, notes = _read(rules, et_threshold, case)
    except InputError as error:
        return ConvertedCase(problem=error.told())
    if case.name.endswith(".mhd"):
        return ConvertedCase(_meta_image(on_disk, geometry, case.name), notes=notes)
    return ConvertedCase(((case.name, _nifti(on_disk, case.image or case.prediction)),), notes=notes)


def _read(rules: Rules, et_threshold: int, case: PredictedCase) -> tuple[sitk.Image, np.ndarray, tuple[str, ...]]:
    """Return the image (the prediction if it is not known), the challenge's labels, uint8 (Z, Y, X), and notes."""
    prediction = read_image(case.prediction)
    image = read_image(case.image, must_be_finite=False) if case.image else prediction
    moved = check_same_geometry(prediction, case.prediction, image, case.image or case.prediction)
    mapping = inverse(rules.of.labels)
    inside, scaled = whole_labels(sitk.GetArrayFromImage(prediction))
    relabel(inside, mapping, case.prediction)  # before the threshold, which could hide an unknown label
    notes = tuple(note for note in (moved, f"{case.prediction}: {scaled}." if scaled else "") if note)
    return image, relabel(enhancing_to_necrosis(inside, et_threshold), mapping, case.prediction), notes


def _nifti(voxels: np.ndarray, geometry: Path) -> bytes:
    """Return a `.nii.gz` of uint8 voxels (Z, Y, X) with another file's qform and sform, unchanged to the last bit."""
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


def _refuse(problems: list[str], predictions: Path) -> None:
    if problems:
        raise SeveralProblemsError(
            "predictions that make a valid archive",
            problems,
            where=predictions,
            remedy="mend them (no archive was written)",
        )
