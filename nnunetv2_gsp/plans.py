"""Derives GSP plans of a dataset from nnU-Net's plans and a template; any trainer takes them with `-p`."""

import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_gsp.architectures.architecture import Architecture, Stages, numbers_per_stage
from nnunetv2_gsp.architectures.entries import COUNT, PATCH_SIZE, Schema, fits
from nnunetv2_gsp.architectures.from_plans import (
    MEND,
    buildable_architecture,
    check_network,
    describe,
    is_gsp,
    plain_architecture,
    read_architecture,
    read_stages,
)
from nnunetv2_gsp.architectures.request import ShiftRequest
from nnunetv2_gsp.architectures.rules import check_number_of_stages, repeated
from nnunetv2_gsp.architectures.spatial_groups import feature_map_sizes
from nnunetv2_gsp.errors import (
    DamagedFileError,
    InputError,
    MissingInputError,
    RefusedSettingsError,
)
from nnunetv2_gsp.files import check_target, write_json
from nnunetv2_gsp.nnunet import dataset_id, dataset_name, nnunet_folder, preprocess_command
from nnunetv2_gsp.plans_templates import STAGES, TOPOLOGY, WIDTH_MULTIPLIER, Template, load_template
from nnunetv2_gsp.wording import times

Configuration = dict[str, Any]
_NNUNETS_OWN_FILES = ("dataset", "dataset_fingerprint", "splits_final")  # beside the plans
_NEEDED: dict[str, Schema] = {"patch_size": PATCH_SIZE, "batch_size": COUNT, "data_identifier": {"type": "string"}}


def write_gsp_plans(
    dataset: str,
    plans_name: str = "nnUNetPlans",
    output_name: str | None = None,
    template: str = "default",
    settings: Mapping[str, Any] | None = None,
    configurations: Sequence[str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write plans that name `GSPUNet`, with resolved settings, beside the dataset's own; see `derive_gsp_plans`.

    Args:
        dataset: name or id of the dataset, as nnU-Net takes it.
        plans_name: name of the plans to derive from (PlainConvUNet or ResidualEncoderUNet).
        output_name: name of the new plans; None gives nnUNetGSPPlans, followed by the template's name if not default.
        template: name of a template, or path of its .json file.
        settings: name in `plans_templates.schema` -> value that replaces the template's.
        configurations: names of configurations to derive; None takes all with the template's number of axes.
        overwrite: True replaces GSP plans of that name; other files are never replaced.

    Returns:
        The file of the new plans.

    Raises:
        InputError: as `derive_gsp_plans`, and if the new plans exist and are not to be replaced.
    """
    target, plans = derive_gsp_plans(dataset, plans_name, output_name, template, settings, configurations)
    if target.is_file() and b"GSPUNet" not in target.read_bytes():
        raise InputError(
            "GSP plans or nothing",
            "another kind of file, which is not replaced",
            where=target,
            parameters=["output_name"],
        )
    check_target(target, overwrite, parameters=("output_name", "overwrite"))
    write_json(plans, target)
    return target


def derive_gsp_plans(
    dataset: str,
    plans_name: str = "nnUNetPlans",
    output_name: str | None = None,
    template: str = "default",
    settings: Mapping[str, Any] | None = None,
    configurations: Sequence[str] | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Return the file and the content of a dataset's GSP plans, without writing them.

    Args:
        dataset: name or id of the dataset, as nnU-Net takes it.
        plans_name: name of the plans to derive from (PlainConvUNet or ResidualEncoderUNet).
        output_name: name of the new plans; None gives nnUNetGSPPlans, followed by the template's name if not default.
        template: name of a template, or path of its .json file.
        settings: name in `plans_templates.schema` -> value that replaces the template's.
        configurations: names of configurations to derive; None takes all with the template's number of axes.

    Raises:
        InputError: a folder variable is not set, the dataset was not planned, plans can't have the name, or the
            settings are unknown or do not fit the plans.
    """
    loaded = load_template(template, settings)
    name = output_name or ("nnUNetGSPPlans" if template == "default" else f"nnUNetGSPPlans_{loaded.name}")
    if not re.fullmatch(r"\w[\w.-]*", name) or "__" in name or name.endswith(".json") or name in _NNUNETS_OWN_FILES:
        raise InputError(
            "a name for the plans that can be part of nnU-Net's folder names (letters, digits, '-', '.', "
            "single '_'), without .json, and not one of its own files'",
            repr(name),
            parameters=["output_name"],
        )
    folder = preprocessed_folder(dataset)
    plans = load_plans(folder, plans_name)
    return folder / f"{name}.json", gsp_plans(plans, name, loaded, configurations)


def gsp_plans(
    plans: dict[str, Any], name: str, template: Template, configurations: Sequence[str] | None = None
) -> dict[str, Any]:
    """Return a copy of nnU-Net plans, named `name`, in which every configuration has a resolved GSP network.

    Configurations that were not asked for are left out, except the first stage of a cascade, so that no stock network
    can be trained under the name of GSP plans. Inheritance between configurations is resolved. The template is recorded
    in the plans as "gsp_template".

    Args:
        plans: content of nnU-Net's plans file; it is not changed.
        name: name of the new plans.
        template: settings of the GSP network.
        configurations: names of configurations to derive; None takes all with the template's number of axes.

    Raises:
        InputError: a configuration does not exist or fit the template, or its network has no GSP counterpart.
    """
    effective = effective_configurations(plans)
    kept = _kept(effective, template, configurations)
    resolved = {}
    for each in kept:
        try:
            resolved[each] = with_shifts(with_topology(effective[each], template), template)
        except (ValueError, NotImplementedError) as error:
            role = " (the first stage of a cascade)" if configurations and each not in configurations else ""
            raise RefusedSettingsError(str(error), f"Configuration {each}{role}") from error
        resolved[each].pop("inherits_from", None)
        _forget_next_stages_but(kept, resolved[each])
    record = {"name": template.name, "settings": dict(template.settings)}
    return {**deepcopy(plans), "plans_name": name, "gsp_template": record, "configurations": resolved}


def load_plans(folder: Path, plans_name: str) -> dict[str, Any]:
    """Load plans of a dataset, and check that they hold configurations.

    Args:
        folder: folder of the dataset below nnUNet_preprocessed.
        plans_name: name of the plans' file without its ending.

    Raises:
        InputError: the file does not exist, or holds something else.
    """
    file = folder / f"{plans_name}.json"
    remedy = f"run nnUNetv2_plan_and_preprocess -d {dataset_id(folder.name)}"
    plans = _load_json(file, "plans", remedy, ["plans_name"])
    if not isinstance(plans, dict) or not isinstance(plans.get("configurations"), dict) or not plans["configurations"]:
        raise DamagedFileError("plans with configurations", "none", where=file, parameters=["plans_name"])
    return plans


def load_dataset_json(folder: Path) -> dict[str, Any]:
    """Load the dataset.json of a dataset.

    Args:
        folder: folder of the dataset below nnUNet_preprocessed or nnUNet_raw.

    Raises:
        InputError: the file does not exist, or holds something else.
    """
    file = folder / "dataset.json"
    remedy = f"run nnUNetv2_plan_and_preprocess -d {dataset_id(folder.name)}, which copies it from nnUNet_raw"
    content = _load_json(file, "nnU-Net's description of the dataset", remedy)
    entries: dict[str, Any] = content if isinstance(content, dict) else {}
    # of nnU-Net's first version: modality
    for names in (("labels",), ("channel_names", "modality")):
        if not any(isinstance(entries.get(name), dict) for name in names):
            raise DamagedFileError(f"{' or '.join(names)} by name", "none", where=file, remedy=remedy)
    return entries


def effective_configurations(plans: dict[str, Any]) -> dict[str, Configuration]:
    """Return the configurations with inheritance resolved as nnU-Net does; the plans are not changed.

    Args:
        plans: content of a plans file.

    Raises:
        InputError: a configuration inherits from a missing one or from itself, or lacks entries that nnU-Net writes.

    Examples:
        >>> small = {"patch_size": [64, 64], "batch_size": 2, "data_identifier": "2d", "architecture": {}}
        >>> plans = {"configurations": {"2d": small, "2d_large": {"inherits_from": "2d", "batch_size": 12}}}
        >>> effective_configurations(plans)["2d_large"]["patch_size"]
        [64, 64]
    """
    manager = PlansManager(deepcopy(plans))
    return {name: _effective(manager, name) for name in manager.available_configurations}


def with_topology(configuration: Configuration, template: Template) -> Configuration:
    """Return a stock configuration with the template's patch, batch, stages and normalisation in place of its own.

    Args:
        configuration: configuration with inheritance resolved, as in nnU-Net's ConfigurationManager; it is not changed.
        template: settings of the GSP network; what it leaves out stays as planned.

    Raises:
        ValueError: the configuration is not as plans hold it, or the template's number of axes or stages does not fit
            the rest of it.
        NotImplementedError: the network is neither PlainConvUNet nor ResidualEncoderUNet.
    """
    check_network(configuration["architecture"], configuration["patch_size"])
    if is_gsp(configuration["architecture"]):
        buildable_architecture(configuration["architecture"], configuration["patch_size"])
        raise NotImplementedError("these plans name a GSP network already; start from those that nnU-Net made.")
    n_axes = len(configuration["patch_size"])
    if template.n_axes not in (None, n_axes):
        raise ValueError(
            f"template {template.name} is made for {template.n_axes} axes, these plans have {n_axes}: "
            f"choose configurations with {template.n_axes} axes, or other settings."
        )
    changed = deepcopy(configuration)
    changed.update({key: template.settings[key] for key in ("patch_size", "batch_size") if key in template.settings})
    if any(key in template.settings for key in TOPOLOGY):
        changed["architecture"] = _with_stages(changed["architecture"], template.settings, n_axes)
    _check_lowest_map(read_stages(changed["architecture"], changed["patch_size"]), changed["patch_size"])
    _set_mask_for_norm(changed, template.settings.get("use_mask_for_norm"))
    return changed


def with_shifts(configuration: Configuration, template: Template) -> Configuration:
    """Return a stock configuration with the GSP counterpart of its network and resolved settings.

    Args:
        configuration: configuration as `with_topology` returns it; it is not changed.
        template: settings of the GSP network.

    Raises:
        ValueError: the strides do not divide the patch, the template's settings do not fit the stages, or `GSPUNet`
            refuses them.
        NotImplementedError: the network is neither PlainConvUNet nor ResidualEncoderUNet.
    """
    return {
        **configuration,
        "architecture": buildable_architecture(
            configuration["architecture"], configuration["patch_size"], template.request, template.kernel
        ),
    }


def summary(plans: dict[str, Any], folder: Path) -> str:
    """Return a summary of GSP plans: a table of each configuration, snapped groups, and preprocessing that is due.

    Args:
        plans: content of GSP plans, as `gsp_plans` returns it.
        folder: folder of the dataset below nnUNet_preprocessed.
    """
    paragraphs = []
    due: dict[str, str] = {}
    for name, configuration in effective_configurations(plans).items():
        patch_size = configuration["patch_size"]
        architecture = read_architecture(configuration["architecture"], patch_size)
        asked = ShiftRequest(plans["gsp_template"]["settings"].get("spatial_groups"))
        lines = [
            f"{name}, patch {times(patch_size)}, batch {configuration['batch_size']}",
            describe(architecture, patch_size),
            *_snapped(asked, architecture, patch_size),
        ]
        paragraphs.append("\n".join(lines))
        if not (folder / configuration["data_identifier"]).is_dir():
            command = preprocess_command(folder.name, plans["plans_name"], name)
            due.setdefault(configuration["data_identifier"], shlex.join(command))
    return "\n\n".join([*paragraphs, *(f"Not preprocessed yet ({data}): {command}" for data, command in due.items())])


def preprocessed_folder(dataset: str) -> Path:
    """Return the folder of a planned dataset below nnUNet_preprocessed.

    Args:
        dataset: name or id of the dataset, as nnU-Net takes it.

    Raises:
        InputError: nnUNet_preprocessed is not set, or the dataset does not exist, or shares its id with another.
    """
    folder = nnunet_folder("nnUNet_preprocessed") / dataset_name(dataset)
    if not folder.is_dir():
        raise MissingInputError(
            "a planned dataset",
            "no such folder",
            where=folder,
            remedy=f"run nnUNetv2_plan_and_preprocess -d {dataset_id(folder.name)}",
            parameters=["dataset"],
        )
    return folder


def _load_json(file: Path, what: str, remedy: str, parameters: Sequence[str] = ()) -> Any:
    if not file.is_file():
        raise MissingInputError(what, "no such file", where=file, remedy=remedy, parameters=parameters)
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedFileError(
            f"{what} in JSON", f"something else ({error})", where=file, remedy=remedy, parameters=parameters
        ) from error


def _effective(manager: PlansManager, name: str) -> Configuration:
    try:
        configuration: Configuration = manager.get_configuration(name).configuration
    except (ValueError, RuntimeError) as error:
        raise InputError(
            "plans in which configurations inherit from each other without a gap or a circle",
            f"others: {error}",
            remedy=MEND,
        ) from error
    except (AttributeError, KeyError, TypeError) as error:  # no object, or neither an architecture nor its old names
        raise InputError(
            f"a configuration {name} with an architecture, as nnU-Net writes it", "none", remedy=MEND
        ) from error
    for entry, schema in _NEEDED.items():
        if not fits(configuration.get(entry), schema):
            raise InputError(
                f"plans whose configuration {name} has a {entry} as nnU-Net writes it",
                repr(configuration.get(entry)),
                remedy=MEND,
            )
    return configuration


def _kept(effective: Mapping[str, Configuration], template: Template, wanted: Sequence[str] | None) -> list[str]:
    """Return the wanted configurations, in the order of the plans, and the first stages of wanted cascades."""
    if wanted is None:
        wanted = [
            name
            for name, configuration in effective.items()
            if template.n_axes in (None, len(configuration["patch_size"]))
        ]
    for name in wanted:
        if name not in effective:
            raise InputError(
                f"configurations of these plans ({', '.join(effective)})", name, parameters=["configurations"]
            )
    if not wanted:
        raise InputError(
            f"plans with a configuration of {template.n_axes} axes, as template {template.name} is made for",
            f"others ({', '.join(effective)})",
            parameters=["template", "plans_name"],
        )
    kept = {*wanted, *(effective[name].get("previous_stage") for name in wanted)}
    return [name for name in effective if name in kept]


def _forget_next_stages_but(kept: Sequence[str], configuration: Configuration) -> None:
    """Remove references to the second stage of a cascade that these plans lack, for which nnU-Net would predict."""
    stages = configuration.get("next_stage")
    if stages is None:
        return
    left = [stage for stage in ([stages] if isinstance(stages, str) else stages) if stage in kept]
    configuration.pop("next_stage")
    if left:
        configuration["next_stage"] = left


def _with_stages(architecture: dict[str, Any], settings: Mapping[str, Any], n_axes: int) -> dict[str, Any]:
    """Return a stock entry as one of PlainConvUNet, with the stages of the settings filled in.

    It is not checked whether they fit.

    Args:
        architecture: entry of a supported network; it may have too few stages, as the settings may replace them.
        settings: settings of a template, name -> value.
        n_axes: number of spatial axes of the patch, 2 or 3.

    Raises:
        ValueError: there are too few stages, or no channels that can be multiplied.
    """
    kwargs = {**architecture["arch_kwargs"]}
    if "features_per_stage" in settings:
        kwargs["n_stages"] = len(settings["features_per_stage"])
    n_stages: Any = kwargs.get("n_stages")
    check_number_of_stages(n_stages)
    plain = plain_architecture({**architecture, "arch_kwargs": kwargs})
    kwargs = {**plain["arch_kwargs"], **{key: deepcopy(settings[key]) for key in STAGES if key in settings}}
    if WIDTH_MULTIPLIER in settings:
        planned = numbers_per_stage("features_per_stage", kwargs.get("features_per_stage"), n_stages)
        kwargs["features_per_stage"] = [_widened(channels, settings[WIDTH_MULTIPLIER]) for channels in planned]
    if isinstance(strides := kwargs.get("strides"), list):
        kwargs["strides"] = [[stride] * n_axes if fits(stride, COUNT) else stride for stride in strides]
    for name, length in (("n_conv_per_stage", n_stages), ("n_conv_per_stage_decoder", n_stages - 1)):
        kwargs[name] = repeated(kwargs.get(name), length)
    if "strides" in settings:  # nnU-Net plans kernels of 1 along axes that are not strided yet
        kwargs["kernel_sizes"] = [[3] * n_axes] * n_stages
    return {**plain, "arch_kwargs": kwargs}


def _widened(channels: int, multiplier: float) -> int:
    """Return so many times the channels, as a multiple of 8, from 8 on, which vector units take whole."""
    if multiplier <= 0:
        raise ValueError(f"{WIDTH_MULTIPLIER} must be above 0, got {multiplier}.")
    return max(8, 8 * round(channels * multiplier / 8))


def _check_lowest_map(stages: Stages, patch_size: Sequence[int]) -> None:
    """Raise ValueError if the lowest map is a single voxel, for which training can't compute a norm."""
    if math.prod(patch_size) == math.prod(map(math.prod, stages.strides)):
        raise ValueError(
            f"a patch of {patch_size} voxels leaves one voxel after the last of {len(stages.strides)} "
            f"stages; choose a larger patch_size, or fewer stages (features_per_stage, strides)."
        )


def _set_mask_for_norm(configuration: Configuration, use_mask: bool | None) -> None:
    """Switch the mask on or off in every channel; data with another mask get another identifier.

    The mask is nnU-Net's, the nonzero voxels. Plans with the same mask share the identifier.
    """
    if use_mask is None:
        return
    planned = configuration["use_mask_for_norm"]
    if planned != [use_mask] * len(planned):
        configuration["use_mask_for_norm"] = [use_mask] * len(planned)
        configuration["data_identifier"] += "_masked_norm" if use_mask else "_unmasked_norm"


def _snapped(asked: ShiftRequest, architecture: Architecture, patch_size: Sequence[int]) -> list[str]:
    """Return a line for each stage whose groups differ from those that the template asks for."""
    if not any(architecture.shifts.shift_channels):
        return []
    maps = feature_map_sizes(patch_size, architecture.stages.strides)
    return [
        f"Stage {stage}: {times(groups)} groups were asked for, {times(got)} divide the map of {times(size)} voxels."
        for stage, (groups, got, size) in enumerate(
            zip(asked.groups_asked(len(maps)) or [], architecture.shifts.spatial_groups, maps, strict=False)
        )
        if tuple(groups) != got
    ]
