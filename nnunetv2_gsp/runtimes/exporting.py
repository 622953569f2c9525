"""Exports a trained model for a runtime other than PyTorch: networks that were compared with it, and pipeline.json."""

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from nnunetv2_gsp.errors import InputError, UnavailableError, check_name
from nnunetv2_gsp.files import check_target, whole
from nnunetv2_gsp.nnunet import FINAL_CHECKPOINT, averaged_folds
from nnunetv2_gsp.runtimes import onnx_runtime, openvino_runtime
from nnunetv2_gsp.runtimes.formats import FORMATS
from nnunetv2_gsp.runtimes.network import network_of, prepare
from nnunetv2_gsp.runtimes.parity import Parity, compared, sample_patches
from nnunetv2_gsp.runtimes.pipeline import PIPELINE, pipeline_of
from nnunetv2_gsp.runtimes.postprocessing import read_postprocessing
from nnunetv2_gsp.sharing.model_folder import TrainedModel, read_model_folder
from nnunetv2_gsp.sharing.refused import refusals_of

_RUNTIMES: dict[str, ModuleType] = {"onnx": onnx_runtime, "openvino": openvino_runtime}
_log = logging.getLogger(__name__)


def export_network(
    model_folder: Path,
    output: Path,
    format: str = "onnx",
    folds: Sequence[str | int] | None = None,
    checkpoint_name: str = FINAL_CHECKPOINT,
    separate_folds: bool = False,
    overwrite: bool = False,
) -> list[Path]:
    """Write a trained GSP model for a runtime: its network, for any batch, and pipeline.json beside it.

    The written network runs beside PyTorch's on patches of several kinds first, and its metadata says how far they
    differed. Nothing is written where they differ by more than rounding.

    Args:
        model_folder: model folder TRAINER__PLANS__CONFIGURATION in nnUNet_results/DATASET.
        output: file of the network, with the ending of its format; missing folders above it are created.
        format: "onnx" or "openvino".
        folds: numbers of folds, or "all" for the fold of that name; None takes every fold that has the checkpoint,
            and "all" only where there is no other, as nnU-Net does.
        checkpoint_name: name of the checkpoint's file in each fold's folder.
        separate_folds: False writes one network, the mean of the folds' logits; True one for each, as
            `model_fold_0.onnx`.
        overwrite: True replaces existing files of those names.

    Returns:
        The written files.

    Raises:
        UnavailableError: a package that the format needs is not installed.
        TargetExistsError: a file exists, and is not to be replaced.
        InputError: it is no such format, the file has another's ending, the plans ask for what pipeline.json cannot
            express, or the written network differs from PyTorch's.
        MissingInputError: a fold lacks the checkpoint, or the folder holds no model.
        RefusedError: the folder does not hold a sound GSP model.
    """
    runtime = _runtime(format, output)
    trained = read_model_folder(model_folder, folds, checkpoint_name)
    names = list(trained.folds) if folds else averaged_folds(list(trained.folds))
    networks = _networks(output, names, separate_folds)
    for target in [
        *(file.with_suffix(ending) for file in networks for ending in runtime.ENDINGS),
        output.with_name(PIPELINE),
    ]:
        check_target(target, overwrite)
    with refusals_of(model_folder):
        steps = read_postprocessing(model_folder, names)
        pipeline = pipeline_of(trained, {file.name: averaged for file, averaged in networks.items()}, steps)
    with TemporaryDirectory() as folder:
        for file, averaged in networks.items():
            _write_compared(runtime, trained, averaged, pipeline, Path(folder, file.name))
        Path(folder, PIPELINE).write_text(json.dumps(pipeline, indent=4), encoding="utf-8")
        return _moved(Path(folder), output.parent)


def _runtime(format: str, output: Path) -> ModuleType:
    check_name("a format for other runtimes", format, _RUNTIMES, parameters=["format"])
    ending = FORMATS[format].ending
    if output.suffix != ending:
        raise InputError(f"a file that ends with {ending}", output.name, parameters=["output", "format"])
    runtime = _RUNTIMES[format]
    missing = [package for package in runtime.PACKAGES if find_spec(package) is None]
    if missing:
        raise UnavailableError(
            f"{' and '.join(runtime.PACKAGES)}, which write and run {format} files",
            f"no {' and no '.join(missing)}",
            remedy=f"run: pip install 'nnunetv2_gsp[{format}]'",
        )
    return runtime


def _networks(output: Path, folds: Sequence[str], separate_folds: bool) -> dict[Path, list[str]]:
    """Return the folds that each file averages."""
    if separate_folds:
        return {output.with_stem(f"{output.stem}_fold_{fold}"): [fold] for fold in folds}
    return {output: list(folds)}


def _write_compared(
    runtime: ModuleType, trained: TrainedModel, folds: Sequence[str], pipeline: Mapping[str, Any], file: Path
) -> None:
    network = network_of(trained, folds)
    channels, patch_size = len(pipeline["channels"]), pipeline["sliding_window"]["patch_size"]
    patches = sample_patches(channels, patch_size)
    expected = {kind: _logits(network, patch) for kind, patch in patches.items()}
    with TemporaryDirectory() as folder:
        traced, tried = Path(folder, "traced.onnx"), Path(folder, file.name)
        prepare(network, (channels, *patch_size))
        onnx_runtime.trace(network, (channels, *patch_size), traced)
        runtime.write(traced, tried, {})
        predict = runtime.load(tried)
        parity = compared(
            expected,
            {kind: predict(patch) for kind, patch in patches.items()},
            has_regions=pipeline["regions_class_order"] is not None,
        )
        _log.info(
            "%s: logits differ from PyTorch's by %.1e of the largest, labels on %.4f %% of voxels",
            file.name,
            parity.logit_difference,
            100 * parity.label_difference,
        )
        runtime.write(traced, file, _notes(folds, parity))


def _logits(network: nn.Module, patches: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        logits: np.ndarray = network(torch.from_numpy(patches)).numpy()
    return logits


def _notes(folds: Sequence[str], parity: Parity) -> dict[str, str]:
    return {
        "nnunetv2_gsp": version("nnunetv2_gsp"),
        "torch": torch.__version__,
        "folds": " ".join(folds),
        "largest_logit_difference": f"{parity.logit_difference:.3g}",
        "different_labels": f"{parity.label_difference:.3g}",
    }


def _moved(made: Path, folder: Path) -> list[Path]:
    """Copy all files of a folder into another, none of them half; returns the copies."""
    with ExitStack() as all_or_none:
        copies = [folder / file.name for file in sorted(made.iterdir())]
        for copy in copies:
            shutil.copyfile(made / copy.name, all_or_none.enter_context(whole(copy)))
    return copies
