"""Loads a trained model, from its folder or its bundle, ready to predict."""

from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import torch
from nnunetv2.utilities.file_path_utilities import get_output_folder

from nnunetv2_gsp.errors import DamagedFileError, MissingInputError
from nnunetv2_gsp.nnunet import nnunet_folder
from nnunetv2_gsp.prediction.sliding_window import Predictor
from nnunetv2_gsp.sharing.importing import unpacked
from nnunetv2_gsp.sharing.model_folder import averaged_folds, finished_folds


def load_predictor(
    model: Path,
    folds: Sequence[str | int] | None = None,
    checkpoint_name: str = "checkpoint_final.pth",
    *,
    device: str = "cpu",
    step_size: float = 0.5,
    mirroring: bool = True,
) -> Predictor:
    """Load any model that nnU-Net trained.

    Args:
        model: model folder TRAINER__PLANS__CONFIGURATION, or the zip of an exported model.
        folds: numbers of folds, or "all" for the fold of that name; None takes each numbered fold that has the
            checkpoint, and the fold "all" where there is no other.
        checkpoint_name: name of the checkpoint's file in each fold's folder; a zip has a single one.
        device: "cpu", "cuda" or "mps".
        step_size: step from window to window, as a part of the patch size, above 0 and up to 1.
        mirroring: True averages over mirrored windows along the axes that the training mirrored.

    Raises:
        MissingInputError: there is no model, or a fold lacks the checkpoint.
        RefusedError: the zip is unsound.
        DamagedFileError: the model cannot be loaded.
    """
    with redirect_stdout(None):  # nnU-Net prints what it does not do, and every module it looks at
        predictor = Predictor(
            tile_step_size=step_size,
            use_mirroring=mirroring,
            perform_everything_on_device=device != "cpu",
            device=torch.device(device),
            allow_tqdm=False,
        )
    if model.is_file():
        with unpacked(model) as folder:
            _load(predictor, folder, folds, next(folder.glob("fold_*/*.pth")).name)
    elif model.is_dir():
        _load(predictor, model, folds, checkpoint_name)
    else:
        raise MissingInputError("a model folder or an exported model", "none", where=model, parameters=["model"])
    return predictor


def trained_model(dataset: str, trainer: str, plans_name: str, configuration: str) -> Path:
    """Return the folder of a model in nnUNet_results, whether it is there or not.

    Args:
        dataset: name or id of the dataset.
        trainer: name of the trainer's class.
        plans_name: name of the plans.
        configuration: name of the configuration in the plans.

    Raises:
        MissingInputError: nnUNet_results names no folder, or there is no such dataset.
    """
    nnunet_folder("nnUNet_results", must_exist=True)
    try:
        return Path(get_output_folder(dataset, trainer, plans_name, configuration))
    except (RuntimeError, ValueError) as error:
        raise MissingInputError(
            f"a dataset {dataset} in one of nnU-Net's folders", "none", parameters=["dataset"]
        ) from error


def _load(predictor: Predictor, folder: Path, folds: Sequence[str | int] | None, checkpoint_name: str) -> None:
    finished = finished_folds(folder, folds, checkpoint_name)
    chosen = finished if folds else averaged_folds(finished)
    try:
        with redirect_stdout(None):
            predictor.initialize_from_trained_model_folder(str(folder), chosen, checkpoint_name)
    except OSError:
        raise
    except Exception as error:  # plans and checkpoints fail anywhere in nnU-Net and torch
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DamagedFileError("a model that loads", reason, where=folder, parameters=["model"]) from error
