"""The `architecture` entry of nnU-Net's plans: stock in, GSP with resolved settings out."""
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from nnunetv2_gsp.architectures.settings import DEFAULT_LOCATION, DEFAULT_POSITION
from nnunetv2_gsp.architectures.spatial_groups import (
    feature_map_sizes,
    has_equal_groups_on_equal_axes,
    shift_channels_of,
    spatial_groups_of,
)

GSP_NETWORK = "nnunetv2_gsp.architectures.gsp_unet.GSPUNet"
_CONVOLUTIONS_OF_A_RESIDUAL_STAGE = 2  # as many as nnU-Net plans for a plain stage


def is_gsp(architecture: dict[str, Any]) -> bool:
    """Tell whether the entry names a GSP network; its settings are then explicit and no rule applies."""
    return _class_name(architecture) == "GSPUNet"


def is_residual(architecture: dict[str, Any]) -> bool:
    """Tell whether the entry names nnU-Net's residual encoder U-Net."""
    return _class_name(architecture) == "ResidualEncoderUNet"


def gsp_architecture(architecture: dict[str, Any], patch_size: Sequence[int]) -> dict[str, Any]:
    """Return the GSP counterpart of an `architecture` entry, with spatial groups and shifted channels resolved.

    A GSP entry comes back with its own groups; what it leaves out is filled in with the defaults. The input is not
    changed.

    Args:
        architecture: network_class_name, arch_kwargs and _kw_requires_import, as in nnU-Net's plans.
        patch_size: in voxels.

    Raises:
        NotImplementedError: for a network that is neither PlainConvUNet nor ResidualEncoderUNet.
        ValueError: if the strides do not divide the patch, or given groups the feature maps.
    """
    resolved = deepcopy(architecture)
    kwargs = resolved["arch_kwargs"] if is_gsp(architecture) else _plain_kwargs(resolved)
    maps = feature_map_sizes(patch_size, kwargs["strides"])
    features = kwargs["features_per_stage"]
    if is_gsp(architecture):
        _check_groups_divide_maps(kwargs.get("spatial_groups", ()), maps)
    else:
        # half of the channels move (the paper's ratio), and each group needs one
        kwargs["spatial_groups"] = [list(spatial_groups_of(size, channels // 2))
                                    for size, channels in zip(maps, features, strict=True)]
    kwargs.setdefault("shift_channels", [shift_channels_of(groups, channels) for groups, channels
                                         in zip(kwargs["spatial_groups"], features, strict=True)])
    kwargs.setdefault("shift_position", DEFAULT_POSITION)
    kwargs.setdefault("shift_location", DEFAULT_LOCATION)
    _check_something_shifts(kwargs)
    return {**resolved, "network_class_name": GSP_NETWORK, "arch_kwargs": kwargs}


def describe(architecture: dict[str, Any], patch_size: Sequence[int]) -> str:
    """Return a table of a GSP entry, a line a stage: map size, channels, groups, block (voxels), shifted channels."""
    kwargs = architecture["arch_kwargs"]
    location = {"both": "encoder and decoder"}.get(kwargs["shift_location"], kwargs["shift_location"])
    lines = [f"Group Shift, {kwargs['shift_position']} in {location}:",
             f"{'stage':>5}  {'map':<15} {'channels':>8}  {'groups':<12} {'block':<15} {'shifted channels':>16}"]
    stages = zip(feature_map_sizes(patch_size, kwargs["strides"]), kwargs["features_per_stage"],
                 kwargs["spatial_groups"], kwargs["shift_channels"], strict=True)
    for stage, (size, channels, groups, shifted) in enumerate(stages):
        block = [voxels // count for voxels, count in zip(size, groups, strict=True)]
        note = "" if has_equal_groups_on_equal_axes(size, groups) else "  (no equal split of equal axes)"
        lines.append(f"{stage:>5}  {_times(size):<15} {channels:>8}  {_times(groups):<12} {_times(block):<15} "
                     f"{shifted:>16}{note}")
    return "\n".join(lines)


def _plain_kwargs(architecture: dict[str, Any]) -> dict[str, Any]:
    """Return the `arch_kwargs` in PlainConvUNet's terms."""
    kwargs = architecture["arch_kwargs"]
    if is_residual(architecture):
        del kwargs["n_blocks_per_stage"]
        kwargs["n_conv_per_stage"] = [_CONVOLUTIONS_OF_A_RESIDUAL_STAGE] * kwargs["n_stages"]
        kwargs["n_conv_per_stage_decoder"] = [_CONVOLUTIONS_OF_A_RESIDUAL_STAGE] * (kwargs["n_stages"] - 1)
    elif _class_name(architecture) != "PlainConvUNet":
        raise NotImplementedError(f"GSP replaces the convolutions of PlainConvUNet and ResidualEncoderUNet; these "
                                  f"plans name {architecture['network_class_name']}, which it does not know: train "
                                  f"with plans that name one of the two, such as nnUNetPlans.")
    return kwargs


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
    convolutions = np.hstack([kwargs["n_conv_per_stage"], kwargs["n_conv_per_stage_decoder"]])
    if kwargs["shift_position"] == "CSC" and convolutions.max() < 2:
        raise ValueError("CSC shifts between the convolutions of a block, but these plans have one a block, so nothing "
                         "would move: give n_conv_per_stage 2, or set shift_position to CCS.")


def _class_name(architecture: dict[str, Any]) -> str:
    return architecture["network_class_name"].rsplit(".", 1)[-1]


def _times(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes))
