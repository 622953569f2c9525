"""What does a forward pass cost beside stock nnU-Net? Batch 1, 4 channels, 128³, fp32, plain PyTorch on the CPU.

Run it with `python -m benchmarks.bench_networks [--rounds N] [--json FILE]`.
"""
from functools import partial

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import nn

from benchmarks.timing import command_line, save
from nnunetv2_gsp.architectures import GSPUNet
from nnunetv2_gsp.architectures.spatial_groups import feature_map_sizes, spatial_groups_of
from nnunetv2_gsp.timing import environment, interleaved

PATCH, CHANNELS, CLASSES = (128, 128, 128), 4, 4
WIDTHS = {"32 to 320": (32, 64, 128, 256, 320, 320), "16 to 256": (16, 32, 64, 128, 256)}


def main() -> None:
    """Time stock and GSP at both widths, taking turns."""
    arguments = command_line(__doc__, rounds=5)

    networks: dict[str, nn.Module] = {"stock, 32 to 320": stock(WIDTHS["32 to 320"])}
    networks |= {f"GSP, {name}": gsp(widths) for name, widths in WIDTHS.items()}
    x = torch.randn(1, CHANNELS, *PATCH)
    with torch.inference_mode():
        timings = interleaved({name: partial(network, x) for name, network in networks.items()},
                              arguments.rounds)

    baseline = timings["stock, 32 to 320"].median_ms
    print(f"1×{CHANNELS}×{'×'.join(map(str, PATCH))}, forward; {environment()}")
    print("| network | parameters | ms (10-90 %) | stock takes longer by |\n|---|---|---|---|")
    for name, timing in timings.items():
        parameters = sum(parameter.numel() for parameter in networks[name].parameters())
        print(f"| {name} | {parameters / 1e6:.2f} M | {timing} | {baseline / timing.median_ms:.2f} |")
    save(arguments.json, timings)


def stock(widths: tuple[int, ...]) -> nn.Module:
    """Build the network that nnU-Net plans for this patch."""
    return PlainConvUNet(**topology(widths), kernel_sizes=3).eval()


def gsp(widths: tuple[int, ...]) -> nn.Module:
    """Build its GSP counterpart."""
    maps = feature_map_sizes(PATCH, topology(widths)["strides"])
    groups = [spatial_groups_of(size, width // 2) for size, width in zip(maps, widths, strict=True)]
    return GSPUNet(**topology(widths), spatial_groups=groups).eval()


def topology(widths: tuple[int, ...]) -> dict:
    """Return what both networks are built from."""
    n_stages = len(widths)
    return {"input_channels": CHANNELS, "num_classes": CLASSES, "n_stages": n_stages, "features_per_stage": widths,
            "conv_op": nn.Conv3d, "strides": [1] + [2] * (n_stages - 1), "n_conv_per_stage": 2,
            "n_conv_per_stage_decoder": 2, "conv_bias": True, "norm_op": nn.InstanceNorm3d,
            "norm_op_kwargs": {"eps": 1e-5, "affine": True}, "nonlin": nn.LeakyReLU, "nonlin_kwargs": {"inplace": True}}


if __name__ == "__main__":
    main()
