"""Finds the cases of a folder, reads and preprocesses them as nnU-Net does, and writes what was predicted."""

import logging
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.export_prediction import export_prediction_from_logits
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.label_handling.label_handling import convert_labelmap_to_one_hot
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from numpy.typing import NDArray
from torch import Tensor

from nnunetv2_gsp.errors import ConflictingInputError, DamagedFileError, InputError, MissingInputError
from nnunetv2_gsp.images import is_nifti, nifti_shape
from nnunetv2_gsp.nnunet import channel_names
from nnunetv2_gsp.prediction.labels import Labels
from nnunetv2_gsp.prediction.resampling import resampled_image
from nnunetv2_gsp.prediction.sliding_window import Predictor
from nnunetv2_gsp.wording import times

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Case:
    """Files of a case.

    Attributes:
        name: name without channel and ending.
        images: an image for each channel, or one with all of them in a format that has channels, such as PNG.
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
    names_of_channel = re.compile(rf"(.+)_\d{{4}}{re.escape(file_ending)}")
    channels: dict[str, list[Path]] = {}
    others = []
    for file in sorted(folder.glob(f"[!.]*{file_ending}")):  # a dot begins what macOS puts beside a file
        if named := names_of_channel.fullmatch(file.name):
            channels.setdefault(named[1], []).append(file)
        else:
            others.append(file.name)
    cases = [
        Case(name, tuple(images), previous_stage and previous_stage / f"{name}{file_ending}")
        for name, images in sorted(channels.items())
    ]
    if others:
        _log.warning("%s: left out, as they are not named CASE_0000%s: %s", folder, file_ending, ", ".join(others))
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
        if case.previous and not case.previous.is_file():
            raise MissingInputError("a segmentation by the previous stage", "no such file", where=case.previous)
        files = [*case.images, *([case.previous] if case.previous else [])]
        _check_shapes(files, predictor.plans_manager.image_reader_writer_class)
        with _read_to_their_ends(files):
            return _preprocessed(case, predictor)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # a damaged file fails anywhere in the libraries that read it
        reason = str(error).strip() and f"{type(error).__name__}: {error}".splitlines()[0]
        reason = reason or "channels of different sizes, spacings or places"  # which nnU-Net prints, and does not raise
        raise DamagedFileError("images that nnU-Net reads", reason, where=case.images[0]) from error


@contextmanager
def _read_to_their_ends(files: Sequence[Path]) -> Iterator[None]:
    """Check NIfTI files while the block reads them, too: of one that was cut off SimpleITK reads zeros.

    What a file lacks explains any error of the block.
    """
    with ThreadPoolExecutor(1) as checker:
        shapes = checker.map(nifti_shape, filter(is_nifti, files))
        try:
            yield
        finally:
            list(shapes)


def _check_shapes(files: Sequence[Path], reader: type) -> None:
    """Check the shapes of NIfTI files: beside 4D images nnU-Net writes nothing."""
    shapes = {file: _shape(file) for file in filter(is_nifti, files)}
    for file, shape in shapes.items():
        if len(shape) > 3:
            raise _four_axes(file)
        first = shapes[files[0]]
        if shape != first and not (sorted(shape) == sorted(first) and _turns_images(reader)):
            raise ConflictingInputError(f"{times(first)} voxels as in {files[0].name}", times(shape), where=file)


def _turns_images(reader: type) -> bool:
    """Tell whether a reader of nnU-Net's turns all images to one orientation, whatever the order of their axes."""
    return reader.__name__.endswith("WithReorient")


def _four_axes(file: Path) -> InputError:
    return ConflictingInputError(
        "an image of 3 axes, one file a channel", "one of 4", where=file, remedy="split it into files"
    )


def _shape(file: Path) -> tuple[int, ...]:
    shape = nifti_shape(file, reads_to_its_end=False)
    while len(shape) > 3 and shape[-1] == 1:  # which SimpleITK leaves out
        shape = shape[:-1]
    return shape


def _preprocessed(case: Case, predictor: Predictor) -> Preprocessed:
    dataset_json = predictor.dataset_json
    channels = channel_names(dataset_json)
    if len(case.images) > len(channels):  # files of several channels each there may be fewer
        raise _wrong_channels(len(case.images), case, channels)
    check_channels = partial(_check_channels, case=case, channels=channels)
    configuration = predictor.configuration_manager
    preprocessor = configuration.preprocessor_class(verbose=False)
    if type(preprocessor) is DefaultPreprocessor:  # another one may do anything with image and mask
        preprocessor = _Preprocessor(check_channels)
        configuration = _Configuration(configuration.configuration)
    image, previous, properties = preprocessor.run_case(
        list(map(str, case.images)),
        case.previous and str(case.previous),
        predictor.plans_manager,
        configuration,
        dataset_json,
    )
    check_channels(image, properties)
    if case.previous:
        labels = convert_labelmap_to_one_hot(previous[0], predictor.label_manager.foreground_labels, image.dtype)
        image = np.vstack((image, labels))
    return Preprocessed(torch.from_numpy(np.ascontiguousarray(image, np.float32)), properties)


class _Preprocessor(DefaultPreprocessor):
    """nnU-Net's preprocessing, which looks for a normalisation of each channel, of images that were checked before."""

    def __init__(self, check: Callable[[NDArray[Any], dict[str, Any]], None]):
        super().__init__(verbose=False)
        self._check = check

    def run_case_npy(
        self, data: NDArray[Any], seg: NDArray[Any] | None, properties: dict[str, Any], *about: Any
    ) -> Any:
        self._check(data, properties)
        return super().run_case_npy(data, seg, properties, *about)


class _Configuration(ConfigurationManager):
    """A configuration whose images are resampled at once, and whose masks are left alone where nothing reads them."""

    @property
    def resampling_fn_data(self) -> Callable[..., Any]:
        return partial(resampled_image, resample=super().resampling_fn_data)

    @property
    def resampling_fn_seg(self) -> Callable[..., Any]:
        # without a previous stage there is only the mask of what is not 0, which has served its purpose by then
        resample: Callable[..., Any] = super().resampling_fn_seg
        return resample if self.previous_stage_name else _as_it_is


def _as_it_is(mask: NDArray[np.int8], *_: Any) -> NDArray[np.int8]:
    return mask


def _check_channels(image: NDArray[Any], properties: dict[str, Any], *, case: Case, channels: Sequence[str]) -> None:
    if properties.get("sitk_stuff") and len(properties["sitk_stuff"]["spacing"]) > 3:
        raise _four_axes(case.images[0])
    if len(image) != len(channels):
        raise _wrong_channels(len(image), case, channels)


def _wrong_channels(found: int, case: Case, channels: Sequence[str]) -> InputError:
    return ConflictingInputError(
        f"as many channels as the model has, {len(channels)} ({', '.join(channels)})",
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
        except RuntimeError as error:  # ITK raises no other type, whatever happened; torch does for want of memory
            if "allocate memory" in str(error) or isinstance(error, torch.OutOfMemoryError):
                raise
            raise OSError(
                f"{output}: expected to write a segmentation, got an error, most likely for want of space or "
                f"permission; free some space and run again."
            ) from error
        for file in sorted(Path(unfinished).iterdir(), key=lambda file: file.name.endswith(file_ending)):
            file.replace(output / file.name)
