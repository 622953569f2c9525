"""A dataset's plans -> that dataset's GSP plans, which stock trainers take with `-p`."""
import json
import os
from copy import deepcopy
from pathlib import Path
from typing import Any

from nnunetv2_gsp.errors import InputError


def write_gsp_plans(dataset: str, plans_name: str = "nnUNetPlans", output_name: str = "nnUNetGSPPlans",
                    overwrite: bool = False) -> Path:
    """Write plans that name `GSPUNet`, with resolved settings, beside the dataset's own.

    The data identifiers stay, so what is preprocessed is used again.

    Args:
        dataset: name or id, as nnU-Net takes it.
        plans_name: the plans to start from (PlainConvUNet or ResidualEncoderUNet).
        output_name: name of the new plans.
        overwrite: replace plans of that name.

    Returns:
        The new file.

    Raises:
        InputError: a folder variable is not set, the dataset was not planned, or the new plans exist.
    """
    folder = _preprocessed_folder(dataset)
    source, target = folder / f"{plans_name}.json", folder / f"{output_name}.json"
    if not source.is_file():
        raise InputError(f"Expected the plans {source}, found no such file; run nnUNetv2_plan_and_preprocess -d "
                         f"{dataset}, or name other plans with -p.")
    if target.exists() and (target == source or not overwrite):
        raise InputError(f"{target} exists and is not replaced; choose another name with -o"
                         f"{'' if target == source else ', or replace it with --overwrite'}.")
    plans = gsp_plans(json.loads(source.read_text()), output_name)
    unfinished = target.with_suffix(".json.part")
    unfinished.write_text(json.dumps(plans, indent=4))
    os.replace(unfinished, target)
    return target


def gsp_plans(plans: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a copy of nnU-Net plans, called `name`, in which every configuration names a resolved GSP network.

    Raises:
        InputError: a configuration's network has no GSP counterpart, or its strides do not divide its patch.
    """
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnunetv2_gsp.architectures.from_plans import gsp_architecture

    stock = PlansManager(deepcopy(plans))
    resolved = {**deepcopy(plans), "plans_name": name}
    for configuration_name in stock.available_configurations:
        configuration = stock.get_configuration(configuration_name)
        try:
            architecture = gsp_architecture(configuration.configuration["architecture"], configuration.patch_size)
        except (ValueError, NotImplementedError) as error:
            raise InputError(f"Configuration {configuration_name}: {error}") from error
        resolved["configurations"][configuration_name]["architecture"] = architecture
    return resolved


def _preprocessed_folder(dataset: str) -> Path:
    from nnunetv2.paths import nnUNet_preprocessed
    from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name

    if not nnUNet_preprocessed.is_set():
        raise InputError("nnUNet_preprocessed is not set; export it as nnU-Net's documentation/setting_up_paths.md "
                         "describes.")
    try:
        name = maybe_convert_to_dataset_name(dataset)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"Expected the name or id of a dataset below nnU-Net's folders, got {dataset}; "
                         f"nnUNet_preprocessed is {nnUNet_preprocessed}.") from error
    folder = Path(str(nnUNet_preprocessed)) / name
    if not folder.is_dir():
        raise InputError(f"Expected the planned dataset {folder}, found no such folder; run "
                         f"nnUNetv2_plan_and_preprocess -d {dataset}.")
    return folder
