"""The `architecture` entry of nnU-Net's plans: stock in, GSP with resolved settings out."""
import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import nn

from nnunetv2_gsp.architectures.request import ShiftRequest
from nnunetv2_gsp.architectures.rules import (
    KERNELS,
    Stages,
    check_choice,
    entries_of,
    is_count,
    is_count_per_axis,
    numbers_per_stage,
)
from nnunetv2_gsp.architectures.settings import ShiftSettings
from nnunetv2_gsp.architectures.spatial_groups import feature_map_sizes, has_equal_groups_on_equal_axes

GSP_NETWORK = "nnunetv2_gsp.architectures.gsp_unet.GSPUNet"
PLAIN_NETWORK = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
MEND = "write the plans anew, or mend what was edited."
_CONVOLUTIONS_OF_A_RESIDUAL_STAGE = 2  # as many as nnU-Net plans for a plain stage
_SETTINGS = [field.name for field in fields(ShiftSettings)]


def check_entry(architecture: dict[str, Any], patch_size: Sequence[int]) -> None:
    """Check that an `architecture` entry and a patch are what nnU-Net and this package write: a file may be edited.

    Raises:
        NotImplementedError: for a network that is neither PlainConvUNet nor ResidualEncoderUNet nor GSPUNet.
        ValueError: something is missing, or would be refused by `GSPUNet`, which then says the same; or the stages are
            not spelt out, or the first one strides.
    """
    check_network(architecture, patch_size)
    _check_stages(architecture, len(patch_size))
    if is_gsp(architecture):
        check_choice("kernel", _kernel_of(architecture["arch_kwargs"]), KERNELS)
        _settings_of(architecture["arch_kwargs"], len(patch_size))
    else:  # a GSP network takes kernel_sizes along and ignores them
        _check_kernel_sizes(architecture["arch_kwargs"], len(patch_size))


def check_network(architecture: dict[str, Any], patch_size: Sequence[int]) -> None:
    """Check that an `architecture` entry names a network that is known, and its patch is one.

    Raises:
        NotImplementedError: for a network that is neither PlainConvUNet nor ResidualEncoderUNet nor GSPUNet.
        ValueError: the name, the arguments or the patch are missing.
    """
    kwargs = architecture.get("arch_kwargs") if isinstance(architecture, dict) else None
    if not isinstance(kwargs, dict) or not isinstance(architecture.get("network_class_name"), str):
        raise ValueError(f"Expected plans whose architecture has a network_class_name and arch_kwargs, found none; "
                         f"{MEND}")
    if not (is_gsp(architecture) or is_residual(architecture) or _is_plain(architecture)):
        raise _unknown_network(architecture)
    if not isinstance(patch_size, Sequence) or not patch_size or not all(map(is_count, patch_size)):
        raise ValueError(f"Expected plans with a patch_size of whole numbers of voxels, got {patch_size}; {MEND}")


def is_gsp(architecture: dict[str, Any]) -> bool:
    """Tell whether the entry names a GSP network; its settings are then explicit and no rule applies."""
    return _class_name(architecture) == "GSPUNet"


def is_residual(architecture: dict[str, Any]) -> bool:
    """Tell whether the entry names nnU-Net's residual encoder U-Net."""
    return _class_name(architecture) == "ResidualEncoderUNet"


def gsp_architecture(architecture: dict[str, Any], patch_size: Sequence[int],
                     request: ShiftRequest | None = None, kernel: int = 1) -> dict[str, Any]:
    """Return the GSP counterpart of an `architecture` entry, with spatial groups and shifted channels resolved.

    A GSP entry comes back with its own groups; what it leaves out is filled in with the defaults. The input is not
    changed.

    Args:
        architecture: network_class_name, arch_kwargs and _kw_requires_import, as in nnU-Net's plans.
        patch_size: in voxels.
        request: the shifts that a stock entry gets; without it the paper's.
        kernel: edge of the convolutions that a stock entry gets, 1 or 3 voxels.

    Raises:
        NotImplementedError: for a network that is neither PlainConvUNet nor ResidualEncoderUNet.
        ValueError: if the entry or the patch is not what plans hold, the strides do not divide the patch, given groups
            the feature maps, or a request does not fit.
    """
    check_entry(architecture, patch_size)
    check_choice("kernel", kernel, KERNELS)
    resolved = deepcopy(architecture)
    if is_gsp(architecture):
        _complete(resolved["arch_kwargs"], patch_size)
    else:
        resolved["arch_kwargs"] = kwargs = plain_architecture(resolved)["arch_kwargs"]
        settings = (request or ShiftRequest()).resolve(feature_map_sizes(patch_size, kwargs["strides"]),
                                                       kwargs["features_per_stage"])
        kwargs.update(_as_in_a_file(settings), kernel=kernel)
    _check_something_shifts(resolved["arch_kwargs"])
    return {**resolved, "network_class_name": GSP_NETWORK}


def buildable_architecture(architecture: dict[str, Any], patch_size: Sequence[int],
                           request: ShiftRequest | None = None, kernel: int = 1) -> dict[str, Any]:
    """Return what `gsp_architecture` does, after a try to build it, which imports the operators that the entry names.

    Raises:
        NotImplementedError, ValueError: as `gsp_architecture`, and whatever else `GSPUNet` refuses.
    """
    resolved = gsp_architecture(architecture, patch_size, request, kernel)
    with torch.device("meta"):
        build(resolved, input_channels=1, output_channels=2, deep_supervision=True, allow_init=False)
    return resolved


def build(architecture: dict[str, Any], input_channels: int, output_channels: int, deep_supervision: bool,
          allow_init: bool) -> nn.Module:
    """Build the network of an `architecture` entry, stock or GSP, as nnU-Net does.

    Raises:
        ValueError: the network refuses its arguments.
    """
    try:
        return get_network_from_plans(architecture["network_class_name"], architecture["arch_kwargs"],
                                      architecture["_kw_requires_import"], input_channels, output_channels,
                                      allow_init, deep_supervision)
    except (TypeError, AttributeError, LookupError, ImportError) as error:  # not there, or nothing for it
        raise ValueError(f"Expected plans whose arch_kwargs {_class_name(architecture)} takes, got a "
                         f"{type(error).__name__}: {error}; {MEND}") from error


def plain_architecture(architecture: dict[str, Any]) -> dict[str, Any]:
    """Return a stock entry in PlainConvUNet's terms: residual stages become two convolutions; the input stays as it is.

    Raises:
        NotImplementedError: for a network that is neither PlainConvUNet nor ResidualEncoderUNet.
    """
    plain = deepcopy(architecture)
    kwargs = plain["arch_kwargs"]
    if is_residual(architecture):
        kwargs.pop("n_blocks_per_stage", None)
        kwargs["n_conv_per_stage"] = [_CONVOLUTIONS_OF_A_RESIDUAL_STAGE] * kwargs["n_stages"]
        kwargs["n_conv_per_stage_decoder"] = [_CONVOLUTIONS_OF_A_RESIDUAL_STAGE] * (kwargs["n_stages"] - 1)
    elif not _is_plain(architecture):
        raise _unknown_network(architecture)
    return {**plain, "network_class_name": PLAIN_NETWORK}


def stock_architecture(architecture: dict[str, Any]) -> dict[str, Any]:
    """Return the stock counterpart of an `architecture` entry; the input is not changed.

    A stock entry is its own. A GSP entry gets a PlainConvUNet with the same stages, widths, strides and convolutions,
    and with the entry's `kernel_sizes` where they fit its stages, else with edges of 3 voxels.
    """
    stock = deepcopy(architecture)
    if not is_gsp(architecture):
        return stock
    kwargs = {name: value for name, value in stock["arch_kwargs"].items() if name not in (*_SETTINGS, "kernel")}
    planned = kwargs.get("kernel_sizes") or ()
    if not isinstance(planned, int) and len(planned) != kwargs["n_stages"]:
        kwargs["kernel_sizes"] = 3
    return {**stock, "network_class_name": PLAIN_NETWORK, "arch_kwargs": kwargs}


def describe(architecture: dict[str, Any], patch_size: Sequence[int]) -> str:
    """Return a table of a GSP entry, a line a stage.

    Its columns: map size (voxels), channels, spatial groups, block (voxels), channels that move by blocks and, if there
    are any, by single voxels.
    """
    kwargs = architecture["arch_kwargs"]
    location = {"both": "encoder and decoder"}.get(kwargs["shift_location"], kwargs["shift_location"])
    has_local_shift = any(kwargs["local_shift_channels"])
    edges = "×".join([str(kwargs["kernel"])] * len(patch_size))
    header = f"{'stage':>5}  {'map':<15} {'channels':>8}  {'groups':<12} {'block':<15} {'shifted channels':>16}"
    lines = [f"Group Shift, {kwargs['shift_position']} in {location}, {edges} convolutions:",
             header + ("  locally" if has_local_shift else "")]
    stages = zip(feature_map_sizes(patch_size, kwargs["strides"]), kwargs["features_per_stage"],
                 kwargs["spatial_groups"], kwargs["shift_channels"], kwargs["local_shift_channels"], strict=True)
    for stage, (size, channels, groups, shifted, local) in enumerate(stages):
        block = [voxels // count for voxels, count in zip(size, groups, strict=True)]
        note = "" if has_equal_groups_on_equal_axes(size, groups) else "  (no equal split of equal axes)"
        lines.append(f"{stage:>5}  {_times(size):<15} {channels:>8}  {_times(groups):<12} {_times(block):<15} "
                     f"{shifted:>16}{f'{local:>9}' if has_local_shift else ''}{note}")
    return "\n".join(lines)


def _check_stages(architecture: dict[str, Any], n_axes: int) -> None:
    kwargs = architecture["arch_kwargs"]
    given = {name: kwargs.get(name) for name in ("n_stages", "features_per_stage", "strides", "n_conv_per_stage",
                                                 "n_conv_per_stage_decoder")}
    if is_residual(architecture):
        given["n_conv_per_stage"] = _CONVOLUTIONS_OF_A_RESIDUAL_STAGE
    stages = Stages.checked(n_axes, **given)
    if is_residual(architecture):
        numbers_per_stage("n_blocks_per_stage", kwargs.get("n_blocks_per_stage"), kwargs["n_stages"])
    for name in ("features_per_stage", "strides"):
        if not isinstance(kwargs[name], Sequence):
            raise ValueError(f"Expected plans whose arch_kwargs give {name} for each of {kwargs['n_stages']} stages, "
                             f"got {kwargs[name]}; {MEND}")
    if np.prod(stages.strides[0]) != 1:
        raise ValueError(f"Expected strides that begin with 1, since a segmentation has the size of its patch, got "
                         f"{kwargs['strides'][0]} for the first stage; change strides.")


def _check_kernel_sizes(kwargs: dict[str, Any], n_axes: int) -> None:
    kernels = kwargs.get("kernel_sizes")
    is_sound = [is_count(kernel) or is_count_per_axis(kernel, n_axes) for kernel in entries_of(kernels)]
    if not is_count(kernels) and not (len(is_sound) == kwargs["n_stages"] and all(is_sound)):
        raise ValueError(f"Expected plans whose arch_kwargs give kernel_sizes for {kwargs['n_stages']} stages of "
                         f"{n_axes} axes, in whole numbers from 1 on, got {kernels}; {MEND}")


def _unknown_network(architecture: dict[str, Any]) -> NotImplementedError:
    return NotImplementedError(f"GSP replaces the convolutions of PlainConvUNet and ResidualEncoderUNet; these plans "
                               f"name {architecture['network_class_name']}, which it does not know: train with plans "
                               f"that name one of the two, such as nnUNetPlans.")


def _complete(kwargs: dict[str, Any], patch_size: Sequence[int]) -> None:
    """Fill in what GSP plans leave out, with what `GSPUNet` would take."""
    settings = _settings_of(kwargs, len(patch_size))
    _check_groups_divide_maps(settings.spatial_groups, feature_map_sizes(patch_size, kwargs["strides"]))
    kwargs.update(_as_in_a_file(settings), kernel=_kernel_of(kwargs))


def _settings_of(kwargs: dict[str, Any], n_axes: int) -> ShiftSettings:
    return ShiftSettings.checked(kwargs["features_per_stage"], n_axes, **{name: kwargs.get(name) for name in _SETTINGS})


def _kernel_of(kwargs: dict[str, Any]) -> Any:
    return 1 if kwargs.get("kernel") is None else kwargs["kernel"]


def _as_in_a_file(settings: ShiftSettings) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(settings)))  # lists in place of tuples


def _check_groups_divide_maps(spatial_groups: Sequence[Sequence[int]], maps: Sequence[Sequence[int]]) -> None:
    for stage, (size, groups) in enumerate(zip(maps, spatial_groups, strict=True)):
        if any(voxels % count for voxels, count in zip(size, groups, strict=True)):
            raise ValueError(f"spatial_groups of stage {stage} must divide its feature map of {_times(size)} voxels, "
                             f"got {_times(groups)}: change them in the plans.")


def _check_something_shifts(kwargs: dict[str, Any]) -> None:
    halves = {"encoder": ["n_conv_per_stage"], "decoder": ["n_conv_per_stage_decoder"]}
    names = halves.get(kwargs["shift_location"], ["n_conv_per_stage", "n_conv_per_stage_decoder"])
    is_asked = any(kwargs["shift_channels"]) or any(kwargs["local_shift_channels"])
    if is_asked and kwargs["shift_position"] == "CSC" and np.hstack([kwargs[name] for name in names]).max() < 2:
        raise ValueError("CSC shifts between the convolutions of a block, but these plans have one a block, so nothing "
                         "would move: give n_conv_per_stage 2, or set shift_position to CCS.")


def _is_plain(architecture: dict[str, Any]) -> bool:
    return _class_name(architecture) == "PlainConvUNet"


def _class_name(architecture: dict[str, Any]) -> str:
    return architecture["network_class_name"].rsplit(".", 1)[-1]


def _times(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes))

