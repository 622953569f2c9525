"""Prepares the preprocessed data and nnU-Net's split before trainings start together."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.crossval_split import generate_crossval_split
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_gsp.files import beside, write_json
from nnunetv2_gsp.nnunet import preprocess_command, run_to_its_end


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
