"""Finds the cases of a folder, reads and preprocesses them as nnU-Net does, and writes what was predicted."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.export_prediction import export_prediction_from_logits
from nnunetv2.utilities.label_handling.label_handling import convert_labelmap_to_one_hot
from nnunetv2.utilities.utils import create_paths_fn, get_identifiers_from_splitted_dataset_folder
from torch import Tensor

from nnunetv2_gsp.errors import ConflictingInputError, DamagedFileError, InputError, MissingInputError
from nnunetv2_gsp.images import NIFTI, nifti_shape
from nnunetv2_gsp.prediction.labels import Labels
from nnunetv2_gsp.prediction.sliding_window import Predictor


@dataclass(frozen=True)
class Case:
    """Files of a case.

    Attributes:
        name: name without channel and ending.
        images: an image for each channel, or one with all of them.
        previous: segmentation by the previous stage of a cascade; None outside a cascade.
    """

    name: str
    images: tuple[Path, ...]
    previous: Path | None


@dataclass(frozen=True)
class Preprocessed:
    """A case as the network gets it.

    Attributes:
        image: image (channels, D, H, W) at the network's resolution, fp32.
        properties: what nnU-Net's preprocessing found out about the case.
    """

    image: Tensor
    properties: dict[str, Any]


def cases_in(folder: Path, file_ending: str, previous_stage: Path | None = None) -> list[Case]:
    """Return the cases of a folder, by name.

    Args:
        folder: folder of images, named CASE_0000 and so on.
        file_ending: ending of their names, such as `.nii.gz`.
        previous_stage: folder of segmentations by the previous stage of a cascade; None outside a cascade.

    Raises:
        MissingInputError: the folder has no such image, or does not exist.

    Examples:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("b_0000.nii.gz", "a_0000.nii.gz", "a_0001.nii.gz"):
        ...         Path(folder, name).touch()
        ...     [(case.name, len(case.images)) for case in cases_in(Path(folder), ".nii.gz")]
        [('a', 2), ('b', 1)]
    """
    names = map(str, get_identifiers_from_splitted_dataset_folder(str(folder), file_ending) if folder.is_dir() else ())
    files = sorted(file.name for file in folder.glob(f"*{file_ending}"))
    found = [(name, create_paths_fn(str(folder), files, file_ending, name)) for name in names]
    cases = [
        Case(name, tuple(map(Path, images)), previous_stage and previous_stage / f"{name}{file_ending}")
        for name, images in found
        if images  # others are not named as channels are
    ]
    if not cases:
        raise MissingInputError(
            f"images named CASE_0000{file_ending}", "none", where=folder, parameters=["image_folder"]
        )
    return cases


def preprocessed(case: Case, predictor: Predictor) -> Preprocessed:
    """Read a case and preprocess it as nnU-Net does for prediction.

    Raises:
        InputError: a file is missing, damaged or of another kind than the model was trained with.
    """
    try:
        for file in case.images:
            if file.name.endswith(NIFTI):
                nifti_shape(file)  # of a file that was cut off, SimpleITK would read zeros
        return _preprocessed(case, predictor)
    except InputError:
        raise
    except Exception as error:  # a damaged file fails anywhere in the libraries that read it
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DamagedFileError("images that nnU-Net reads", reason, where=case.images[0]) from error


def _preprocessed(case: Case, predictor: Predictor) -> Preprocessed:
    if case.previous and not case.previous.is_file():
        raise MissingInputError("a segmentation by the previous stage", "no such file", where=case.previous)
    dataset_json = predictor.dataset_json
    if len(case.images) > 1:
        _check_channels(len(case.images), case, dataset_json)
    image, previous, properties = predictor.configuration_manager.preprocessor_class(verbose=False).run_case(
        list(map(str, case.images)),
        case.previous and str(case.previous),
        predictor.plans_manager,
        predictor.configuration_manager,
        dataset_json,
    )
    _check_channels(len(image), case, dataset_json)
    if case.previous:
        labels = convert_labelmap_to_one_hot(previous[0], predictor.label_manager.foreground_labels, image.dtype)
        image = np.vstack((image, labels))
    return Preprocessed(torch.from_numpy(np.ascontiguousarray(image, np.float32)), properties)


def _check_channels(found: int, case: Case, dataset_json: Mapping[str, Any]) -> None:
    channels = dataset_json.get("channel_names") or dataset_json["modality"]
    if found != len(channels):
        raise ConflictingInputError(
            f"as many channels as the model has, {len(channels)} ({', '.join(channels.values())})",
            str(found),
            where=case.images[0],
        )


def is_predicted(case: Case, output: Path, file_ending: str, *, with_probabilities: bool) -> bool:
    """Tell whether all files of a case are in the folder of predictions."""
    endings = [file_ending, *([".npz"] if with_probabilities else [])]
    return all((output / f"{case.name}{ending}").is_file() for ending in endings)


def write_segmentation(
    case: Case, labels: Labels, properties: dict[str, Any], predictor: Predictor, output: Path
) -> None:
    """Write labels in the image's geometry, with nnU-Net's writer; the file appears as a whole.

    Raises:
        OSError: it cannot be written, for instance to a full disk.
    """
    file_ending = predictor.dataset_json["file_ending"]
    with _appearing_in(output, file_ending) as folder:
        writer = predictor.plans_manager.image_reader_writer_class()
        writer.write_seg(labels, str(folder / f"{case.name}{file_ending}"), properties)


def write_with_probabilities(
    case: Case, logits: Tensor, properties: dict[str, Any], predictor: Predictor, output: Path
) -> None:
    """Let nnU-Net write labels, probabilities and properties of a case; the files appear as a whole.

    Raises:
        OSError: they cannot be written, for instance to a full disk.
    """
    with _appearing_in(output, predictor.dataset_json["file_ending"]) as folder:
        export_prediction_from_logits(
            logits,
            properties,
            predictor.configuration_manager,
            predictor.plans_manager,
            predictor.dataset_json,
            str(folder / case.name),
            save_probabilities=True,
            num_threads_torch=torch.get_num_threads(),
        )


@contextmanager
def _appearing_in(output: Path, file_ending: str) -> Iterator[Path]:
    """Yield a folder whose files move to another one when the block ends, the segmentation last."""
    with tempfile.TemporaryDirectory(prefix="unfinished_", dir=output) as unfinished:
        try:
            yield Path(unfinished)
        except RuntimeError as error:  # ITK raises no other type, whatever happened
            raise OSError(
                f"{output}: expected to write a segmentation, got an error, most likely for want of space or "
                f"permission; free some space and run again."
            ) from error
        for file in sorted(Path(unfinished).iterdir(), key=lambda file: file.name.endswith(file_ending)):
            file.replace(output / file.name)
