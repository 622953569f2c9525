"""The `architecture` entry of nnU-Net's plans: stock in, GSP with resolved settings out."""
import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, fields
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
_CONVOLUTIONS_OF_A_RESIDUAL_STAGE = 2  # as many as nnU-Net plans for a plain stage


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
    _check_entry(architecture, patch_size)
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
    elif _class_name(architecture) != "PlainConvUNet":
        raise NotImplementedError(f"GSP replaces the convolutions of PlainConvUNet and ResidualEncoderUNet; these "
                                  f"plans name {architecture['network_class_name']}, which it does not know: train "
                                  f"with plans that name one of the two, such as nnUNetPlans.")
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


def _check_entry(architecture: dict[str, Any], patch_size: Sequence[int]) -> None:
    kwargs = architecture.get("arch_kwargs", {})
    missing = [name for name in ("n_stages", "features_per_stage", "strides") if name not in kwargs]
    if missing:
        raise ValueError(f"Expected plans whose arch_kwargs give n_stages, features_per_stage and strides, found no "
                         f"{missing[0]}; write the plans anew, or mend what was edited.")
    if not patch_size or not all(isinstance(size, Integral) and size > 0 for size in patch_size):
        raise ValueError(f"Expected plans with a patch_size of whole numbers of voxels, got {list(patch_size)}; write "
                         f"the plans anew, or mend what was edited.")


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


def _class_name(architecture: dict[str, Any]) -> str:
    return architecture["network_class_name"].rsplit(".", 1)[-1]


def _times(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes))

