"""Predicts the cases of a folder in one process; while the network works, neighbouring cases are read and written."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from torch import OutOfMemoryError

from nnunetv2_gsp.errors import ConflictingInputError, InputError, MissingInputError
from nnunetv2_gsp.files import write_json
from nnunetv2_gsp.nnunet import FINAL_CHECKPOINT, check_device
from nnunetv2_gsp.prediction.cases import (
    Case,
    Preprocessed,
    cases_in,
    is_predicted,
    preprocessed,
    write_segmentation,
    write_with_probabilities,
)
from nnunetv2_gsp.prediction.export import segmentation_of
from nnunetv2_gsp.prediction.labels import Labels
from nnunetv2_gsp.prediction.model import load_predictor
from nnunetv2_gsp.prediction.slabs import Logits, Slab, in_one_slab
from nnunetv2_gsp.prediction.sliding_window import Predictor
from nnunetv2_gsp.progress import progress_bar
from nnunetv2_gsp.wording import times

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Predictions:
    """What became of the cases of a folder.

    Attributes:
        n_predicted: number of cases that were predicted.
        n_there: number of cases that were there from before, and were left.
        problems: a sentence for each case that could not be predicted.
    """

    n_predicted: int
    n_there: int
    problems: tuple[str, ...]


def predict_folder(
    image_folder: Path,
    output: Path,
    model: Path,
    folds: Sequence[str | int] | None = None,
    checkpoint_name: str = FINAL_CHECKPOINT,
    *,
    device: str = "cpu",
    all_on_device: bool = True,
    step_size: float = 0.5,
    mirroring: bool = True,
    save_probabilities: bool = False,
    continue_prediction: bool = False,
    previous_stage: Path | None = None,
    n_parts: int = 1,
    part: int = 0,
    shows_progress: bool = True,
    tells_times: bool = False,
) -> Predictions:
    """Predict the cases of a folder, and write a segmentation for each, as `nnUNetv2_predict` does.

    At any time there are at most two preprocessed images in memory, logits of one case at the network's resolution, and
    labels of two cases. On the CPU, without probabilities and with nnU-Net's usual resampling, logits are in memory of
    as many slices as a window has.

    Args:
        image_folder: images named CASE_0000 and so on, with the ending of the training images.
        output: folder for the segmentations; it is made where it is missing.
        model: model folder TRAINER__PLANS__CONFIGURATION, or the zip of an exported model.
        folds: numbers of folds, or "all"; None takes all that are trained (see `load_predictor`).
        checkpoint_name: name of the checkpoint's file in each fold's folder; a zip has a single one.
        device: "cpu", "cuda" or "mps".
        all_on_device: True keeps image and logits on the device, too, and makes labels there, as long as they fit; no
            matter on the CPU.
        step_size: step from window to window, as a part of the patch size, above 0 and up to 1.
        mirroring: True averages over mirrored windows along the axes that the training mirrored.
        save_probabilities: True writes probabilities, too, which takes nnU-Net's time and memory.
        continue_prediction: True leaves cases that are in `output`; False predicts and replaces them.
        previous_stage: folder of segmentations by the previous stage, for the last stage of a cascade.
        n_parts: number of calls that share the cases, from 1 on.
        part: which of them this call is, from 0 on.
        shows_progress: True shows a progress bar.
        tells_times: True logs sizes and seconds of each case.

    Raises:
        MissingInputError: there are no images, no model, or no segmentations of a previous stage that are needed.
        UnavailableError: the device is not available.
        InputError: the model can't be loaded.
        OSError: predictions can't be written; those written before stay.
    """
    check_device(device)
    predictor = load_predictor(
        model,
        folds,
        checkpoint_name,
        device=device,
        all_on_device=all_on_device,
        step_size=step_size,
        mirroring=mirroring,
    )
    check_stage(predictor, previous_stage)
    file_ending = predictor.dataset_json["file_ending"]
    cases = cases_in(image_folder, file_ending, previous_stage)[part::n_parts]
    to_do = [
        case
        for case in cases
        if not (continue_prediction and is_predicted(case, output, file_ending, with_probabilities=save_probabilities))
    ]
    asked = {
        "list_of_lists_or_source_folder": str(image_folder),
        "output_folder_or_list_of_truncated_output_files": str(output),
        "save_probabilities": save_probabilities,
        "overwrite": not continue_prediction,
        "folder_with_segs_from_prev_stage": previous_stage and str(previous_stage),
        "num_parts": n_parts,
        "part_id": part,
    }
    _write_about(asked, predictor, output)
    level = logging.INFO if tells_times else logging.DEBUG
    problems = tuple(_predict(to_do, predictor, output, save_probabilities, shows_progress, level))
    return Predictions(len(to_do) - len(problems), len(cases) - len(to_do), problems)


def check_stage(predictor: Predictor, previous_stage: Path | None) -> None:
    """Check that there are segmentations of the previous stage where, and only where, a model needs them.

    Raises:
        MissingInputError: there are none.
        ConflictingInputError: there are some, but the model has no previous stage.
    """
    name = predictor.configuration_manager.previous_stage_name
    if name is not None and previous_stage is None:
        raise MissingInputError(
            f"segmentations by {name}, as this is the last stage of a cascade", "none", parameters=["previous_stage"]
        )
    if name is None and previous_stage is not None:
        raise ConflictingInputError(
            "no segmentations by a previous stage, as the model has none", str(previous_stage), remedy="leave them out"
        )


def _write_about(asked: Mapping[str, Any], predictor: Predictor, output: Path) -> None:
    """Write what nnU-Net writes beside predictions, and looks for there when it evaluates or combines them."""
    contents = {
        "predict_from_raw_data_args.json": asked,
        "dataset.json": predictor.dataset_json,
        "plans.json": predictor.plans_manager.plans,
    }
    output.mkdir(parents=True, exist_ok=True)
    # in a folder of its own, as calls that share the cases write the same files
    with TemporaryDirectory(prefix="unfinished_", dir=output) as folder:
        for name, content in contents.items():
            write_json(content, Path(folder, name))
            Path(folder, name).replace(output / name)


def _predict(
    cases: Sequence[Case],
    predictor: Predictor,
    output: Path,
    save_probabilities: bool,
    shows_progress: bool = True,
    level: int = logging.DEBUG,
) -> Iterator[str]:
    """Predict cases, log the times of each, and yield a sentence for each that could not be predicted."""
    export = partial(_exported_with_probabilities if save_probabilities else _exported, predictor, output)
    with (
        progress_bar("predicting", "case", len(cases), is_shown=shows_progress) as show,
        ThreadPoolExecutor(1) as reader,
        ThreadPoolExecutor(1) as writer,
    ):
        images, writing = _ReadAhead(cases, predictor, reader), list[tuple[str, Future[None]]]()
        if cases:
            predictor.get_ready()
        for number, case in enumerate(cases):
            predictor.on_window = partial(_show_window, show, number, case.name)
            try:
                write = _to_write(case, images, predictor, export, level)
            except InputError as error:
                yield f"{case.name}: {error.told()}"
                continue
            except OSError:
                raise
            except Exception as error:  # for want of memory, or in nnU-Net's writers: of this case alone
                _log.debug("%s", case.name, exc_info=True)
                yield _told(case.name, error)
                continue
            yield from _ended(writing)
            writing.append((case.name, writer.submit(write)))
        yield from _ended(writing)
        show(len(cases), "")


def _ended(writing: list[tuple[str, Future[None]]]) -> Iterator[str]:
    """Wait for what is written, and yield a sentence if it could not be; without space or permission nothing can."""
    while writing:
        name, written = writing.pop()
        try:
            written.result()
        except OSError:
            raise
        except Exception as error:  # nnU-Net's writers and their libraries fail in ways of their own
            _log.debug("%s", name, exc_info=True)
            yield _told(name, error)


def _told(name: str, error: Exception) -> str:
    return f"{name}: {type(error).__name__}: {error}".splitlines()[0]


def _to_write(
    case: Case, images: "_ReadAhead", predictor: Predictor, export: Callable[..., Callable[[], None]], level: int
) -> Callable[[], None]:
    """Predict a case, log its times, and return what writes it; image and logits are gone before others come."""
    begin = perf_counter()
    image = images.next()
    waited, begin = perf_counter() - begin, perf_counter()
    logits = predictor.logits_of(image.image)
    slabs = _Clocked(logits.slabs)
    write = export(case, replace(logits, slabs=slabs), image.properties)
    to_labels = perf_counter() - begin - slabs.seconds
    _log.log(level, _times_of(case.name, logits.shape[1:], waited, slabs.seconds, to_labels))
    return write


class _Clocked:
    """Slabs, and the seconds that it took to compute them."""

    def __init__(self, slabs: Iterable[Slab]):
        self._slabs, self.seconds = iter(slabs), 0.0

    def __iter__(self) -> "_Clocked":
        return self

    def __next__(self) -> Slab:
        begin = perf_counter()
        try:
            return next(self._slabs)
        finally:
            self.seconds += perf_counter() - begin


def _times_of(name: str, shape: Sequence[int], waited: float, network: float, labels: float) -> str:
    """Return what is told of a case; reading and writing go on while the network works, and are not in the times.

    Examples:
        >>> _times_of("a", (155, 240, 240), 0.25, 12.0, 0.5)
        'a: 155×240×240 voxels; 0.2 s waited for the image, 12.0 s in the network, 0.5 s to labels'
    """
    return (
        f"{name}: {times(shape)} voxels; {waited:.1f} s waited for the image, {network:.1f} s in the "
        f"network, {labels:.1f} s to labels"
    )


class _ReadAhead:
    """Reads a case while the one before is predicted, and holds none that it has given out."""

    def __init__(self, cases: Sequence[Case], predictor: Predictor, pool: ThreadPoolExecutor):
        self._cases, self._predictor, self._pool = iter(cases), predictor, pool
        self._coming: list[Future[Preprocessed]] = []
        self._begin()

    def _begin(self) -> None:
        for case in self._cases:
            self._coming.append(self._pool.submit(preprocessed, case, self._predictor))
            return

    def next(self) -> Preprocessed:
        try:
            return self._coming.pop().result()
        finally:
            self._begin()


def _exported(
    predictor: Predictor, output: Path, case: Case, logits: Logits, properties: dict[str, Any]
) -> Callable[[], None]:
    labels = labels_of(logits, predictor, properties)
    return partial(write_segmentation, case, labels, properties, predictor, output)


def labels_of(logits: Logits, predictor: Predictor, properties: dict[str, Any]) -> Labels:
    """Return labels (D, H, W) of a case, made on the device that predicted, or on the CPU if its memory is too small.

    Args:
        logits: logits of the case, as `predictor.logits_of` returned them.
        predictor: model that made them.
        properties: what nnU-Net's preprocessing found out about the image.

    Raises:
        InputError: a logit is NaN or infinite.
    """
    described = (
        predictor.plans_manager,
        predictor.configuration_manager,
        predictor.label_manager,
        properties,
    )
    if predictor.device.type == "cpu":
        return segmentation_of(logits, *described)
    whole = logits.whole()
    if predictor.all_on_device:
        with suppress(OutOfMemoryError):
            return segmentation_of(in_one_slab(whole.to(predictor.device)), *described)
    return segmentation_of(in_one_slab(whole.cpu()), *described)


def _exported_with_probabilities(
    predictor: Predictor, output: Path, case: Case, logits: Logits, properties: dict[str, Any]
) -> Callable[[], None]:
    write_with_probabilities(case, logits.whole().cpu(), properties, predictor, output)
    return lambda: None


def _show_window(show: Callable[[int, str], None], n_cases: int, name: str, n_done: int, n_windows: int) -> None:
    show(n_cases, f"{name}, window {n_done + 1} of {n_windows}")
