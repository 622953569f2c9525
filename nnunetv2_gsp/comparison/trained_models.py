"""Pairs trained models by the predictions of nnU-Net's validation, and reads what the models cost.

The names of nnU-Net's files and folders stand here and in training_records.py.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from nnunetv2_gsp.comparison import training_records as records
from nnunetv2_gsp.comparison.costs import ModelCost
from nnunetv2_gsp.comparison.pairing import Contender, Pairing, check_distinct, common_labels
from nnunetv2_gsp.comparison.protocols import TrainingProtocol
from nnunetv2_gsp.comparison.training_records import LearningCurves
from nnunetv2_gsp.errors import ConflictingInputError, DamagedFileError, MissingInputError
from nnunetv2_gsp.metrics.cases import find_segmentations
from nnunetv2_gsp.metrics.region_labels import read_region_labels
from nnunetv2_gsp.nnunet import FINAL_CHECKPOINT, N_FOLDS, nnunet_folder
from nnunetv2_gsp.wording import first_few

FOLDS = tuple(map(str, range(N_FOLDS)))
ALL = "all"  # nnU-Net's fold that trains on every case, and validates every case


@dataclass(frozen=True)
class TrainedModel:
    """What nnU-Net's files tell of a trained model.

    Attributes:
        cost: what the model costs in parameters, time and memory.
        protocol: patch size, batch size, epochs, learning rate and devices of its training.
        curves: losses and pseudo Dice over epochs, an entry for each fold that logged them.
    """

    cost: ModelCost
    protocol: TrainingProtocol
    curves: list[LearningCurves]


def pair_trained_models(
    dataset: str,
    trainers: Sequence[str],
    *,
    configuration: str = "3d_fullres",
    plans_names: Sequence[str] = ("nnUNetPlans",),
    folds: Sequence[str] = FOLDS,
) -> Pairing:
    """Pair the trained models of a dataset by their validation predictions.

    Args:
        dataset: name or id of the dataset, as nnU-Net takes it.
        trainers: names of two or more trainers, the baseline's first.
        configuration: name of a configuration of the plans, such as 3d_fullres.
        plans_names: name of the plans, one for all trainers or one for each.
        folds: names of folds that every model has finished: "0", "1" and so on, or "all" alone.

    Raises:
        InputError: a model, a fold or a reference is missing, the models have different regions, or one did not
            validate the cases that splits_final.json lists.
    """
    from nnunetv2_gsp.plans import preprocessed_folder

    plans_names, folds = _plans_of_each(plans_names, trainers), list(dict.fromkeys(folds))
    preprocessed = preprocessed_folder(dataset)
    results = nnunet_folder("nnUNet_results") / preprocessed.name
    models = [
        results / f"{trainer}__{plans_name}__{configuration}"
        for trainer, plans_name in zip(trainers, plans_names, strict=True)
    ]
    check_distinct([model.name for model in models], ["trainers", "plans_names"])
    references = find_segmentations(preprocessed / "gt_segmentations")
    expected = _validation_cases(preprocessed / "splits_final.json", folds, references)
    names = [
        f"{trainer}, {plans_name}" if len(set(plans_names)) > 1 else trainer
        for trainer, plans_name in zip(trainers, plans_names, strict=True)
    ]
    contenders = [_contender(model, name, configuration, expected) for model, name in zip(models, names, strict=True)]
    fold_of = dict(sorted((case, fold) for fold, cases in expected.items() for case in cases))
    return Pairing(
        contenders,
        {case: references[case] for case in fold_of},
        fold_of,
        common_labels([read_region_labels(model / "dataset.json") for model in models]),
        _training_images(preprocessed.name),
        f"{preprocessed.name}, {configuration}, validation of fold{'s' * (len(folds) > 1)} {', '.join(folds)}",
    )


def read_trained_model(model: Path, configuration: str, folds: Sequence[str]) -> TrainedModel:
    """Read cost, protocol and learning curves of a trained model from nnU-Net's files.

    Args:
        model: model folder TRAINER__PLANS__CONFIGURATION.
        configuration: name of a configuration of the plans, such as 3d_fullres.
        folds: names of the folds to read: "0", "1" and so on, or "all".

    Raises:
        DamagedFileError: the plans or a final checkpoint can't be read.
    """
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    try:
        plans = PlansManager(str(model / "plans.json"))
        planned = plans.get_configuration(configuration).configuration
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise DamagedFileError(
            f"plans with the configuration {configuration}",
            "none that can be read",
            where=model / "plans.json",
            remedy="train the model again",
            parameters=["configuration"],
        ) from error
    fold_folders = {fold: model / f"fold_{fold}" for fold in folds}
    checkpoints = {
        fold: folder / FINAL_CHECKPOINT
        for fold, folder in fold_folders.items()
        if (folder / FINAL_CHECKPOINT).is_file()
    }
    read = {fold: records.read_checkpoint(file) for fold, file in checkpoints.items()}
    logs = {fold: log for fold, (_, log) in read.items()}
    parameters = next((n_parameters for n_parameters, _ in read.values()), None)
    cost = ModelCost(
        parameters,
        _macs(model, plans, configuration, parameters),
        records.known_median([records.epoch_seconds(log) for log in logs.values()]),
        records.known_median([records.prediction_seconds(folder) for folder in fold_folders.values()]),
        max(filter(None, map(records.gpu_memory_gib, fold_folders.values())), default=None),
        next((file.stat().st_size for file in checkpoints.values()), None),
    )
    return TrainedModel(
        cost,
        _protocol(planned, list(logs.values()), list(fold_folders.values())),
        list(filter(None, (records.learning_curves(fold, log) for fold, log in logs.items()))),
    )


def _plans_of_each(plans_names: Sequence[str], trainers: Sequence[str]) -> list[str]:
    if len(plans_names) not in (1, len(trainers)):
        raise ConflictingInputError(
            f"plans for all trainers, or one for each of {len(trainers)}",
            str(len(plans_names)),
            parameters=["plans_names"],
        )
    return list(plans_names) * (len(trainers) if len(plans_names) == 1 else 1)


def _contender(model: Path, name: str, configuration: str, expected: Mapping[str, frozenset[str]]) -> Contender:
    if not model.is_dir():
        raise MissingInputError(
            "a trained model",
            "none",
            where=model,
            remedy="train it",
            parameters=["trainers", "plans_names", "configuration"],
        )
    predictions: dict[str, Path] = {}
    for fold, cases in expected.items():
        folder = model / f"fold_{fold}" / "validation"
        if not folder.is_dir():
            raise MissingInputError(
                f"the validation of fold {fold}",
                "none",
                where=folder,
                remedy=f"finish the training of fold {fold} (nnUNetv2_train with --c, or --val)",
                parameters=["folds"],
            )
        found = find_segmentations(folder)
        _check_validated(set(found), cases, folder)
        predictions.update(found)
    read = read_trained_model(model, configuration, list(expected))
    return Contender(name, predictions, read.cost, read.protocol, read.curves)


def _validation_cases(
    splits_file: Path, folds: Sequence[str], references: Mapping[str, Path]
) -> dict[str, frozenset[str]]:
    """Return fold -> the cases that it validates; the fold "all" validates all."""
    if ALL in folds:
        if len(folds) > 1:
            raise ConflictingInputError(
                "the fold all alone, since it validates every case", ", ".join(folds), parameters=["folds"]
            )
        return {ALL: frozenset(references)}
    try:
        splits = json.loads(splits_file.read_text(encoding="utf-8"))
        expected = {fold: frozenset(splits[int(fold)]["val"]) for fold in folds}
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise MissingInputError(
            f"a split with the folds {', '.join(folds)}",
            "none that can be read",
            where=splits_file,
            parameters=["folds"],
        ) from error
    twice = sorted(case for case, n in Counter(chain(*expected.values())).items() if n > 1)
    if twice:
        raise ConflictingInputError(
            "folds that validate each case once",
            f"several predictions of {first_few(twice)}",
            where=splits_file,
            remedy="compare fold by fold",
            parameters=["folds"],
        )
    missing = frozenset().union(*expected.values()) - set(references)
    if missing:
        raise MissingInputError(
            "references of all validation cases",
            f"none of {first_few(sorted(missing))}",
            where=splits_file.parent / "gt_segmentations",
            remedy="copy what is missing from the dataset's labelsTr",
        )
    return expected


def _check_validated(found: set[str], expected: frozenset[str], folder: Path) -> None:
    if found != expected:
        sides = [
            f"{words} {first_few(sorted(cases))}"
            for words, cases in (("lacks", expected - found), ("has besides", found - expected))
            if cases
        ]
        raise ConflictingInputError(
            "the validation cases of splits_final.json",
            f"a folder that {' and '.join(sides)}",
            where=folder,
            remedy="compare only models of the same splits, and finish their validation",
        )


def _training_images(dataset_name: str) -> Path | None:
    """Return the folder of the dataset's images; None if nnUNet_raw is not set or lacks them."""
    try:
        images = nnunet_folder("nnUNet_raw") / dataset_name / "imagesTr"
    except MissingInputError:
        return None
    return images if images.is_dir() else None


def _protocol(planned: Mapping[str, Any], logs: Sequence[records.Log], folders: Sequence[Path]) -> TrainingProtocol:
    patch_size = planned.get("patch_size")
    epochs = tuple(filter(None, map(records.n_epochs, logs)))
    learning_rates = tuple(filter(None, map(records.learning_rate, logs)))
    devices = tuple(dict.fromkeys(filter(None, map(records.training_device, folders))))
    return TrainingProtocol(
        tuple(patch_size) if isinstance(patch_size, list) else None,
        planned.get("batch_size"),
        epochs or None,
        learning_rates or None,
        devices or None,
    )


def _macs(model: Path, plans: Any, configuration: str, parameters: int | None) -> int | None:
    """Count the MACs of the network that the plans name; None if the checkpoint holds another network."""
    from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels

    from nnunetv2_gsp.counting import count_architecture

    try:
        dataset = json.loads((model / "dataset.json").read_text(encoding="utf-8"))
        manager = plans.get_configuration(configuration)
        counted, macs = count_architecture(
            manager.configuration["architecture"],
            manager.patch_size,
            determine_num_input_channels(plans, manager, dataset),
            plans.get_label_manager(dataset).num_segmentation_heads,
        )
    except Exception:  # odd files go uncounted, and a network of some other package with needs of its own
        return None
    return macs if counted == parameters else None
