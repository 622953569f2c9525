"""Makes a bundle of a trained model."""

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors.torch import save

from nnunetv2_gsp.files import check_target
from nnunetv2_gsp.nnunet import FINAL_CHECKPOINT
from nnunetv2_gsp.sharing.bundle import DATASET, FINGERPRINT, PLANS, weights_name, write_bundle
from nnunetv2_gsp.sharing.model_folder import TrainedModel, read_model_folder
from nnunetv2_gsp.sharing.refused import refusals_of


def export_model(
    model_folder: Path,
    output: Path,
    folds: Sequence[str | int] | None = None,
    checkpoint_name: str = FINAL_CHECKPOINT,
    overwrite: bool = False,
) -> Path:
    """Write the bundle of a trained GSP model, with all that prediction needs; no pickle, optimiser, log or path.

    Args:
        model_folder: model folder TRAINER__PLANS__CONFIGURATION in nnUNet_results/DATASET.
        output: zip file to write; missing folders above it are created.
        folds: numbers of folds, or "all" for the fold of that name; None takes every fold that has the checkpoint.
        checkpoint_name: name of the checkpoint's file in each fold's folder.
        overwrite: True replaces an existing file of that name.

    Returns:
        The file of the bundle.

    Raises:
        TargetExistsError: the bundle exists, and is not to be replaced.
        InputError: the bundle can't be written there, or the folds come from several trainers.
        MissingInputError: a fold lacks the checkpoint, or the folder holds no model.
        RefusedError: the folder does not hold a sound GSP model.
    """
    check_target(output, overwrite)
    trained = read_model_folder(model_folder, folds, checkpoint_name)
    with refusals_of(model_folder):
        write_bundle(output, _about(trained, checkpoint_name), _contents(trained))
    return output


def _about(trained: TrainedModel, checkpoint_name: str) -> dict[str, Any]:
    """Return the manifest without format and checksums."""
    return {
        "versions": {package: version(package) for package in ("nnunetv2_gsp", "nnunetv2", "torch")},
        "dataset": trained.model.plans["dataset_name"],
        "trainer": trained.model.trainer,
        "plans": trained.model.plans["plans_name"],
        "configuration": trained.model.configuration,
        "checkpoint": checkpoint_name,
        "folds": {
            name: {"inference_allowed_mirroring_axes": fold.mirroring_axes} for name, fold in trained.folds.items()
        },
    }


def _contents(trained: TrainedModel) -> dict[str, bytes]:
    contents = {PLANS: _to_json(trained.model.plans), DATASET: _to_json(trained.model.dataset_json)}
    if trained.fingerprint is not None:
        contents[FINGERPRINT] = _to_json(trained.fingerprint)
    return {**contents, **{weights_name(name): save(fold.weights) for name, fold in trained.folds.items()}}


def _to_json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
