"""A template and a dataset's plans -> that dataset's GSP plans, which any trainer takes with `-p`."""
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.utilities.dataset_name_id_conversion import find_candidate_datasets, maybe_convert_to_dataset_name
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_gsp.architectures.from_plans import (
    MEND,
    buildable_architecture,
    check_entry,
    check_network,
    describe,
    is_gsp,
    plain_architecture,
)
from nnunetv2_gsp.architectures.rules import check_number_of_stages, entries_of, is_count
from nnunetv2_gsp.architectures.spatial_groups import feature_map_sizes
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.files import write_json
from nnunetv2_gsp.nnunet import dataset_id, nnunet_folder, preprocess_command
from nnunetv2_gsp.plans_templates import TOPOLOGY, Template, load_template

Configuration = dict[str, Any]
_NNUNETS_OWN_FILES = ("dataset", "dataset_fingerprint", "splits_final")  # beside the plans


def write_gsp_plans(dataset: str, plans_name: str = "nnUNetPlans", output_name: str | None = None,
                    template: str = "default", overrides: Mapping[str, Any] | None = None,
                    configurations: Sequence[str] | None = None, overwrite: bool = False) -> Path:
    """Write plans that name `GSPUNet`, with resolved settings, beside the dataset's own; see `derive_gsp_plans`.

    Args:
        overwrite: replace plans of that name.

    Returns:
        The new file.

    Raises:
        InputError: as `derive_gsp_plans`, and if the new plans exist.
    """
    target, plans = derive_gsp_plans(dataset, plans_name, output_name, template, overrides, configurations)
    if target.exists():
        are_ours = b"GSPUNet" in target.read_bytes()
        if not (overwrite and are_ours):
            raise InputError(f"{target} exists and is not replaced; choose another name with -o"
                             f"{', or replace it with --overwrite' if are_ours else ': it holds no GSP plans'}.")
    write_json(plans, target)
    return target


def derive_gsp_plans(dataset: str, plans_name: str = "nnUNetPlans", output_name: str | None = None,
                     template: str = "default", overrides: Mapping[str, Any] | None = None,
                     configurations: Sequence[str] | None = None) -> tuple[Path, dict[str, Any]]:
    """Return where the GSP plans of a dataset go and what stands in them; nothing is written.

    Args:
        dataset: name or id, as nnU-Net takes it.
        plans_name: the plans to start from (PlainConvUNet or ResidualEncoderUNet).
        output_name: name of the new plans; without it nnUNetGSPPlans, and the template's name behind it.
        template: name or file of the settings.
        overrides: settings that replace the template's.
        configurations: which ones; without it all that have the template's number of axes.

    Raises:
        InputError: a folder variable is not set, the dataset was not planned, the name can't name plans, or the
            settings are unknown or do not fit the plans.
    """
    settings = load_template(template, overrides)
    name = output_name or ("nnUNetGSPPlans" if template == "default" else f"nnUNetGSPPlans_{settings.name}")
    if not re.fullmatch(r"\w[\w.-]*", name) or "__" in name or name.endswith(".json") or name in _NNUNETS_OWN_FILES:
        raise InputError(f"Expected a name for the plans that can be part of nnU-Net's folder names (letters, digits, "
                         f"'-', '.', single '_'), without .json, and not one of its own files', got {name!r}; choose "
                         f"another with -o.")
    folder = preprocessed_folder(dataset)
    plans = load_plans(folder, plans_name)
    return folder / f"{name}.json", gsp_plans(plans, name, settings, configurations)


def gsp_plans(plans: dict[str, Any], name: str, template: Template,
              configurations: Sequence[str] | None = None) -> dict[str, Any]:
    """Return a copy of nnU-Net plans, called `name`, in which every configuration names a resolved GSP network.

    Configurations that were not asked for are left out, but for the first stage of a cascade: nobody shall train a
    stock network under the name of GSP plans. Those that inherit stand for themselves. The template stands in the plans
    as "gsp_template", for the record.

    Raises:
        InputError: a configuration is not there or does not fit the template, or its network has no GSP counterpart.
    """
    effective = effective_configurations(plans)
    kept = _kept(effective, template, configurations)
    resolved = {}
    for each in kept:
        try:
            resolved[each] = with_shifts(with_topology(effective[each], template), template)
        except (ValueError, NotImplementedError) as error:
            role = " (the first stage of a cascade)" if configurations and each not in configurations else ""
            raise InputError(f"Configuration {each}{role}: {error}") from error
        resolved[each].pop("inherits_from", None)
        _forget_next_stages_but(kept, resolved[each])
    record = {"name": template.name, "settings": dict(template.settings)}
    return {**deepcopy(plans), "plans_name": name, "gsp_template": record, "configurations": resolved}


def load_plans(folder: Path, name: str) -> dict[str, Any]:
    """Load plans of a dataset; `folder` is the dataset's, below nnUNet_preprocessed.

    Raises:
        InputError: there is no such file, or something else stands in it.
    """
    file = folder / f"{name}.json"
    if not file.is_file():
        raise InputError(f"Expected the plans {file}, found no such file; run nnUNetv2_plan_and_preprocess -d "
                         f"{dataset_id(folder.name)}, or name other plans with -p.")
    try:
        plans = load_json(str(file))
    except ValueError as error:
        raise InputError(f"Expected plans in {file}, found no JSON ({error}); plan the dataset again, or name other "
                         f"plans with -p.") from error
    configurations = plans.get("configurations") if isinstance(plans, dict) else None
    if not isinstance(configurations, dict) or not configurations:
        raise InputError(f"Expected plans with configurations in {file}, found none; name other plans with -p.")
    return plans


def load_dataset_json(folder: Path) -> dict[str, Any]:
    """Load a dataset.json; `folder` is the dataset's, below nnUNet_preprocessed or nnUNet_raw.

    Raises:
        InputError: there is no such file, or something else stands in it.
    """
    file = folder / "dataset.json"
    repair = f"run nnUNetv2_plan_and_preprocess -d {dataset_id(folder.name)}, which copies it from nnUNet_raw."
    if not file.is_file():
        raise InputError(f"Expected {file}, found no such file; {repair}")
    try:
        content = load_json(str(file))
    except ValueError as error:
        raise InputError(f"Expected JSON in {file}, found something else ({error}); {repair}") from error
    # of nnU-Net's first version: modality
    for names in (("labels",), ("channel_names", "modality")):
        if not isinstance(content, dict) or not any(isinstance(content.get(name), dict) for name in names):
            raise InputError(f"Expected {' or '.join(names)} by name in {file}, found none; {repair}")
    return content


def effective_configurations(plans: dict[str, Any]) -> dict[str, Configuration]:
    """Return the configurations as nnU-Net sees them, inheritance resolved; the plans are not changed.

    Raises:
        InputError: a configuration inherits from one that is not there, or from itself, or lacks what nnU-Net writes.
    """
    manager = PlansManager(deepcopy(plans))
    return {name: _effective(manager, name) for name in manager.available_configurations}


def with_topology(configuration: Configuration, template: Template) -> Configuration:
    """Return a stock configuration with the template's patch, batch, stages and normalisation in place of the planned.

    Args:
        configuration: as nnU-Net's ConfigurationManager has it, inheritance resolved; it is not changed.

    Raises:
        ValueError: if the configuration is not what plans hold, or what the template gives does not fit what stays:
            number of axes or of stages.
        NotImplementedError: for a network that is neither PlainConvUNet nor ResidualEncoderUNet.
    """
    check_network(configuration["architecture"], configuration["patch_size"])
    if is_gsp(configuration["architecture"]):
        buildable_architecture(configuration["architecture"], configuration["patch_size"])
        raise NotImplementedError("these plans name a GSP network already; start from those that nnU-Net made (-p).")
    n_axes = len(configuration["patch_size"])
    if template.n_axes not in (None, n_axes):
        raise ValueError(f"template {template.name} is made for {template.n_axes} axes, these plans have {n_axes}; "
                         f"choose configurations with {template.n_axes} axes (-c), or other settings (--template, "
                         f"--set).")
    changed = deepcopy(configuration)
    changed.update({key: template.settings[key] for key in ("patch_size", "batch_size") if key in template.settings})
    if any(key in template.settings for key in TOPOLOGY):
        changed["architecture"] = _with_stages(changed["architecture"], template.settings, n_axes)
    check_entry(changed["architecture"], changed["patch_size"])
    _check_lowest_map(changed)
    _set_mask_for_norm(changed, template.settings.get("use_mask_for_norm"))
    return changed


def with_shifts(configuration: Configuration, template: Template) -> Configuration:
    """Return a stock configuration with the GSP counterpart of its network, settings resolved.

    Raises:
        ValueError: if the strides do not divide the patch, the template's settings do not fit the stages, or `GSPUNet`
            refuses them.
        NotImplementedError: for a network that is neither PlainConvUNet nor ResidualEncoderUNet.
    """
    return {**configuration, "architecture": buildable_architecture(configuration["architecture"],
                                                                    configuration["patch_size"], template.request,
                                                                    template.kernel)}


def summary(plans: dict[str, Any], folder: Path) -> str:
    """Say what stands in GSP plans: each configuration's table, which groups were snapped, what has to be preprocessed.

    Args:
        plans: as `gsp_plans` returns them.
        folder: of the dataset, below nnUNet_preprocessed.
    """
    paragraphs = []
    due: dict[str, str] = {}
    for name, configuration in effective_configurations(plans).items():
        architecture, patch_size = configuration["architecture"], configuration["patch_size"]
        lines = [f"{name}, patch {'×'.join(map(str, patch_size))}, batch {configuration['batch_size']}",
                 describe(architecture, patch_size), *_snapped(plans, architecture["arch_kwargs"], patch_size)]
        paragraphs.append("\n".join(lines))
        if not (folder / configuration["data_identifier"]).is_dir():
            command = preprocess_command(folder.name, plans["plans_name"], name)
            due.setdefault(configuration["data_identifier"], shlex.join(command))
    return "\n\n".join([*paragraphs, *(f"Not preprocessed yet ({data}): {command}" for data, command in due.items())])


def preprocessed_folder(dataset: str) -> Path:
    """Return the folder of a planned dataset below nnUNet_preprocessed; `dataset` is a name or an id.

    Raises:
        InputError: nnUNet_preprocessed is not set, or there is no such dataset.
    """
    preprocessed = nnunet_folder("nnUNet_preprocessed")
    try:
        name = maybe_convert_to_dataset_name(dataset)
    except (RuntimeError, ValueError) as error:
        if dataset.isdecimal() and len(twins := find_candidate_datasets(int(dataset))) > 1:
            raise InputError(f"Expected one dataset with id {dataset} below nnU-Net's folders, found "
                             f"{' and '.join(twins)}; rename all but one.") from error
        raise InputError(f"Expected the name or id of a dataset below nnU-Net's folders, got {dataset}; "
                         f"nnUNet_preprocessed is {preprocessed}.") from error
    folder = preprocessed / name
    if not folder.is_dir():
        raise InputError(f"Expected the planned dataset {folder}, found no such folder; run "
                         f"nnUNetv2_plan_and_preprocess -d {dataset}.")
    return folder


def _effective(manager: PlansManager, name: str) -> Configuration:
    try:
        configuration = manager.get_configuration(name).configuration
    except (ValueError, RuntimeError) as error:
        raise InputError(f"Expected plans in which configurations inherit from each other without a gap or a circle: "
                         f"{error}") from error
    except (AttributeError, KeyError, TypeError) as error:  # no object, or neither an architecture nor its old names
        raise InputError(f"Expected a configuration {name} with an architecture, as nnU-Net writes it, found none; "
                         f"{MEND}") from error
    is_sound = {"patch_size": isinstance(configuration.get("patch_size"), Sequence),
                "batch_size": is_count(configuration.get("batch_size")),
                "data_identifier": isinstance(configuration.get("data_identifier"), str)}
    for entry in is_sound:
        if not is_sound[entry]:
            raise InputError(f"Expected plans whose configuration {name} has a {entry} as nnU-Net writes it, got "
                             f"{configuration.get(entry)}; {MEND}")
    return configuration


def _kept(effective: Mapping[str, Configuration], template: Template, wanted: Sequence[str] | None) -> list[str]:
    """Return the wanted configurations, in the order of the plans, and the first stages of wanted cascades."""
    if wanted is None:
        wanted = [name for name, configuration in effective.items()
                  if template.n_axes in (None, len(configuration["patch_size"]))]
    for name in wanted:
        if name not in effective:
            raise InputError(f"Expected configurations of these plans ({', '.join(effective)}), got {name}; choose "
                             f"with -c.")
    if not wanted:
        raise InputError(f"Template {template.name} is made for {template.n_axes} axes, and no configuration of these "
                         f"plans ({', '.join(effective)}) has as many; choose another template.")
    kept = {*wanted, *(effective[name].get("previous_stage") for name in wanted)}
    return [name for name in effective if name in kept]


def _forget_next_stages_but(kept: Sequence[str], configuration: Configuration) -> None:
    """Keep nnU-Net from predicting for the second stage of a cascade that these plans do not have."""
    stages = configuration.get("next_stage")
    if stages is None:
        return
    left = [stage for stage in ([stages] if isinstance(stages, str) else stages) if stage in kept]
    configuration.pop("next_stage")
    if left:
        configuration["next_stage"] = left


def _with_stages(architecture: dict[str, Any], settings: Mapping[str, Any], n_axes: int) -> dict[str, Any]:
    """Return a stock entry in PlainConvUNet's terms, with the settings' stages spelt out.

    Whether they fit is not checked.

    Args:
        architecture: of a network that is known. Its stages may be too few, for the settings may replace them.
        settings: of a template.
        n_axes: of the patch.

    Raises:
        ValueError: there are too few stages.
    """
    kwargs = {**architecture["arch_kwargs"]}
    if "features_per_stage" in settings:
        kwargs["n_stages"] = len(settings["features_per_stage"])
    n_stages: Any = kwargs.get("n_stages")
    check_number_of_stages(n_stages)
    plain = plain_architecture({**architecture, "arch_kwargs": kwargs})
    kwargs = {**plain["arch_kwargs"], **{key: deepcopy(settings[key]) for key in TOPOLOGY if key in settings}}
    if strides := entries_of(kwargs.get("strides")):
        kwargs["strides"] = [[stride] * n_axes if is_count(stride) else stride for stride in strides]
    for name, length in (("n_conv_per_stage", n_stages), ("n_conv_per_stage_decoder", n_stages - 1)):
        if is_count(kwargs.get(name)):
            kwargs[name] = [kwargs[name]] * length
    if "strides" in settings:  # nnU-Net plans kernels of 1 along axes that are not strided yet
        kwargs["kernel_sizes"] = [[3] * n_axes] * n_stages
    return {**plain, "arch_kwargs": kwargs}


def _check_lowest_map(configuration: Configuration) -> None:
    """Raise ValueError if the lowest map is one voxel, which no norm can be computed of in a training."""
    strides = configuration["architecture"]["arch_kwargs"]["strides"]
    patch_size = configuration["patch_size"]
    if math.prod(patch_size) == math.prod(np.prod([np.broadcast_to(s, len(patch_size)) for s in strides], axis=0)):
        raise ValueError(f"a patch of {patch_size} voxels leaves one voxel after the last of {len(strides)} stages; "
                         f"choose a larger patch_size, or fewer stages (features_per_stage, strides).")


def _set_mask_for_norm(configuration: Configuration, use_mask: bool | None) -> None:
    """Switch the mask on or off in every channel; other data need another identifier, and plans with the same share it.

    The mask is nnU-Net's: the nonzero voxels.
    """
    if use_mask is None:
        return
    planned = configuration["use_mask_for_norm"]
    if planned != [use_mask] * len(planned):
        configuration["use_mask_for_norm"] = [use_mask] * len(planned)
        configuration["data_identifier"] += "_masked_norm" if use_mask else "_unmasked_norm"


def _snapped(plans: dict[str, Any], kwargs: dict[str, Any], patch_size: Sequence[int]) -> list[str]:
    """Return a line for each stage whose groups are not those that the template asks for."""
    asked = plans["gsp_template"]["settings"].get("spatial_groups", [])
    maps = feature_map_sizes(patch_size, kwargs["strides"])
    return [f"Stage {stage}: {tuple(groups)} groups were asked for, {tuple(got)} divide the map of {size} voxels."
            for stage, (groups, got, size) in enumerate(zip(asked, kwargs["spatial_groups"], maps, strict=False))
            if list(groups) != list(got) and any(kwargs["shift_channels"])]
