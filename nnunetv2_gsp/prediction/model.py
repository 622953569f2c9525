"""Loads a trained model, from its folder or its bundle, ready to predict."""

import json
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.file_path_utilities import get_output_folder
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_gsp.errors import ConflictingInputError, DamagedFileError, InputError, MissingInputError
from nnunetv2_gsp.nnunet import FINAL_CHECKPOINT, averaged_folds, dataset_name, nnunet_folder
from nnunetv2_gsp.prediction.building import network_of
from nnunetv2_gsp.prediction.sliding_window import Predictor
from nnunetv2_gsp.sharing.bundle import DATASET, PLANS
from nnunetv2_gsp.sharing.importing import unpacked
from nnunetv2_gsp.sharing.model_folder import finished_folds


def load_predictor(
    model: Path,
    folds: Sequence[str | int] | None = None,
    checkpoint_name: str = FINAL_CHECKPOINT,
    *,
    device: str = "cpu",
    all_on_device: bool = True,
    step_size: float = 0.5,
    mirroring: bool = True,
) -> Predictor:
    """Load any model that nnU-Net trained.

    Args:
        model: model folder TRAINER__PLANS__CONFIGURATION, or the zip of an exported model.
        folds: numbers of folds, or "all" for the fold of that name; None takes each numbered fold that has the
            checkpoint, and the fold "all" where there is no other.
        checkpoint_name: name of the checkpoint's file in each fold's folder; a zip has a single one, which the default
            takes whatever its name is.
        device: "cpu", "cuda" or "mps".
        all_on_device: True keeps image and logits on the device, too, as long as they fit; no matter on the CPU.
        step_size: step from window to window, as a part of the patch size, above 0 and up to 1.
        mirroring: True averages over mirrored windows along the axes that the training mirrored.

    Raises:
        MissingInputError: there is no model, a fold lacks the checkpoint, or nnU-Net does not find the trainer.
        RefusedError: the zip is unsound.
        ConflictingInputError: the zip has another checkpoint than the one that is named.
        DamagedFileError: the model cannot be loaded.
    """
    settings = {"device": torch.device(device), "all_on_device": all_on_device, "step_size": step_size}
    if model.is_file():
        with unpacked(model) as folder:
            [bundled, *_] = sorted(file.name for file in folder.glob("fold_*/*.pth"))
            if checkpoint_name not in (FINAL_CHECKPOINT, bundled):
                raise ConflictingInputError(
                    f"{checkpoint_name} in the zip", bundled, where=model, parameters=["checkpoint_name"]
                )
            return _load(folder, folds, bundled, mirroring, settings)
    if model.is_dir():
        return _load(model, folds, checkpoint_name, mirroring, settings)
    raise MissingInputError("a model folder or an exported model", "none", where=model, parameters=["model"])


def trained_model(dataset: str, trainer: str, plans_name: str, configuration: str) -> Path:
    """Return the folder of a model in nnUNet_results, whether it is there or not.

    Args:
        dataset: name or id of the dataset.
        trainer: name of the trainer's class.
        plans_name: name of the plans.
        configuration: name of the configuration in the plans.

    Raises:
        ConflictingInputError: several datasets have that id.
        MissingInputError: nnUNet_results names no folder, or there is no such dataset.
    """
    nnunet_folder("nnUNet_results", must_exist=True)
    return Path(get_output_folder(dataset_name(dataset), trainer, plans_name, configuration))


def _load(
    folder: Path, folds: Sequence[str | int] | None, checkpoint_name: str, mirroring: bool, settings: dict[str, Any]
) -> Predictor:
    finished = finished_folds(folder, folds, checkpoint_name)
    chosen = finished if folds else averaged_folds(finished)
    checkpoints = [folder / f"fold_{fold}" / checkpoint_name for fold in chosen]
    try:
        with redirect_stdout(None):  # nnU-Net prints every module it looks at
            return _predictor(folder, checkpoints, mirroring, settings)
    except (InputError, OSError):
        raise
    except Exception as error:  # plans and checkpoints fail anywhere in nnU-Net and torch
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DamagedFileError("a model that loads", reason, where=folder, parameters=["model"]) from error


def _predictor(folder: Path, checkpoints: Sequence[Path], mirroring: bool, settings: dict[str, Any]) -> Predictor:
    plans, dataset_json = (json.loads((folder / name).read_text(encoding="utf-8")) for name in (PLANS, DATASET))
    first, *others = map(_what_predicts, checkpoints)
    plans_manager = PlansManager(plans)
    configuration = plans_manager.get_configuration(first["init_args"]["configuration"])
    network = network_of(first["trainer_name"], plans_manager, configuration, dataset_json)
    fold_weights = [checkpoint["network_weights"] for checkpoint in (first, *others)]
    for weights in fold_weights:
        network.load_state_dict(weights)
    if not others:
        fold_weights = [network.state_dict()]  # not a second time in memory
    axes = first.get("inference_allowed_mirroring_axes") if mirroring else None
    return Predictor(
        plans_manager,
        configuration,
        dataset_json,
        first["trainer_name"],
        network,
        fold_weights,
        axes or (),
        **settings,
    )


def _what_predicts(checkpoint: Path) -> dict[str, Any]:
    """Return what a prediction needs; the optimizer's state is as large as the weights."""
    content = torch.load(checkpoint, map_location="cpu", weights_only=False)
    names = ("trainer_name", "init_args", "network_weights", "inference_allowed_mirroring_axes")
    return {name: content[name] for name in names if name in content}
