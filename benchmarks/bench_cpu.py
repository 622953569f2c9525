"""What does a prediction cost on the CPU? Stock nnU-Net, GSP in plain PyTorch and GSP in fused layers, taking turns.

Batch 1, 4 channels, fp32, the threads that torch takes. Stops where the fused layers do not give PyTorch's logits.

Run it with `python -m benchmarks.bench_cpu [--rounds N] [--json FILE]`.
"""
import multiprocessing
import os
import resource
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import Tensor, nn

from benchmarks.timing import command_line, save
from nnunetv2_gsp.architectures import GSPUNet
from nnunetv2_gsp.architectures.spatial_groups import feature_map_sizes, spatial_groups_of
from nnunetv2_gsp.cpu import fused_forward, fused_layers
from nnunetv2_gsp.cpu.program import Buffer, Program, Read, Step, Weights
from nnunetv2_gsp.cpu.runner import Runner
from nnunetv2_gsp.ops import GroupShift
from nnunetv2_gsp.timing import Timing, environment, interleaved

CHANNELS, CLASSES = 4, 4
NNUNET, TINY = (32, 64, 128, 256, 320, 320), (16, 32, 64, 128, 256)
ISOTROPIC, ANISOTROPIC = (128, 128, 128), (16, 256, 256)
HALVED_IN_PLANE = [[1, 1, 1], [1, 2, 2], [1, 2, 2], [2, 2, 2], [2, 2, 2], [1, 2, 2]]
Contender = Callable[[], Tensor | None]


def main() -> None:
    """Check, time and measure memory, a table for each patch."""
    arguments = command_line(__doc__, rounds=7)
    library = fused_layers()
    if library is None:
        sys.exit("The fused layers are not built: `python setup.py build_ext --inplace`.")
    print(f"{environment()}, fused layers built for {library.build}")
    save(arguments.json, bench_networks(ISOTROPIC, {"32 to 320": NNUNET, "16 to 256": TINY}, arguments.rounds)
         | bench_networks(ANISOTROPIC, {"32 to 320": NNUNET}, arguments.rounds) | bench_layer(arguments.rounds))


def bench_networks(patch: tuple[int, ...], widths: dict[str, tuple[int, ...]], rounds: int) -> dict[str, Timing]:
    """Print a table of every way to predict one patch, against stock at nnU-Net's widths."""
    contenders: dict[str, Callable[..., Contender]] = {"stock, 32 to 320": partial(predict, "stock", patch, NNUNET)}
    for name, features in widths.items():
        contenders |= {f"GSP, {name}, {way}": partial(predict, way, patch, features) for way in ("plain", "fused")}
    size = "×".join(map(str, patch))
    megabytes = {name: peak_megabytes(contender) for name, contender in contenders.items()}
    timings = timed({name: contender(is_checked=True) for name, contender in contenders.items()}, rounds)
    baseline = timings["stock, 32 to 320"].median_ms
    print(f"\n| 1×{CHANNELS}×{size} | ms (10-90 %) | stock takes longer by | peak memory, MB |\n|---|---|---|---|")
    for name, timing in timings.items():
        print(f"| {name} | {timing} | {baseline / timing.median_ms:.1f} | {megabytes[name]:.0f} |")
    return {f"{size}, {name}": timing for name, timing in timings.items()}


def bench_layer(rounds: int) -> dict[str, Timing]:
    """Print what one fused layer costs beside copying its output."""
    source, target = torch.randn(1, 32, *ISOTROPIC), torch.empty(1, 32, *ISOTROPIC)
    runner, arena = one_layer(ISOTROPIC, 32)
    library = fused_layers()
    assert library is not None
    timings = timed({"copy of the output": lambda: target.copy_(source),
                     "fused layer": lambda: runner.run(library, source, target, arena)}, rounds)
    copy = timings["copy of the output"].median_ms
    print("\n| 32 channels at 128³ | ms (10-90 %) | copies |\n|---|---|---|")
    for name, timing in timings.items():
        print(f"| {name} | {timing} | {timing.median_ms / copy:.2f} |")
    return {f"32 at 128³, {name}": timing for name, timing in timings.items()}


def one_layer(size: tuple[int, ...], channels: int) -> tuple[Runner, Tensor]:
    """Return activation, group shift, convolution and the sums of its norm, and memory for them."""
    image, logits = Buffer(channels, size), Buffer(channels, size)  # neither is there: the layer is an inner one
    source, target = Buffer(channels, size), Buffer(channels, size)
    read = Read(source, nonlin=nn.LeakyReLU(), group_shift=GroupShift((2, 2, 2), channels // 2))
    step = Step((read,), target, Weights(nn.Conv3d(channels, channels, 1)), nn.InstanceNorm3d(channels, affine=True))
    runner = Runner(Program([step], image, logits, n_axes=3), n_samples=1)
    return runner, torch.randn(runner.arena_floats)


def predict(way: str, patch: tuple[int, ...], features: tuple[int, ...], is_checked: bool = False) -> Contender:
    """Return a function that predicts one patch."""
    torch.manual_seed(0)
    image = torch.randn(1, CHANNELS, *patch)
    if way == "stock":
        return partial(PlainConvUNet(**topology(patch, features), kernel_sizes=3).eval(), image)
    network = gsp(patch, features).eval()
    if way == "plain":
        return lambda: network.decoder(network.encoder(image))
    if is_checked:
        with torch.inference_mode():
            check(fused_forward(network, image), network.decoder(network.encoder(image)))
    return partial(fused_forward, network, image)


def check(ours: Tensor | None, reference: Tensor) -> None:
    """Refuse to measure what is wrong."""
    assert ours is not None
    error = ((ours - reference).abs().max() / reference.abs().max()).item()
    same = (ours.argmax(1) == reference.argmax(1)).double().mean().item()
    if error > 1e-4 or same <= 0.9999:
        sys.exit(f"The fused layers are wrong: {error:.1e} of the largest logit, {same:.6f} of the labels agree.")


def timed(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    """Time them without gradients, and tell how busy the machine was."""
    before = os.getloadavg()[0]
    with torch.inference_mode():
        timings = interleaved(contenders, rounds)
    print(f"\nload average {before:.1f} before and {os.getloadavg()[0]:.1f} after", end="")
    return timings


def peak_megabytes(contender: Callable[[], Contender]) -> float:
    """Return how much more memory than before a prediction takes at its peak, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as child:
        return child.apply(_peak_megabytes, (contender,))


def _peak_megabytes(contender: Callable[[], Contender]) -> float:
    run = contender()
    before = _peak_of_this_process()
    with torch.inference_mode():
        run()
    return _peak_of_this_process() - before


def _peak_of_this_process() -> float:
    """Return megabytes; on Linux `getrusage` would count the parent's peak too."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def gsp(patch: tuple[int, ...], features: tuple[int, ...]) -> GSPUNet:
    """Build GSP's counterpart of stock's network, with the groups that the rule gives."""
    maps = feature_map_sizes(patch, topology(patch, features)["strides"])
    return GSPUNet(**topology(patch, features), spatial_groups=[
        spatial_groups_of(size, width // 2) for size, width in zip(maps, features, strict=True)])


def topology(patch: tuple[int, ...], features: tuple[int, ...]) -> dict:
    """Return what both networks are built from."""
    n_stages = len(features)
    strides = [1] + [2] * (n_stages - 1) if patch == ISOTROPIC else HALVED_IN_PLANE
    return {"input_channels": CHANNELS, "num_classes": CLASSES, "n_stages": n_stages, "features_per_stage": features,
            "conv_op": nn.Conv3d, "strides": strides, "n_conv_per_stage": 2, "n_conv_per_stage_decoder": 2,
            "conv_bias": True, "norm_op": nn.InstanceNorm3d, "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "nonlin": nn.LeakyReLU, "nonlin_kwargs": {"inplace": True}}


if __name__ == "__main__":
    main()
