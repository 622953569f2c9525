"""Runs a container's models on all cases of an input folder."""

import logging
import tempfile
import time
from pathlib import Path

from nnunetv2_gsp.container.interface import FoundCase
from nnunetv2_gsp.container.prediction import Ensemble, imported
from nnunetv2_gsp.container.results import Results, results_in
from nnunetv2_gsp.container.settings import read_settings
from nnunetv2_gsp.errors import InputError, MissingInputError
from nnunetv2_gsp.files import try_writing
from nnunetv2_gsp.nnunet import available_devices

_log = logging.getLogger(__name__)


def predict_all(folder: Path, input_folder: Path | None = None, output: Path | None = None) -> int:
    """Predict all cases of an input folder; a case that fails is reported, and the others go on.

    Args:
        folder: folder with a container's settings and bundles.
        input_folder: folder of the images; None takes the interface's own.
        output: folder that the results are written to; None takes the interface's own.

    Returns:
        The number of cases without a result that is in order.

    Raises:
        MissingInputError: there is no case, or no such folder.
        InputError: nothing can be written to the output folder.
    """
    settings = read_settings(folder)
    source, output = input_folder or Path(settings.runs_as.input), output or Path(settings.runs_as.output)
    _check_folders(source, output)
    with tempfile.TemporaryDirectory() as work:
        models = [imported(folder / bundle, Path(work, bundle)) for bundle in settings.bundles]
        ensemble = Ensemble(models, "cuda" if "cuda" in available_devices() else "cpu")
        found = settings.runs_as.find(source, ensemble.channels, settings.sockets)
        if not (found.whole or found.skipped):
            raise MissingInputError(f"cases of {settings.runs_as.title}", "none", where=source)
        for skipped in found.skipped:
            _log.warning("%s: no result. %s", skipped.case, skipped.reason)
        results = results_in(output, settings.challenge, ensemble.dataset_json)
        written = [case for case in found.whole if _predicted(case, ensemble, results)]
    wrong = results.violations(written) if written else []
    for violation in wrong:
        _log.warning("%s", violation)
    _log.info("%d of %d cases have a result.", len(written), len(found.whole) + len(found.skipped))
    return len(found.whole) + len(found.skipped) - len(written) + len(wrong)


def _predicted(case: FoundCase, ensemble: Ensemble, results: Results) -> bool:
    """Predict a case and write its result; tell whether that went well."""
    start = time.monotonic()
    try:
        with tempfile.TemporaryDirectory() as work:
            results.write(case, ensemble.predict(case.name, case.images, Path(work, "prediction")))
    except InputError as error:
        _log.warning("%s: no result. %s", case.name, error.told())
    except Exception:  # a defect on one case costs no other its result, and its log is all that one gets to see
        _log.warning("%s: no result.", case.name, exc_info=True)
    else:
        _log.info("%s: %.0f s", case.name, time.monotonic() - start)
        return True
    return False


def _check_folders(source: Path, output: Path) -> None:
    if not source.is_dir():
        raise MissingInputError("a folder of images", "none", where=source)
    try:
        output.mkdir(parents=True, exist_ok=True)
        try_writing(output)
    except OSError as error:
        raise InputError("a folder that results can be written to", f"none ({error.strerror})", where=output) from error
