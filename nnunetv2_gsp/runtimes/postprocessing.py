"""Reads nnU-Net's postprocessing.pkl as plain data, without running code from it."""

import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.utilities.file_path_utilities import folds_tuple_to_string

from nnunetv2_gsp.sharing.refused import refusing

_STEP = "remove_all_but_largest_component_from_segmentation"
_NAMES: dict[tuple[str, str], Any] = {
    ("nnunetv2.postprocessing.remove_connected_components", _STEP): _STEP,  # a text, never called
    ("numpy", "dtype"): np.dtype,
    # numpy 1's and 2's names of the function that makes a number
    ("numpy.core.multiarray", "scalar"): np.int64(0).__reduce__()[0],
    ("numpy._core.multiarray", "scalar"): np.int64(0).__reduce__()[0],
}


class _Unpickler(pickle.Unpickler):
    """Knows nnU-Net's one function of post-processing, and numbers."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return _NAMES[module, name]


def read_postprocessing(model_folder: Path, folds: Sequence[str]) -> list[dict[str, Any]]:
    """Return the steps that nnU-Net chose for these folds' cross-validation, in order; none where it chose none.

    Args:
        model_folder: model folder TRAINER__PLANS__CONFIGURATION.
        folds: names of the folds that predict; nnU-Net's choice is for all that it was cross-validated with.

    Returns:
        For each step the labels of which, taken together, the largest connected component stays (neighbours share a
        corner at least, equally large ones all stay), and the label that the others get.

    Raises:
        RefusedError: the file holds anything else.
    """
    in_order = sorted(folds, key=lambda fold: (len(fold), fold))
    file = model_folder / f"crossval_results_folds_{folds_tuple_to_string(in_order)}" / "postprocessing.pkl"
    if not file.is_file():
        return []
    with refusing(f"nnU-Net's post-processing alone in {file.name}"):
        functions, arguments = _Unpickler(io.BytesIO(file.read_bytes())).load()
        return [_step(function, **given) for function, given in zip(functions, arguments, strict=True)]


def _step(function: str, labels_or_regions: Any, background_label: int = 0) -> dict[str, Any]:
    if function != _STEP:
        raise ValueError(f"a function {function!r}")
    return {"keep_largest_component_of": sorted(_flat(labels_or_regions)), "background_label": int(background_label)}


def _flat(labels: Any) -> set[int]:
    if isinstance(labels, (list, tuple)):
        return {label for each in labels for label in _flat(each)}
    return {int(labels)}
