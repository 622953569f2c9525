"""How does a bundle become a model folder?"""
import json
import shlex
import tempfile
from pathlib import Path
from typing import Any

import torch
from nnunetv2.paths import nnUNet_results
from nnunetv2.utilities.dataset_name_id_conversion import convert_dataset_name_to_id, find_candidate_datasets
from safetensors.torch import load

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.sharing.bundle import DATASET, FINGERPRINT, PLANS, Bundle, open_bundle, weights_name
from nnunetv2_gsp.sharing.model import Model, check_weights, n_weight_bytes, with_aliases
from nnunetv2_gsp.sharing.refused import RefusedError, refusing

_HEADER_BYTES = 1_000_000  # of safetensors: names, types and places of the tensors


def import_model(file: Path) -> Path:
    """Make a model folder in nnUNet_results of a bundle; if anything in it is unsound, nothing is left behind.

    The folder serves every command that predicts, and -pretrained_weights. Training cannot go on from it (--c), nor be
    validated again (--val): the optimiser, the log and the epoch stayed where the model was trained.

    Returns:
        The model folder.

    Raises:
        InputError: nnUNet_results is no folder, the model or another dataset of its id is there, or the bundle is
            refused.
    """
    results = nnUNet_results.get()
    if not results or not Path(results).is_dir():
        raise InputError("Expected nnUNet_results to name the folder of the trained models, found none: export "
                         "nnUNet_results=/path/to/nnUNet_results")
    try:
        with open_bundle(file) as bundle:
            return _install(bundle, Path(results))
    except RefusedError as reason:
        raise InputError(f"{file} is not imported: {reason}.") from reason


def prediction_command(model_folder: Path) -> str:
    """Return the command line that predicts with what `import_model` wrote: all of its folds, and its checkpoint."""
    checkpoints = sorted(model_folder.glob("fold_*/*.pth"))
    folds = [checkpoint.parent.name.removeprefix("fold_") for checkpoint in checkpoints]
    return shlex.join(["nnUNetv2_predict_from_modelfolder", "-i", "IN", "-o", "OUT", "-m", str(model_folder),
                       "-f", *folds, "-chk", checkpoints[0].name])


def _install(bundle: Bundle, results: Path) -> Path:
    model = _model(bundle)
    _check_dataset_id(model.plans["dataset_name"])
    target = results / model.folder
    if target.exists():
        raise RefusedError(f"{target} exists and is not replaced; move it away first")
    # beside the target, so that the model appears as a whole or not at all
    with tempfile.TemporaryDirectory(prefix=".import_", dir=results) as unfinished:
        folder = Path(unfinished, target.name)
        folder.mkdir()
        _write_model_folder(bundle, model, folder)
        target.parent.mkdir(exist_ok=True)
        folder.rename(target)
    return target


def _model(bundle: Bundle) -> Model:
    manifest = bundle.manifest
    model = Model(manifest["trainer"], manifest["configuration"], bundle.read_json(PLANS), bundle.read_json(DATASET))
    for name in ("dataset", "plans"):
        if model.plans.get(f"{name}_name") != manifest[name]:
            raise RefusedError(f"its manifest has the {name} {manifest[name]!r}, its plans say "
                               f"{model.plans.get(f'{name}_name')!r}")
    return model


def _check_dataset_id(dataset: str) -> None:
    """Refuse a second dataset with an id that is in use: nnU-Net would know neither any longer by `-d ID`."""
    others = set(find_candidate_datasets(convert_dataset_name_to_id(dataset))) - {dataset}
    if others:
        raise RefusedError(f"{dataset} would share its id with {min(others)}, and nnU-Net could tell neither by it; "
                           f"import where nnUNet_raw, nnUNet_preprocessed and nnUNet_results have no other of that id")


def _write_model_folder(bundle: Bundle, model: Model, folder: Path) -> None:
    network = model.network()
    max_bytes = n_weight_bytes(network) + _HEADER_BYTES
    _write_json(folder / PLANS, model.plans)
    _write_json(folder / DATASET, model.dataset_json)
    if FINGERPRINT in bundle:
        _write_json(folder / FINGERPRINT, bundle.read_json(FINGERPRINT))
    for fold, about in bundle.manifest["folds"].items():
        with refusing(f"the weights of fold {fold} are unsound"):
            weights = load(bundle.read(weights_name(fold), max_bytes))
            check_weights(network, weights)
        axes = about["inference_allowed_mirroring_axes"]
        (folder / f"fold_{fold}").mkdir()
        torch.save({"network_weights": with_aliases(network, weights),
                    "trainer_name": model.trainer,
                    "init_args": {"configuration": model.configuration},
                    "inference_allowed_mirroring_axes": None if axes is None else tuple(map(int, axes))},
                   folder / f"fold_{fold}" / bundle.manifest["checkpoint"])


def _write_json(file: Path, content: dict[str, Any]) -> None:
    with refusing(f"{file.name} is nested too deeply"):
        text = json.dumps(content, indent=4)
    file.write_text(text, encoding="utf-8")
