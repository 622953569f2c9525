"""Makes a model folder from a bundle."""

import json
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.dataset_name_id_conversion import convert_dataset_name_to_id, find_candidate_datasets
from safetensors.torch import load

from nnunetv2_gsp.errors import ConflictingInputError
from nnunetv2_gsp.files import check_target
from nnunetv2_gsp.nnunet import averaged_folds, nnunet_folder
from nnunetv2_gsp.sharing.bundle import DATASET, FINGERPRINT, PLANS, Bundle, open_bundle, weights_name
from nnunetv2_gsp.sharing.model import Model, check_weights, n_weight_bytes, with_aliases
from nnunetv2_gsp.sharing.refused import RefusedError, refusals_of, refusing

_HEADER_BYTES = 1_000_000  # of safetensors: names, types and places of the tensors


def import_model(file: Path) -> Path:
    """Make a model folder in nnUNet_results from a bundle; nothing is left behind if the bundle is unsound.

    The folder serves every command that predicts, and -pretrained_weights. Training cannot be continued from it (--c),
    nor validated again (--val), as optimiser, log and epoch are not part of a bundle.

    Args:
        file: bundle that `export_model`, or anybody else, wrote.

    Returns:
        The new model folder.

    Raises:
        MissingInputError: the file does not exist, or nnUNet_results names no folder.
        TargetExistsError: the model folder exists already.
        ConflictingInputError: another dataset has the same id.
        RefusedError: the bundle is unsound.
    """
    results = nnunet_folder("nnUNet_results", must_exist=True)
    with refusals_of(file), open_bundle(file) as bundle:
        return _install(bundle, results)


@contextmanager
def unpacked(file: Path) -> Iterator[Path]:
    """Yield a model folder that is made from a bundle, and removed when the block ends.

    Args:
        file: bundle that `export_model`, or anybody else, wrote.

    Raises:
        MissingInputError: the file does not exist.
        RefusedError: the bundle is unsound.
    """
    with tempfile.TemporaryDirectory(prefix="model_") as folder:
        with refusals_of(file), open_bundle(file) as bundle:
            _write_model_folder(bundle, _model(bundle), Path(folder))
        yield Path(folder)


def prediction_command(model_folder: Path) -> str:
    """Return nnU-Net's command line that predicts with an imported model, with the folds that its zip predicts with.

    Args:
        model_folder: model folder as `import_model` returned it.

    Examples:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, "fold_0").mkdir()
        ...     Path(folder, "fold_0", "checkpoint_final.pth").touch()
        ...     prediction_command(Path(folder))
        'nnUNetv2_predict_from_modelfolder -i IN -o OUT -m ... -f 0 -chk checkpoint_final.pth'
    """
    checkpoints = sorted(model_folder.glob("fold_*/*.pth"))
    folds = [checkpoint.parent.name.removeprefix("fold_") for checkpoint in checkpoints]
    return shlex.join(
        [
            "nnUNetv2_predict_from_modelfolder",
            "-i",
            "IN",
            "-o",
            "OUT",
            "-m",
            str(model_folder),
            "-f",
            *averaged_folds(folds),
            "-chk",
            checkpoints[0].name,
        ]
    )


def _install(bundle: Bundle, results: Path) -> Path:
    model = _model(bundle)
    _check_dataset_id(model.plans["dataset_name"])
    target = results / model.folder
    check_target(target, overwrite=False, is_folder=True, parameters=())
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
            raise RefusedError(
                f"plans of the {name} in the manifest, {manifest[name]!r}",
                repr(model.plans.get(f"{name}_name")),
                where=PLANS,
            )
    return model


def _check_dataset_id(dataset: str) -> None:
    """Refuse a dataset whose id another one has, as nnU-Net's `-d ID` could then find neither."""
    others = set(find_candidate_datasets(convert_dataset_name_to_id(dataset))) - {dataset}
    if others:
        raise ConflictingInputError(
            f"an id that no other dataset has for {dataset}",
            min(others),
            remedy="import it where nnUNet_raw, nnUNet_preprocessed and nnUNet_results have no other of that id",
        )


def _write_model_folder(bundle: Bundle, model: Model, folder: Path) -> None:
    network = model.network()
    max_bytes = n_weight_bytes(network) + _HEADER_BYTES
    _write_json(folder / PLANS, model.plans)
    _write_json(folder / DATASET, model.dataset_json)
    if FINGERPRINT in bundle:
        _write_json(folder / FINGERPRINT, bundle.read_json(FINGERPRINT))
    for fold, about in bundle.manifest["folds"].items():
        with refusals_of(f"fold_{fold}"), refusing("sound weights"):
            weights = load(bundle.read(weights_name(fold), max_bytes))
            check_weights(network, weights)
        axes = about["inference_allowed_mirroring_axes"]
        (folder / f"fold_{fold}").mkdir()
        checkpoint = {
            "network_weights": with_aliases(network, weights),
            "trainer_name": model.trainer,
            "init_args": {"configuration": model.configuration},
            "inference_allowed_mirroring_axes": None if axes is None else tuple(map(int, axes)),
        }
        file = folder / f"fold_{fold}" / bundle.manifest["checkpoint"]
        try:
            torch.save(checkpoint, file)
        except RuntimeError as error:  # torch raises no other type on a full disk
            raise OSError(f"{file}: expected to write weights, got an error, most likely for want of space") from error


def _write_json(file: Path, content: dict[str, Any]) -> None:
    with refusals_of(file.name), refusing("JSON that is nested less deeply"):
        text = json.dumps(content, indent=4)
    file.write_text(text, encoding="utf-8")
