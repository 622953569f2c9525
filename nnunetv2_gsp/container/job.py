"""Runs a container's models on all cases of an input folder."""

import logging
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from nnunetv2_gsp.container.interface import FoundCase, FoundCases
from nnunetv2_gsp.container.prediction import Ensemble
from nnunetv2_gsp.container.results import Results, results_in
from nnunetv2_gsp.container.settings import read_settings
from nnunetv2_gsp.errors import InputError, MissingInputError
from nnunetv2_gsp.files import try_writing, write_json
from nnunetv2_gsp.nnunet import available_devices

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of the cases of an input folder.

    Attributes:
        predicted: names of the cases with a result that is in order.
        failed: name of each other case, and the reason.
        empty: names of those that failed and got an empty segmentation, without which the others' results were lost.
        is_success: True if the run is to end as one that went well.
    """

    predicted: tuple[str, ...]
    failed: Mapping[str, str]
    empty: tuple[str, ...]
    is_success: bool


def predict_all(
    folder: Path, input_folder: Path | None = None, output: Path | None = None, report: Path | None = None
) -> Outcome:
    """Predict all cases of an input folder; a case that fails is reported, and the others go on.

    Args:
        folder: folder with a container's settings and bundles.
        input_folder: folder of the images; None takes the interface's own.
        output: folder that the results are written to; None takes the interface's own.
        report: JSON file that the outcome is written to; None writes none.

    Raises:
        MissingInputError: there is no case, or no such folder.
        InputError: nothing can be written to the folder of the results or of the report.
    """
    settings = read_settings(folder)
    interface = settings.runs_as
    source, output = input_folder or Path(interface.input), output or Path(interface.output)
    _check_source(source)
    for each in (output, *([report.parent] if report else [])):
        _check_writable(each)
    ensemble = load_models(folder)
    found = interface.find(source, ensemble.channels, settings.sockets)
    if not (found.whole or found.skipped):
        raise MissingInputError(f"cases of {interface.title}", "none", where=source)
    results = results_in(output, settings.challenge, ensemble.dataset_json)
    predicted, failed = _predicted(found, ensemble, results)
    remains = interface.remains if predicted else None
    empty = [name for name in failed if remains and _is_filled(remains(source, name), results)]
    outcome = Outcome(tuple(predicted), failed, tuple(empty), is_success=remains is not None or not failed)
    if report:
        write_json(asdict(outcome), report)
    return outcome


def load_models(folder: Path) -> Ensemble:
    """Load the models of a container, on a GPU where there is one.

    Args:
        folder: folder with a container's settings and bundles.

    Raises:
        InputError: a model does not load.
    """
    bundles = [folder / bundle for bundle in read_settings(folder).bundles]
    return Ensemble(bundles, "cuda" if "cuda" in available_devices() else "cpu")


def _predicted(found: FoundCases, ensemble: Ensemble, results: Results) -> tuple[list[str], dict[str, str]]:
    """Return the names of the cases that have a result, and of the others with the reason."""
    failed = {skipped.case: skipped.reason for skipped in found.skipped}
    for name, reason in failed.items():
        _log.warning("%s: no result. %s", name, reason)
    failed |= {case.name: problem for case in found.whole if (problem := _problem_with(case, ensemble, results))}
    predicted = [case.name for case in found.whole if case.name not in failed]
    _log.info("%d of %d cases have a result.", len(predicted), len(predicted) + len(failed))
    return predicted, failed


def _problem_with(case: FoundCase, ensemble: Ensemble, results: Results) -> str:
    """Predict a case, write its result and read that again; return why there is none that is in order, or ""."""
    start = time.monotonic()
    try:
        with tempfile.TemporaryDirectory() as work:
            results.write(case, ensemble.predict(case.name, case.images, Path(work, "prediction")))
        results.check(case)
    except Exception as error:  # a defect on one case costs no other its result
        if isinstance(error, InputError):
            problem = error.told()
            _log.warning("%s: no result. %s", case.name, problem)
        else:
            problem = f"{type(error).__name__}: {error}"
            _log.warning("%s: no result.", case.name, exc_info=True)  # all that one gets to see
        return problem
    _log.info("%s: %.0f s", case.name, time.monotonic() - start)
    return ""


def _is_filled(case: FoundCase, results: Results) -> bool:
    """Write an empty segmentation in place of a result; tell whether any image says where it lies."""
    is_written = results.write_empty(case)
    _log.warning(
        "%s: %s, as the challenge drops all results where one is missing.",
        case.name,
        "an empty segmentation stands in its place" if is_written else "no image says where an empty one would lie",
    )
    return is_written


def _check_source(folder: Path) -> None:
    if not folder.is_dir():
        raise MissingInputError("a folder of images", "none", where=folder)


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try_writing(folder)
    except OSError as error:
        raise InputError("a folder that can be written to", f"none ({error.strerror})", where=folder) from error
