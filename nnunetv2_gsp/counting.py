"""Counts parameters, multiply-accumulates and activation memory of networks, and times them."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nnunetv2_gsp.architectures.from_plans import build
from nnunetv2_gsp.timing import Timing, interleaved


def channels_of(plans: dict[str, Any], configuration: str, dataset_json: dict[str, Any]) -> tuple[int, int]:
    """Return the number of channels that a planned network takes, and the number of its segmentation heads.

    Args:
        plans: content of a plans file.
        configuration: name of a configuration of the plans; a cascade's takes the previous stage's segmentation, too.
        dataset_json: content of the dataset.json.
    """
    manager = PlansManager(plans)
    return (
        determine_num_input_channels(manager, manager.get_configuration(configuration), dataset_json),
        manager.get_label_manager(dataset_json).num_segmentation_heads,
    )


def count_parameters(network: nn.Module) -> int:
    """Count the learnt parameters of a network.

    Examples:
        >>> count_parameters(nn.Conv3d(4, 16, kernel_size=3))
        1744
    """
    return sum(parameter.numel() for parameter in network.parameters())


def count_macs(network: nn.Module, x: Tensor) -> int:
    """Count the multiply-accumulates of the convolutions and matrix products of a forward pass.

    Args:
        network: network on any device; on the meta device nothing is computed.
        x: input of the network (N, C, *spatial), on the same device.

    Examples:
        >>> count_macs(nn.Conv3d(4, 16, kernel_size=1), torch.zeros(1, 4, 8, 8, 8)) == 4 * 16 * 8**3
        True
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(x)
    return int(counter.get_total_flops()) // 2


def count_architecture(
    architecture: dict[str, Any], patch_size: Sequence[int], input_channels: int, output_channels: int
) -> tuple[int, int]:
    """Return the parameters of a planned network, heads of deep supervision included, and the MACs of one patch.

    Args:
        architecture: network_class_name, arch_kwargs and _kw_requires_import, as in nnU-Net's plans, stock or GSP.
        patch_size: patch size in voxels along each axis, 2D or 3D.
        input_channels: channels of the image, from 1 on.
        output_channels: channels of the logits, one for each segmentation head, from 1 on.

    Examples:
        >>> from nnunetv2_gsp.architectures.from_plans import PLAIN_NETWORK
        >>> stages = {"n_stages": 2, "features_per_stage": [8, 16], "strides": [1, 2], "kernel_sizes": 3}
        >>> blocks = {"n_conv_per_stage": 2, "n_conv_per_stage_decoder": 2, "conv_op": "torch.nn.Conv2d"}
        >>> names = {"network_class_name": PLAIN_NETWORK, "_kw_requires_import": ["conv_op"]}
        >>> count_architecture({**names, "arch_kwargs": stages | blocks}, (16, 16), 1, 2)  # parameters, MACs
        (6362, 866304)
    """
    predicting, training = (
        built(architecture, input_channels, output_channels, "meta", is_training) for is_training in (False, True)
    )
    return (
        count_parameters(training),
        count_macs(predicting, torch.empty(1, input_channels, *patch_size, device="meta")),
    )


def time_architecture(
    architecture: dict[str, Any],
    patch_size: Sequence[int],
    input_channels: int,
    output_channels: int,
    device: str = "cpu",
    rounds: int = 5,
) -> Timing:
    """Time the forward pass of a planned network on one patch, without deep supervision.

    Args:
        architecture, patch_size, input_channels, output_channels: as for `count_architecture`.
        device: device to measure on, cpu, cuda or mps.
        rounds: number of timed forward passes, from 1 on, after one to warm up.

    Examples:
        >>> from nnunetv2_gsp.architectures.from_plans import PLAIN_NETWORK
        >>> stages = {"n_stages": 2, "features_per_stage": [8, 16], "strides": [1, 2], "kernel_sizes": 3}
        >>> blocks = {"n_conv_per_stage": 2, "n_conv_per_stage_decoder": 2, "conv_op": "torch.nn.Conv2d"}
        >>> names = {"network_class_name": PLAIN_NETWORK, "_kw_requires_import": ["conv_op"]}
        >>> time_architecture({**names, "arch_kwargs": stages | blocks}, (16, 16), 1, 2, rounds=1).median_ms > 0
        True
    """
    builder = partial(built, architecture, input_channels, output_channels)
    return time_networks({"network": builder}, (input_channels, *patch_size), device, rounds)["network"]


def count_activation_bytes(network: nn.Module, x: Tensor) -> int:
    """Count the bytes that autograd keeps from a forward pass for the backward pass, without parameters.

    A storage that several operations keep, whole or as a view, counts once, and counts whole.

    Args:
        network: network on any device; on the meta device nothing is computed.
        x: input of the network (N, C, *spatial), on the same device; it counts, too, if it is kept.

    Examples:
        >>> x = torch.zeros(1, 4, 8, 8, 8)
        >>> count_activation_bytes(nn.Conv3d(4, 16, kernel_size=1), x) == 4 * x.numel()  # the input, in fp32
        True
    """
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[id(storage)] = storage  # alive to the end, or another one might get its identity
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(x)
    parameters = {id(parameter.untyped_storage()) for parameter in network.parameters()}
    return sum(storage.nbytes() for identity, storage in kept.items() if identity not in parameters)


def time_networks(
    builders: Mapping[str, Callable[..., nn.Module]], shape: tuple[int, ...], device: str, rounds: int
) -> dict[str, Timing]:
    """Time forward passes of networks, taking turns, on one image of noise.

    Args:
        builders: name -> function that makes the network, as `built` does, of `device` and `deep_supervision`.
        shape: of the image, (C, *patch).
        device: device to measure on, cpu, cuda or mps.
        rounds: number of timed passes of each, from 1 on, after one to warm up.
    """
    # nnU-Net predicts with cudnn.benchmark
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, benchmark=True):
        x = torch.randn(1, *shape, device=device)
        return interleaved(
            {name: partial(build(device=device, deep_supervision=False).eval(), x) for name, build in builders.items()},
            rounds,
            device,
        )


def built(
    architecture: dict[str, Any], input_channels: int, output_channels: int, device: str, deep_supervision: bool
) -> nn.Module:
    """Return a planned network on a device, with the weights that its layers begin with.

    Args:
        architecture, input_channels, output_channels: as for `count_architecture`.
        device: device of the weights; on meta they have a shape and no content.
        deep_supervision: True lets it return logits of several resolutions.
    """
    with torch.device(device):
        return build(architecture, input_channels, output_channels, deep_supervision, allow_init=False)
