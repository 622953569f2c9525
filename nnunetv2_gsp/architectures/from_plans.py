"""Reads the `architecture` entry of nnU-Net's plans, stock or GSP, into an `Architecture`, and writes GSP entries."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import fields
from itertools import repeat
from typing import Any

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import nn

from nnunetv2_gsp.architectures.architecture import Architecture, Stages, numbers_per_stage, shift_entries
from nnunetv2_gsp.architectures.entries import COUNT, PATCH_SIZE, fits
from nnunetv2_gsp.architectures.request import ShiftRequest
from nnunetv2_gsp.architectures.rules import (
    check_number_of_stages,
    count_or_count_per_axis,
    has_one_entry_a_stage,
    one_entry_a_stage,
    repeated,
)
from nnunetv2_gsp.architectures.settings import ShiftSettings
from nnunetv2_gsp.architectures.spatial_groups import (
    check_groups_divide,
    feature_map_sizes,
    has_equal_groups_on_equal_axes,
)
from nnunetv2_gsp.wording import times

Entry = dict[str, Any]  # network_class_name, arch_kwargs and _kw_requires_import

GSP_NETWORK = "nnunetv2_gsp.architectures.gsp_unet.GSPUNet"
PLAIN_NETWORK = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
MEND = "write the plans anew, or mend what was edited"
_CONVOLUTIONS_OF_A_RESIDUAL_STAGE = 2  # as many as nnU-Net plans for a plain stage
_SETTINGS = [field.name for field in fields(ShiftSettings)]


def check_network(entry: Entry, patch_size: Sequence[int]) -> None:
    """Check that an `architecture` entry names a supported network, and that the patch size is valid.

    Args:
        entry: network_class_name and arch_kwargs, as in nnU-Net's plans.
        patch_size: patch size in voxels along each axis, 2D or 3D.

    Raises:
        NotImplementedError: for a network that is neither PlainConvUNet nor ResidualEncoderUNet nor GSPUNet.
        ValueError: the name, the arguments or the patch are missing.

    Examples:
        >>> check_network({"network_class_name": "monai.networks.nets.UNETR", "arch_kwargs": {}}, patch_size=(16, 16))
        Traceback (most recent call last):
        NotImplementedError: GSP replaces the convolutions of PlainConvUNet and ResidualEncoderUNet; these plans ...
    """
    kwargs = entry.get("arch_kwargs") if isinstance(entry, dict) else None
    if not isinstance(kwargs, dict) or not isinstance(entry.get("network_class_name"), str):
        raise ValueError(
            f"Expected plans whose architecture has a network_class_name and arch_kwargs, found none; {MEND}."
        )
    if not (is_gsp(entry) or is_residual(entry) or _is_plain(entry)):
        raise _unknown_network(entry)
    if not fits(patch_size, PATCH_SIZE):
        raise ValueError(
            f"Expected plans with a patch_size of two or three whole numbers of voxels, got {patch_size}; {MEND}."
        )


def is_gsp(entry: Entry) -> bool:
    """Tell whether the entry names a GSP network, whose settings are explicit, so that no rule applies.

    Examples:
        >>> is_gsp({"network_class_name": GSP_NETWORK}), is_gsp({"network_class_name": PLAIN_NETWORK})
        (True, False)
    """
    return _class_name(entry) == "GSPUNet"


def is_residual(entry: Entry) -> bool:
    """Tell whether the entry names nnU-Net's residual encoder U-Net.

    Examples:
        >>> is_residual({"network_class_name": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"})
        True
    """
    return _class_name(entry) == "ResidualEncoderUNet"


def read_stages(entry: Entry, patch_size: Sequence[int]) -> Stages:
    """Return the stages of an `architecture` entry, fully checked, as the file may have been edited.

    A residual stage becomes a stage of two convolutions, in encoder and decoder.

    Args:
        entry: network_class_name and arch_kwargs, as in nnU-Net's plans.
        patch_size: patch size in voxels along each axis, 2D or 3D.

    Raises:
        NotImplementedError: for a network that is neither PlainConvUNet nor ResidualEncoderUNet nor GSPUNet.
        ValueError: something is missing or would be refused by `GSPUNet` (in the same words), the stages are not given
            one by one, or the first one strides.

    Examples:
        >>> stages = {"n_stages": 2, "features_per_stage": [16, 32], "strides": [1, 2], "kernel_sizes": 3}
        >>> blocks = {"n_conv_per_stage": 2, "n_conv_per_stage_decoder": 2}
        >>> entry = {"network_class_name": PLAIN_NETWORK, "arch_kwargs": {**stages, **blocks}}
        >>> read_stages(entry, patch_size=(16, 16)).strides
        ((1, 1), (2, 2))
    """
    check_network(entry, patch_size)
    n_axes, kwargs = len(patch_size), entry["arch_kwargs"]
    n_stages = kwargs.get("n_stages")
    check_number_of_stages(n_stages)
    if is_residual(entry):
        numbers_per_stage("n_blocks_per_stage", kwargs.get("n_blocks_per_stage"), n_stages)
        numbers_per_stage("n_conv_per_stage_decoder", kwargs.get("n_conv_per_stage_decoder"), n_stages - 1)
        kwargs = plain_architecture(entry)["arch_kwargs"]
    stages = Stages.checked(n_axes, n_stages, **{stage.name: kwargs.get(stage.name) for stage in fields(Stages)})
    for name in ("features_per_stage", "strides"):  # nnU-Net reads them itself, and wants them spelt out
        one_entry_a_stage(name, kwargs[name], n_stages, [])
    if any(step != 1 for step in stages.strides[0]):
        raise ValueError(
            f"Expected strides that begin with 1, since a segmentation has the size of its patch, got "
            f"{kwargs['strides'][0]} for the first stage; change strides."
        )
    if not is_gsp(entry):  # which takes kernel_sizes along and ignores them
        one_entry_a_stage(
            "kernel_sizes",
            repeated(kwargs.get("kernel_sizes"), n_stages),
            n_stages,
            repeat(count_or_count_per_axis(n_axes)),
        )
    return stages


def read_architecture(
    entry: Entry, patch_size: Sequence[int], request: ShiftRequest | None = None, kernel: int = 1
) -> Architecture:
    """Return the specification of the GSP network that replaces the network of an `architecture` entry.

    A GSP entry keeps its settings; what it leaves out is the paper's choice.

    Args:
        entry: network_class_name and arch_kwargs, as in nnU-Net's plans.
        patch_size: patch size in voxels along each axis, 2D or 3D.
        request: shifts to give to a stock entry; None gives the paper's.
        kernel: edge of the convolutions to give to a stock entry, 1 or 3 voxels.

    Raises:
        NotImplementedError: for a network that is neither PlainConvUNet nor ResidualEncoderUNet nor GSPUNet.
        ValueError: the entry or the patch size is not as plans hold it, the strides do not divide the patch, given
            groups do not divide the feature maps, or a request does not fit.

    Examples:
        >>> stages = {"n_stages": 2, "features_per_stage": [16, 32], "strides": [1, 2], "kernel_sizes": 3}
        >>> blocks = {"n_conv_per_stage": 2, "n_conv_per_stage_decoder": 2}
        >>> entry = {"network_class_name": PLAIN_NETWORK, "arch_kwargs": {**stages, **blocks}}
        >>> print(read_architecture(entry, patch_size=(16, 16)).shifts)
        CSC in both: (2, 2) on 8 channels, (4, 4) on 16 channels
    """
    stages = read_stages(entry, patch_size)
    maps = feature_map_sizes(patch_size, stages.strides)
    if is_gsp(entry):
        kwargs = entry["arch_kwargs"]
        shifts = ShiftSettings.checked(
            stages.features_per_stage, len(patch_size), **{name: kwargs.get(name) for name in _SETTINGS}
        )
        read = Architecture(stages, shifts, 1 if kwargs.get("kernel") is None else kwargs["kernel"])
        check_groups_divide(shifts.spatial_groups, maps)
    else:
        read = Architecture(stages, (request or ShiftRequest()).resolve(maps, stages.features_per_stage), kernel)
    read.check_something_shifts()
    return read


def gsp_architecture(
    entry: Entry, patch_size: Sequence[int], request: ShiftRequest | None = None, kernel: int = 1
) -> Entry:
    """Return the GSP counterpart of an `architecture` entry, with spatial groups and shifted channels resolved.

    A GSP entry comes back with its own groups; what it leaves out is filled in with the defaults. The input is not
    changed.

    Args:
        entry: network_class_name, arch_kwargs and _kw_requires_import, as in nnU-Net's plans.
        patch_size: patch size in voxels along each axis, 2D or 3D.
        request: shifts to give to a stock entry; None gives the paper's.
        kernel: edge of the convolutions to give to a stock entry, 1 or 3 voxels.

    Raises:
        NotImplementedError, ValueError: as `read_architecture`.

    Examples:
        >>> stages = {"n_stages": 2, "features_per_stage": [16, 32], "strides": [1, 2], "kernel_sizes": 3}
        >>> blocks = {"n_conv_per_stage": 2, "n_conv_per_stage_decoder": 2}
        >>> entry = {"network_class_name": PLAIN_NETWORK, "arch_kwargs": {**stages, **blocks}}
        >>> gsp_architecture(entry, patch_size=(16, 16))["arch_kwargs"]["spatial_groups"]
        [[2, 2], [4, 4]]
    """
    read = read_architecture(entry, patch_size, request, kernel)
    resolved = deepcopy(entry) if is_gsp(entry) else plain_architecture(entry)
    return {
        **resolved,
        "network_class_name": GSP_NETWORK,
        "arch_kwargs": {**resolved["arch_kwargs"], **shift_entries(read)},
    }


def buildable_architecture(
    entry: Entry, patch_size: Sequence[int], request: ShiftRequest | None = None, kernel: int = 1
) -> Entry:
    """Return the same entry as `gsp_architecture`, after building it once, which imports the operators it names.

    Args:
        entry, patch_size, request, kernel: as for `gsp_architecture`.

    Raises:
        NotImplementedError, ValueError: as `gsp_architecture`, and whatever else `GSPUNet` refuses.
    """
    resolved = gsp_architecture(entry, patch_size, request, kernel)
    with torch.device("meta"):
        build(resolved, input_channels=1, output_channels=2, deep_supervision=True, allow_init=False)
    return resolved


def build(
    entry: Entry, input_channels: int, output_channels: int, deep_supervision: bool, allow_init: bool
) -> nn.Module:
    """Build the network of an `architecture` entry, stock or GSP, as nnU-Net does.

    Args:
        entry: network_class_name, arch_kwargs and _kw_requires_import, as in nnU-Net's plans.
        input_channels: channels of the image, from 1 on.
        output_channels: channels of the logits, one for each segmentation head, from 1 on.
        deep_supervision: True returns logits of every decoder stage, False of the highest resolution alone.
        allow_init: True initialises the weights as the network's class does, False leaves PyTorch's.

    Raises:
        ValueError: the network refuses its arguments.

    Examples:
        >>> stages = {"n_stages": 2, "features_per_stage": [16, 32], "strides": [1, 2], "conv_op": "torch.nn.Conv2d"}
        >>> blocks = {"n_conv_per_stage": 2, "n_conv_per_stage_decoder": 2, "spatial_groups": [[2, 2], [4, 4]]}
        >>> names = {"network_class_name": GSP_NETWORK, "_kw_requires_import": ["conv_op"]}
        >>> print(build({**names, "arch_kwargs": stages | blocks}, 1, 3, False, allow_init=True).shift_settings)
        CSC in both: (2, 2) on 8 channels, (4, 4) on 16 channels
    """
    try:
        network: nn.Module = get_network_from_plans(
            entry["network_class_name"],
            entry["arch_kwargs"],
            entry["_kw_requires_import"],
            input_channels,
            output_channels,
            allow_init,
            deep_supervision,
        )
    except (TypeError, AttributeError, LookupError, ImportError) as error:  # a name that does not exist or does not fit
        raise ValueError(
            f"Expected plans whose arch_kwargs {_class_name(entry)} takes, got a "
            f"{type(error).__name__}: {error}; {MEND}."
        ) from error
    return network


def plain_architecture(entry: Entry) -> Entry:
    """Return a stock entry as one of PlainConvUNet, residual stages as two convolutions; the input is not changed.

    Raises:
        NotImplementedError: for a network that is neither PlainConvUNet nor ResidualEncoderUNet.

    Examples:
        >>> network = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
        >>> kwargs = {"n_stages": 3, "n_blocks_per_stage": [1, 3, 4], "n_conv_per_stage_decoder": [1, 1]}
        >>> plain_architecture({"network_class_name": network, "arch_kwargs": kwargs})["arch_kwargs"]
        {'n_stages': 3, 'n_conv_per_stage_decoder': [2, 2], 'n_conv_per_stage': [2, 2, 2]}
    """
    plain = deepcopy(entry)
    kwargs = plain["arch_kwargs"]
    if is_residual(entry):
        kwargs.pop("n_blocks_per_stage", None)
        kwargs["n_conv_per_stage"] = [_CONVOLUTIONS_OF_A_RESIDUAL_STAGE] * kwargs["n_stages"]
        kwargs["n_conv_per_stage_decoder"] = [_CONVOLUTIONS_OF_A_RESIDUAL_STAGE] * (kwargs["n_stages"] - 1)
    elif not _is_plain(entry):
        raise _unknown_network(entry)
    return {**plain, "network_class_name": PLAIN_NETWORK}


def stock_architecture(entry: Entry) -> Entry:
    """Return the stock counterpart of an `architecture` entry; the input is not changed.

    A stock entry is returned as it is. A GSP entry becomes a PlainConvUNet with the same stages, channels, strides and
    convolutions, and with the entry's `kernel_sizes` where they fit its stages, else with edges of 3 voxels.

    Examples:
        >>> kwargs = {"n_stages": 2, "features_per_stage": [16, 32], "spatial_groups": [[2, 2], [4, 4]]}
        >>> stock_architecture({"network_class_name": GSP_NETWORK, "arch_kwargs": kwargs})["arch_kwargs"]
        {'n_stages': 2, 'features_per_stage': [16, 32], 'kernel_sizes': 3}
    """
    stock = deepcopy(entry)
    if not is_gsp(entry):
        return stock
    kwargs = {name: value for name, value in stock["arch_kwargs"].items() if name not in (*_SETTINGS, "kernel")}
    planned = kwargs.get("kernel_sizes")
    if not (fits(planned, COUNT) or has_one_entry_a_stage(planned, kwargs["n_stages"])):
        kwargs["kernel_sizes"] = 3
    return {**stock, "network_class_name": PLAIN_NETWORK, "arch_kwargs": kwargs}


def describe(architecture: Architecture, patch_size: Sequence[int]) -> str:
    """Return a table of a GSP network's shifts, one line for each stage.

    Its columns: map size (voxels), channels, spatial groups, block size (voxels), channels that move by blocks and, if
    there are any, channels that move by single voxels.

    Args:
        architecture: stages, shifts and kernel of the network.
        patch_size: patch size in voxels along each axis, 2D or 3D.
    """
    stages, shifts = architecture.stages, architecture.shifts
    location = {"both": "encoder and decoder"}.get(shifts.shift_location, shifts.shift_location)
    has_local_shift = any(shifts.local_shift_channels)
    edges = times([architecture.kernel] * len(patch_size))
    header = f"{'stage':>5}  {'map':<15} {'channels':>8}  {'groups':<12} {'block':<15} {'shifted channels':>16}"
    lines = [
        f"Group Shift, {shifts.shift_position} in {location}, {edges} convolutions:",
        header + ("  locally" if has_local_shift else ""),
    ]
    rows = zip(
        feature_map_sizes(patch_size, stages.strides),
        stages.features_per_stage,
        shifts.spatial_groups,
        shifts.shift_channels,
        shifts.local_shift_channels,
        strict=True,
    )
    for stage, (size, channels, groups, shifted, local) in enumerate(rows):
        block = [voxels // count for voxels, count in zip(size, groups, strict=True)]
        note = "" if has_equal_groups_on_equal_axes(size, groups) else "  (no equal split of equal axes)"
        lines.append(
            f"{stage:>5}  {times(size):<15} {channels:>8}  {times(groups):<12} {times(block):<15} "
            f"{shifted:>16}{f'{local:>9}' if has_local_shift else ''}{note}"
        )
    return "\n".join(lines)


def _unknown_network(entry: Entry) -> NotImplementedError:
    return NotImplementedError(
        f"GSP replaces the convolutions of PlainConvUNet and ResidualEncoderUNet; these plans "
        f"name {entry['network_class_name']}, which it does not know: train with plans that "
        f"name one of the two, such as nnUNetPlans."
    )


def _is_plain(entry: Entry) -> bool:
    return _class_name(entry) == "PlainConvUNet"


def _class_name(entry: Entry) -> str:
    return str(entry["network_class_name"]).rsplit(".", 1)[-1]
