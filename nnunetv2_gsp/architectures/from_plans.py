"""The `architecture` entry of nnU-Net's plans: stock in, GSP with resolved settings out."""
import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, fields
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np

from nnunetv2_gsp.architectures.request import ShiftRequest
from nnunetv2_gsp.architectures.settings import DEFAULT_LOCATION, DEFAULT_POSITION, ShiftSettings
from nnunetv2_gsp.architectures.spatial_groups import (
    feature_map_sizes,
    has_equal_groups_on_equal_axes,
    shift_channels_of,
)

GSP_NETWORK = "nnunetv2_gsp.architectures.gsp_unet.GSPUNet"
PLAIN_NETWORK = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
MEND = "write the plans anew, or mend what was edited."
_CONVOLUTIONS_OF_A_RESIDUAL_STAGE = 2  # as many as nnU-Net plans for a plain stage


def check_entry(architecture: dict[str, Any], patch_size: Sequence[int]) -> None:
    """Check that an `architecture` entry and a patch are what nnU-Net and this package write: a file may be edited.

    Raises:
        NotImplementedError: for a network that is neither PlainConvUNet nor ResidualEncoderUNet nor GSPUNet.
        ValueError: something is missing, is no list of whole numbers, or is not there for every stage; or the first
            stage strides.
    """
    kwargs = architecture.get("arch_kwargs") if isinstance(architecture, dict) else None
    if not isinstance(kwargs, dict) or not isinstance(architecture.get("network_class_name"), str):
        raise ValueError(f"Expected plans whose architecture has a network_class_name and arch_kwargs, found none; "
                         f"{MEND}")
    if not (is_gsp(architecture) or is_residual(architecture) or _is_plain(architecture)):
        raise _unknown_network(architecture)
    if not isinstance(patch_size, Sequence) or not patch_size or not all(map(is_count, patch_size)):
        raise ValueError(f"Expected plans with a patch_size of whole numbers of voxels, got {patch_size}; {MEND}")
    _check_stages(architecture, len(patch_size))


def is_count(value: Any) -> bool:
    """Tell whether a value of the plans is a whole number from 1 on."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) > 0


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
    resolved = deepcopy(architecture)
    if is_gsp(architecture):
        _complete(resolved["arch_kwargs"], patch_size)
    else:
        resolved["arch_kwargs"] = kwargs = plain_architecture(resolved)["arch_kwargs"]
        settings = (request or ShiftRequest()).resolve(feature_map_sizes(patch_size, kwargs["strides"]),
                                                       kwargs["features_per_stage"])
        kwargs.update(json.loads(json.dumps(asdict(settings))), kernel=kernel)  # lists, as a plans file has them
    _check_something_shifts(resolved["arch_kwargs"])
    return {**resolved, "network_class_name": GSP_NETWORK}


def plain_architecture(architecture: dict[str, Any]) -> dict[str, Any]:
    """Return a stock entry in PlainConvUNet's terms: residual stages become two convolutions; the input stays as it is.

    Raises:
        NotImplementedError: for a network that is neither PlainConvUNet nor ResidualEncoderUNet.
    """
    plain = deepcopy(architecture)
    kwargs = plain["arch_kwargs"]
    if is_residual(architecture):
        del kwargs["n_blocks_per_stage"]
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
    shift_settings = {field.name for field in fields(ShiftSettings)}
    kwargs = {name: value for name, value in stock["arch_kwargs"].items() if name not in {*shift_settings, "kernel"}}
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
    n_stages: Any = kwargs.get("n_stages")
    if not is_count(n_stages):
        raise ValueError(f"Expected plans whose arch_kwargs give n_stages as a whole number from 1 on, got {n_stages}; "
                         f"{MEND}")
    convolutions = "n_blocks_per_stage" if is_residual(architecture) else "n_conv_per_stage"
    lengths = {"features_per_stage": n_stages, "strides": n_stages, convolutions: n_stages,
               "n_conv_per_stage_decoder": n_stages - 1}
    if not is_gsp(architecture):  # which takes kernel_sizes along and ignores them
        lengths["kernel_sizes"] = n_stages
    for name, length in lengths.items():
        entries = kwargs.get(name)
        # the others may be one number for all stages
        is_for_all = is_count(entries) and name not in ("features_per_stage", "strides")
        is_entry = partial(_is_count_or_one_an_axis, n_axes) if name in ("strides", "kernel_sizes") else is_count
        if not (is_for_all or _is_list(entries, length, is_entry)):
            raise ValueError(f"Expected plans whose arch_kwargs give {name} for {length} stages of {n_axes} axes, in "
                             f"whole numbers from 1 on, got {entries}; {MEND}")
    first = kwargs["strides"][0]
    if np.prod(first) != 1:
        raise ValueError(f"Expected strides that begin with 1, since a segmentation has the size of its patch, got "
                         f"{first} for the first stage; change strides.")


def _is_count_or_one_an_axis(n_axes: int, entry: Any) -> bool:
    return is_count(entry) or _is_list(entry, n_axes, is_count)


def _is_list(value: Any, length: int, is_entry: Callable[[Any], bool]) -> bool:
    return isinstance(value, Sequence) and len(value) == length and all(map(is_entry, value))


def _unknown_network(architecture: dict[str, Any]) -> NotImplementedError:
    return NotImplementedError(f"GSP replaces the convolutions of PlainConvUNet and ResidualEncoderUNet; these plans "
                               f"name {architecture['network_class_name']}, which it does not know: train with plans "
                               f"that name one of the two, such as nnUNetPlans.")


def _complete(kwargs: dict[str, Any], patch_size: Sequence[int]) -> None:
    """Fill in what GSP plans leave out, with what `GSPUNet` would take."""
    maps = feature_map_sizes(patch_size, kwargs["strides"])
    _check_groups_divide_maps(kwargs.get("spatial_groups", ()), maps)
    defaults = {
        "shift_channels": [shift_channels_of(groups, channels // 2) for groups, channels in
                           zip(kwargs["spatial_groups"], kwargs["features_per_stage"], strict=True)],
        "shift_position": DEFAULT_POSITION, "shift_location": DEFAULT_LOCATION,
        "local_shift_channels": [0] * len(maps), "kernel": 1,
    }
    kwargs.update({name: value for name, value in defaults.items() if kwargs.get(name) is None})


def _check_groups_divide_maps(spatial_groups: Sequence[Sequence[int]], maps: Sequence[Sequence[int]]) -> None:
    if len(spatial_groups) != len(maps):
        raise ValueError(f"GSP plans must have spatial_groups for each of the {len(maps)} stages, got "
                         f"{len(spatial_groups)}: add them, or make the plans with nnUNetv2_gsp plan.")
    for stage, (size, groups) in enumerate(zip(maps, spatial_groups, strict=True)):
        if len(groups) != len(size) or any(count < 1 or voxels % count
                                           for voxels, count in zip(size, groups, strict=True)):
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

