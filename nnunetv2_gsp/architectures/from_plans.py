"""The `architecture` entry of nnU-Net's plans: stock in, GSP with resolved settings out."""
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

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
    return architecture["network_class_name"] == GSP_NETWORK


def gsp_architecture(architecture: dict[str, Any], patch_size: Sequence[int]) -> dict[str, Any]:
    """Return the GSP counterpart of an `architecture` entry, with spatial groups and shifted channels resolved.

    A GSP entry comes back as it is. The input is not changed.

    Args:
        architecture: network_class_name, arch_kwargs and _kw_requires_import, as in nnU-Net's plans.
        patch_size: in voxels.

    Raises:
        NotImplementedError: for a network that is neither PlainConvUNet nor ResidualEncoderUNet.
        ValueError: if the strides do not divide the patch, or the groups the feature maps.
    """
    resolved = deepcopy(architecture)
    if is_gsp(architecture):
        _check_groups_divide_maps(resolved["arch_kwargs"], patch_size)
        return resolved
    kwargs = _plain_kwargs(resolved)
    maps = feature_map_sizes(patch_size, kwargs["strides"])
    # half of the channels move (the paper's ratio), and each group needs one
    groups = [spatial_groups_of(size, channels // 2)
              for size, channels in zip(maps, kwargs["features_per_stage"], strict=True)]
    kwargs["spatial_groups"] = [list(stage) for stage in groups]
    kwargs["shift_channels"] = [shift_channels_of(stage, channels)
                                for stage, channels in zip(groups, kwargs["features_per_stage"], strict=True)]
    kwargs["shift_position"] = "CSC"
    kwargs["shift_location"] = "both"
    return {**resolved, "network_class_name": GSP_NETWORK, "arch_kwargs": kwargs}


def describe(architecture: dict[str, Any], patch_size: Sequence[int]) -> str:
    """Return a table of a GSP entry, a line a stage: map size, channels, groups, block (voxels), shifted channels."""
    kwargs = architecture["arch_kwargs"]
    lines = [f"Group Shift, {kwargs['shift_position']} in {kwargs['shift_location']}:",
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
    network = architecture["network_class_name"].rsplit(".", 1)[-1]
    kwargs = architecture["arch_kwargs"]
    if network == "ResidualEncoderUNet":
        del kwargs["n_blocks_per_stage"]
        kwargs["n_conv_per_stage"] = [_CONVOLUTIONS_OF_A_RESIDUAL_STAGE] * kwargs["n_stages"]
        kwargs["n_conv_per_stage_decoder"] = [_CONVOLUTIONS_OF_A_RESIDUAL_STAGE] * (kwargs["n_stages"] - 1)
    elif network != "PlainConvUNet":
        raise NotImplementedError(f"GSP replaces the convolutions of PlainConvUNet and ResidualEncoderUNet; these "
                                  f"plans name {architecture['network_class_name']}, which it does not know: train "
                                  f"with plans that name one of the two, such as nnUNetPlans.")
    return kwargs


def _check_groups_divide_maps(kwargs: dict[str, Any], patch_size: Sequence[int]) -> None:
    maps = feature_map_sizes(patch_size, kwargs["strides"])
    for stage, (size, groups) in enumerate(zip(maps, kwargs["spatial_groups"], strict=True)):
        if len(groups) != len(size) or any(count < 1 or voxels % count
                                           for voxels, count in zip(size, groups, strict=True)):
            raise ValueError(f"spatial_groups of stage {stage} must divide its feature map of {_times(size)} voxels "
                             f"(patch {_times(patch_size)}), got {_times(groups)}: change them in the plans.")


def _times(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes))
