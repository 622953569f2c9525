"""Reads the folder of a trained model, which may be a stranger's, without running code from it."""

import codecs
import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_gsp.architectures.from_plans import gsp_architecture, is_gsp
from nnunetv2_gsp.errors import ConflictingInputError, MissingInputError
from nnunetv2_gsp.nnunet import FINAL_CHECKPOINT, folds_with
from nnunetv2_gsp.sharing.bundle import DATASET, FINGERPRINT, PLANS
from nnunetv2_gsp.sharing.model import Model, without_aliases
from nnunetv2_gsp.sharing.refused import RefusedError, check_object, refusals_of, refusing

_LISTS_OF_CASES = ("dataset", "training", "test")  # in a dataset.json, with the paths of this machine


@dataclass(frozen=True)
class Fold:
    """What nnU-Net's checkpoint of a fold holds for prediction.

    Attributes:
        weights: first name of each tensor in the network -> tensor on the CPU.
        mirroring_axes: spatial axes, from 0 on, that test-time augmentation flips; None for no such augmentation.
    """

    weights: dict[str, torch.Tensor]
    mirroring_axes: list[int] | None


@dataclass(frozen=True)
class TrainedModel:
    """A trained GSP model, checked.

    Attributes:
        model: plans with this configuration alone and every setting of the network, dataset.json, and names.
        folds: name of each fold, such as "0" or "all" -> its weights.
        fingerprint: content of dataset_fingerprint.json; None without that file.
    """

    model: Model
    folds: dict[str, Fold]
    fingerprint: dict[str, Any] | None


@dataclass(frozen=True)
class _Checkpoint:
    trainer: str
    configuration: str
    mirroring_axes: list[int] | None
    weights: dict[str, torch.Tensor]


def read_model_folder(
    model_folder: Path, folds: Sequence[str | int] | None = None, checkpoint_name: str = FINAL_CHECKPOINT
) -> TrainedModel:
    """Read what prediction needs of a trained GSP model, and check it.

    Args:
        model_folder: model folder TRAINER__PLANS__CONFIGURATION in nnUNet_results/DATASET.
        folds: numbers of folds, or "all" for the fold of that name; None takes every fold that has the checkpoint.
        checkpoint_name: name of the checkpoint's file in each fold's folder.

    Raises:
        MissingInputError: a fold lacks the checkpoint, or the folder holds no model.
        ConflictingInputError: the folds come from several trainers or configurations.
        RefusedError: the folder does not hold a sound GSP model.
    """
    with refusals_of(model_folder):
        return _checked(model_folder, finished_folds(model_folder, folds, checkpoint_name), checkpoint_name)


def _checked(model_folder: Path, folds: Sequence[str], checkpoint_name: str) -> TrainedModel:
    checkpoints = {fold: _checkpoint(model_folder / f"fold_{fold}" / checkpoint_name) for fold in folds}
    [(trainer, configuration), *others] = {
        (checkpoint.trainer, checkpoint.configuration) for checkpoint in checkpoints.values()
    }
    if others:
        raise ConflictingInputError(
            "folds of one trainer and configuration", "several", where=model_folder, parameters=["folds"]
        )
    dataset_json = {
        key: value for key, value in _read_json(model_folder / DATASET).items() if key not in _LISTS_OF_CASES
    }
    model = Model(trainer, configuration, _resolved(_read_json(model_folder / PLANS), configuration), dataset_json)
    network = model.network()
    fingerprint = _read_json(model_folder / FINGERPRINT) if (model_folder / FINGERPRINT).is_file() else None
    checked = {}
    for fold, checkpoint in checkpoints.items():
        with refusals_of(f"fold_{fold}"), refusing("sound weights"):
            checked[fold] = Fold(without_aliases(network, checkpoint.weights), checkpoint.mirroring_axes)
    return TrainedModel(model, checked, fingerprint)


def finished_folds(model_folder: Path, folds: Sequence[str | int] | None, checkpoint_name: str) -> list[str]:
    """Return the names of folds that have a checkpoint, and check that the chosen ones do.

    Args:
        model_folder: model folder TRAINER__PLANS__CONFIGURATION in nnUNet_results/DATASET.
        folds: numbers of folds, or "all" for the fold of that name; None takes those that have the checkpoint.
        checkpoint_name: name of the checkpoint's file in each fold's folder.

    Raises:
        MissingInputError: a fold lacks the checkpoint, or the folder holds no model.
    """
    if not (model_folder / PLANS).is_file():
        raise MissingInputError(
            f"the {PLANS} of a trained model",
            "none",
            where=model_folder,
            remedy="name TRAINER__PLANS__CONFIGURATION in nnUNet_results/DATASET",
        )
    finished = folds_with(checkpoint_name, model_folder)
    chosen = list(dict.fromkeys(map(str, folds))) if folds else finished
    for fold in chosen:
        if fold not in finished:
            others = f" (folds that have one: {', '.join(finished)})" if finished else ""
            raise MissingInputError(
                f"{checkpoint_name} in fold {fold}",
                f"none{others}",
                where=model_folder,
                remedy="train it to its end",
                parameters=["folds", "checkpoint_name"],
            )
    if not chosen:
        raise MissingInputError(
            f"{checkpoint_name} in a fold",
            "none in any",
            where=model_folder,
            remedy="train one to its end",
            parameters=["checkpoint_name"],
        )
    return chosen


def _resolved(plans: dict[str, Any], configuration: str) -> dict[str, Any]:
    """Return plans with this configuration alone, its inheritance resolved and all settings of the network explicit."""
    with refusals_of(PLANS), refusing("plans of a GSP network"):
        alone = PlansManager(deepcopy(plans)).get_configuration(configuration).configuration
        if not is_gsp(alone["architecture"]):
            raise RefusedError(
                "a GSP network",
                alone["architecture"]["network_class_name"],
                remedy="export it with nnUNetv2_export_model_to_zip",
            )
        alone.pop("inherits_from", None)
        architecture = gsp_architecture(alone["architecture"], alone["patch_size"])
    return {**plans, "configurations": {configuration: {**alone, "architecture": architecture}}}


def _checkpoint(file: Path) -> _Checkpoint:
    """Load nnU-Net's checkpoint without running code from it, as the folder may be a stranger's."""
    where = f"{file.parent.name}/{file.name}"
    torch.serialization.add_safe_globals(_numbers_of_numpy())
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        axes = content.get("inference_allowed_mirroring_axes")
        checkpoint = _Checkpoint(
            content["trainer_name"],
            content["init_args"]["configuration"],
            None if axes is None else list(axes),
            content["network_weights"],
        )
    except Exception as error:  # not shown: torch advises to load the file in the way that runs its code
        raise RefusedError(
            "the tensors, texts and numbers of nnU-Net's checkpoints alone",
            "a damaged checkpoint, or one that holds more",
            where=where,
        ) from error
    if not isinstance(checkpoint.trainer, str) or not isinstance(checkpoint.configuration, str):
        raise RefusedError(
            "the names of a trainer and a configuration",
            f"{checkpoint.trainer!r} and {checkpoint.configuration!r}",
            where=where,
        )
    return checkpoint


@cache
def _numbers_of_numpy() -> list[Any]:
    """Return the functions that unpickle numpy scalars, which nnU-Net's log holds, under numpy 1's and 2's names."""
    unpickle = np.float64(0).__reduce__()[0]

    def named(module: str) -> Any:
        def scalar(*arguments: Any) -> Any:
            return unpickle(*arguments)

        scalar.__module__, scalar.__qualname__ = module, "scalar"
        return scalar

    return [
        codecs.encode,
        np.dtype,
        *(type(np.dtype(code)) for code in "?efdilq"),
        named("numpy.core.multiarray"),
        named("numpy._core.multiarray"),
    ]


def _read_json(file: Path) -> dict[str, Any]:
    with refusals_of(file.name):
        with refusing("JSON"):
            content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        check_object(content)
    return content
