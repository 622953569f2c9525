"""Checks and prepares what trainings need before they start together: plans, trainers, data and nnU-Net's split."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.crossval_split import generate_crossval_split
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_gsp.errors import ConflictingInputError, DamagedFileError, InputError
from nnunetv2_gsp.files import beside, write_json
from nnunetv2_gsp.nnunet import N_FOLDS, preprocess_command, run_to_its_end
from nnunetv2_gsp.plans import effective_configurations, load_plans


def check_plans_of_these_names(dataset: Path, plans: Mapping[str, dict[str, Any]], configuration: str) -> None:
    """Check that plans which exist already under these names train the same.

    Args:
        dataset: the dataset's folder below nnUNet_preprocessed.
        plans: name of the plans -> content that is to be trained.
        configuration: name of the configuration that is to be trained.

    Raises:
        ConflictingInputError: plans of such a name have other settings.
    """
    for name, content in plans.items():
        file = dataset / f"{name}.json"
        if file.is_file() and trained_part(load_plans(dataset, name), configuration) != trained_part(
            content, configuration
        ):
            raise ConflictingInputError(
                "the plans that are to be trained",
                "plans with other settings",
                where=file,
                remedy="move them away, with the results trained from them",
            )


def trained_part(plans: dict[str, Any], configuration: str) -> dict[str, Any]:
    """Return the part of plans that a training depends on, without other configurations and their origin.

    Args:
        plans: content of a plans file; it is not changed.
        configuration: name of the configuration that is trained.

    Examples:
        >>> small = {"patch_size": [64, 64], "batch_size": 2, "data_identifier": "2d", "architecture": {}}
        >>> sorted(trained_part({"plans_name": "mine", "gsp_template": {}, "configurations": {"2d": small}}, "2d"))
        ['configuration', 'plans_name']
    """
    effective = effective_configurations(plans).get(configuration, {})
    about_all = {key: value for key, value in plans.items() if key not in ("gsp_template", "configurations")}
    as_read: dict[str, Any] = json.loads(json.dumps({**about_all, "configuration": {**effective, "next_stage": None}}))
    return as_read


def check_number_of_cases(dataset: Path, dataset_json: Mapping[str, Any]) -> None:
    """Check that nnU-Net can split the cases into folds, unless there is a split.

    Args:
        dataset: the dataset's folder below nnUNet_preprocessed.
        dataset_json: content of the dataset.json.

    Raises:
        DamagedFileError: the dataset.json does not say how many cases there are.
        InputError: there are fewer cases than folds.
    """
    if (dataset / "splits_final.json").is_file():
        return
    n_cases = dataset_json.get("numTraining")
    if not isinstance(n_cases, int):
        raise DamagedFileError(
            "numTraining, the number of cases",
            str(n_cases),
            where=dataset / "dataset.json",
            remedy="write it there, and into the one in nnUNet_raw",
        )
    if n_cases < N_FOLDS:
        raise InputError(
            f"at least {N_FOLDS} training cases for nnU-Net's split",
            str(n_cases),
            where=dataset.name,
            remedy="add cases, or write a splits_final.json yourself",
        )


def prepare(dataset: Path, plans: Mapping[str, dict[str, Any]], configuration: str) -> None:
    """Write the plans that are missing, preprocess the data that these plans lack, and split.

    Args:
        dataset: the dataset's folder below nnUNet_preprocessed.
        plans: name of the plans -> content that is to be trained, at least one.
        configuration: name of the configuration that is to be trained.

    Raises:
        InputError: preprocessing failed.
    """
    for name, content in plans.items():
        if not (dataset / f"{name}.json").is_file():
            write_json(content, dataset / f"{name}.json")
    for folder, command in due_preprocessing(dataset, plans, configuration).items():
        preprocess(folder, command)
    split(dataset, next(iter(plans.values())), configuration)


def due_preprocessing(dataset: Path, plans: Mapping[str, dict[str, Any]], configuration: str) -> dict[Path, list[str]]:
    """Return nnU-Net's command for each folder of preprocessed data that is missing; plans share folders.

    Args:
        dataset: the dataset's folder below nnUNet_preprocessed.
        plans: name of the plans -> their content.
        configuration: name of a configuration that all of these plans have.
    """
    folders = {_data(dataset, content, configuration): name for name, content in plans.items()}
    return {
        folder: preprocess_command(dataset.name, name, configuration)
        for folder, name in folders.items()
        if not folder.is_dir() or beside(folder).exists()
    }


def preprocess(folder: Path, command: list[str]) -> None:
    """Let nnU-Net preprocess into a folder; an unfinished folder counts as missing.

    Args:
        folder: folder of preprocessed data, a key of the result of `due_preprocessing`.
        command: nnU-Net's command line that fills the folder.

    Raises:
        InputError: nnU-Net's command failed.
    """
    beside(folder).touch()
    run_to_its_end(command)
    beside(folder).unlink()


def split(dataset: Path, plans: dict[str, Any], configuration: str) -> None:
    """Write nnU-Net's split where it is missing, as trainings that start together would write it at the same time.

    Args:
        dataset: the dataset's folder below nnUNet_preprocessed.
        plans: content of plans whose data are preprocessed.
        configuration: name of the configuration that was preprocessed.
    """
    file = dataset / "splits_final.json"
    if not file.is_file():
        folder = str(_data(dataset, plans, configuration))
        write_json(generate_crossval_split(sorted(infer_dataset_class(folder).get_identifiers(folder))), file)


def _data(dataset: Path, plans: dict[str, Any], configuration: str) -> Path:
    return dataset / str(PlansManager(plans).get_configuration(configuration).data_identifier)
