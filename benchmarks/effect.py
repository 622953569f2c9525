"""Dice with and without shifts on a segmentation task that intensity alone cannot solve, so that context decides.

Every case is a volume of 32³ voxels of white Gaussian noise (mean 0, SD 1) with one axis-parallel ellipsoid: centre
uniform from 10 to 22 voxels, semi-axes uniform from 5 to 10 voxels, each axis on its own. The inside has the noise of
the outside. All that shows the ellipsoid are marks on the half of its surface that is far from the first slice: of the
voxels there whose centre is within half a voxel of the surface, inside or outside, each is with probability 0.3
brighter by 4. To label a voxel is therefore to see marks up to 20 voxels away, and to know on which side they are.

Training takes new cases at every step, so that no network can learn any by heart; the held-out cases are 64 others, the
same for every setting and seed. The network has four stages of 16 to 128 channels and is trained as nnU-Net trains,
apart from deep supervision and the batch of 1: Dice and cross-entropy loss, SGD with Nesterov momentum 0.99, learning
rate 0.01 with polynomial decay, weight decay 3e-5, gradients clipped at 12. A seed settles the initial weights and the
training cases; with one thread a process it settles the result on one machine.

Run it with `python -m benchmarks.effect -o FOLDER`, and for the search for the local shift's ratio and place too with
`--settings all`. Every finished run is a JSON file in FOLDER: a second call goes on where the first was stopped.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from torch import nn
from tqdm import tqdm

from nnunetv2_gsp.architectures.from_plans import Entry, build, gsp_architecture
from nnunetv2_gsp.architectures.request import ShiftRequest
from nnunetv2_gsp.counting import count_macs, count_parameters
from nnunetv2_gsp.timing import environment
from nnunetv2_gsp.wording import times

PATCH, WIDTHS, BATCH = (32, 32, 32), (16, 32, 64, 128), 1
MARK_PROBABILITY, MARK_BRIGHTNESS = 0.3, 4.0
TRAINING, HELD_OUT = 0, 1  # the first word of a case's seed
N_HELD_OUT, N_PRIOR = 64, 300
LEARNING_RATE = 0.01


@dataclass(frozen=True)
class Setting:
    """A network to compare: its shifts, and the edge of its convolution kernels in voxels."""

    request: ShiftRequest
    kernel: int = 1


MAIN_SETTINGS = {
    "none": Setting(ShiftRequest(shift_position="none")),
    "CSC": Setting(ShiftRequest()),
    "CSC-decoder": Setting(ShiftRequest(shift_location="decoder")),
    "CCS": Setting(ShiftRequest(shift_position="CCS")),
    "CSCS": Setting(ShiftRequest(shift_position="CSCS")),
    "CSC-ratio-1": Setting(ShiftRequest(shift_ratio=1)),
    # less than .375 leaves no channel for each of the six directions in the first stage, which has 16
    "CSC+local-.375": Setting(ShiftRequest(local_shift_ratio=0.375)),
    "3x3x3": Setting(ShiftRequest(shift_position="none"), kernel=3),
}
RATIOS_OF_LOCAL_SHIFT = {
    "CSC+local-.125": Setting(ShiftRequest(local_shift_ratio=0.125)),
    "CSC+local-.25": Setting(ShiftRequest(local_shift_ratio=0.25)),
    "CSC+local-.5": Setting(ShiftRequest(local_shift_ratio=0.5)),
    "local-.25": Setting(ShiftRequest(shift_ratio=0, local_shift_ratio=0.25)),
    "local-.375": Setting(ShiftRequest(shift_ratio=0, local_shift_ratio=0.375)),
    "local-.75": Setting(ShiftRequest(shift_ratio=0, local_shift_ratio=0.75)),
}
PLACES_OF_LOCAL_SHIFT = {
    f"{position}-{location}+local-.375": Setting(
        ShiftRequest(local_shift_ratio=0.375, shift_position=position, shift_location=location)
    )
    for position in ("CSC", "CCS", "CSCS")
    for location in ("encoder", "decoder", "both")
    if (position, location) != ("CSC", "both")  # a main setting
}
SETTINGS = MAIN_SETTINGS | RATIOS_OF_LOCAL_SHIFT | PLACES_OF_LOCAL_SHIFT


@dataclass(frozen=True)
class Run:
    """One training: the name of its setting, its seed, and its number of steps."""

    setting: str
    seed: int
    steps: int

    def file_in(self, folder: Path) -> Path:
        """Return the JSON file in `folder` that keeps the Dice."""
        return folder / f"{self.setting}_seed{self.seed}_steps{self.steps}.json"


def main() -> None:
    """Do the runs that the output folder does not have yet, then print the table."""
    arguments = _command_line()
    names = list(SETTINGS) if "all" in arguments.settings else arguments.settings
    # round by round, so that a run that is stopped has seen every setting as often
    runs = [Run(name, seed, arguments.steps) for seed in range(arguments.seeds) for name in names]
    arguments.output.mkdir(parents=True, exist_ok=True)
    train_missing(runs, arguments.output, arguments.processes)
    dice: dict[str, list[float]] = {name: [] for name in names}
    for run in runs:
        dice[run.setting].append(json.loads(run.file_in(arguments.output).read_text())["dice"])
    print(table(dice))
    print(
        f"\nMACs of a forward pass of 1×1×{times(PATCH)}; {arguments.steps} steps of batch {BATCH}; "
        f"{N_HELD_OUT} held-out cases; {environment() | {'threads': 1}}"
    )


def case(*seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make one case from a seed, a sequence of numbers.

    Returns:
        The image, (D, H, W) float32; the ellipsoid, (D, H, W) bool; and where the marks are, (D, H, W) bool.
    """
    generator = np.random.default_rng(seed)
    centre, semi_axes = generator.uniform(10, 22, 3), generator.uniform(5, 10, 3)
    offset = np.moveaxis(np.indices(PATCH), 0, -1) - centre
    radius = np.linalg.norm(offset / semi_axes, axis=-1)  # 1 on the surface
    distance = (radius - 1) * radius / np.linalg.norm(offset / semi_axes**2, axis=-1)  # voxels, to first order
    is_far_surface = (np.abs(distance) < 0.5) & (offset[..., 0] > 0)
    marks = is_far_surface & (generator.random(PATCH) < MARK_PROBABILITY)
    image = generator.standard_normal(PATCH) + MARK_BRIGHTNESS * marks
    return image.astype(np.float32), radius < 1, marks


def batch(seeds: Iterable[tuple[int, ...]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the images, (N, 1, D, H, W) float32, and the ellipsoids, (N, 1, D, H, W) int64, of these cases."""
    images, ellipsoids, _ = zip(*(case(*seed) for seed in seeds), strict=True)
    return torch.from_numpy(np.stack(images))[:, None], torch.from_numpy(np.stack(ellipsoids))[:, None].long()


@cache
def held_out_cases() -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the image and the ellipsoid of every held-out case."""
    return [case(HELD_OUT, index)[:2] for index in range(N_HELD_OUT)]


def stock_entry() -> Entry:
    """Return the network whose GSP counterparts are compared, as the entry `architecture` of plans."""
    n_stages = len(WIDTHS)
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": n_stages,
            "features_per_stage": list(WIDTHS),
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[3] * 3] * n_stages,
            "strides": [[1] * 3] + [[2] * 3] * (n_stages - 1),
            "n_conv_per_stage": [2] * n_stages,
            "n_conv_per_stage_decoder": [2] * (n_stages - 1),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def network_of(setting: Setting) -> nn.Module:
    """Build and initialise the network of a setting."""
    return built(gsp_architecture(stock_entry(), PATCH, setting.request, setting.kernel))


def built(architecture: Entry) -> nn.Module:
    """Build and initialise the network of an entry `architecture`, as nnU-Net does."""
    return build(architecture, input_channels=1, output_channels=2, deep_supervision=False, allow_init=True)


def train_missing(runs: Iterable[Run], folder: Path, processes: int) -> None:
    """Train what has no file in `folder` yet, each run in a process with one thread."""
    missing = [run for run in runs if not run.file_in(folder).exists()]
    with ProcessPoolExecutor(processes, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        started = [pool.submit(train_and_save, run, folder) for run in missing]
        with tqdm(as_completed(started), total=len(started), unit="run") as progress:
            for finished in progress:
                progress.write(finished.result())


def train_and_save(run: Run, folder: Path) -> str:
    """Do one run, keep its Dice in `folder`, and return it as a line to print."""
    dice = held_out_dice(trained(run))
    run.file_in(folder).write_text(json.dumps({"dice": dice}))
    return f"{run}: Dice {dice:.3f}"


def trained(run: Run) -> nn.Module:
    """Train the network of a run from scratch."""
    return train(lambda: network_of(SETTINGS[run.setting]), run.seed, run.steps)


def train(make: Callable[[], nn.Module], seed: int, steps: int) -> nn.Module:
    """Train the network that `make` initialises, from a seed, for a number of steps."""
    torch.manual_seed(seed)
    network = make()
    optimizer = torch.optim.SGD(network.parameters(), LEARNING_RATE, momentum=0.99, nesterov=True, weight_decay=3e-5)
    scheduler = PolyLRScheduler(optimizer, LEARNING_RATE, steps)
    loss = DC_and_CE_loss(
        {"batch_dice": False, "smooth": 1e-5, "do_bg": False, "ddp": False}, {}, dice_class=MemoryEfficientSoftDiceLoss
    )
    for step in range(steps):
        scheduler.step(step)
        images, ellipsoids = batch((TRAINING, seed, step, index) for index in range(BATCH))
        optimizer.zero_grad()
        loss(network(images), ellipsoids).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimizer.step()
    return network.eval()


def held_out_dice(network: nn.Module) -> float:
    """Return the mean Dice of the ellipsoid over the held-out cases."""
    with torch.inference_mode():
        return mean_dice(lambda image: network(torch.from_numpy(image)[None, None])[0].argmax(0).numpy() == 1)


def mean_dice(predict: Callable[[np.ndarray], np.ndarray]) -> float:
    """Return the mean over the held-out cases; `predict` maps an image (D, H, W) to a mask (D, H, W) bool."""
    values = []
    for image, ellipsoid in held_out_cases():
        mask = predict(image)
        values.append(2 * np.sum(mask & ellipsoid) / (np.sum(mask) + np.sum(ellipsoid)))
    return float(np.mean(values))


def intensity_dice() -> float:
    """Return the Dice of the intensity threshold that serves the held-out cases best."""
    return _best_threshold_dice(lambda image: image, np.linspace(-6, 6, 25))


def position_dice() -> float:
    """Return the Dice of the best threshold on where ellipsoids are on average, which is the same mask for all."""
    occupancy = np.mean([case(TRAINING, index)[1] for index in range(N_PRIOR)], axis=0)
    return _best_threshold_dice(lambda image: occupancy, np.linspace(0, 1, 21))


def table(dice: dict[str, list[float]]) -> str:
    """Return the Markdown table; `dice` has the seeds' values of every setting."""
    lines = [
        (
            "| setting | parameters | MMACs | Dice, mean ± SD | each seed | difference to none | in pooled SDs "
            "| gap from CSC to 3x3x3 left |"
        ),
        "|---|---:|---:|---|---|---:|---:|---:|",
        f"| best intensity threshold | | | {intensity_dice():.3f} | | | | |",
        f"| best fixed mask | | | {position_dice():.3f} | | | | |",
    ]
    for name, values in dice.items():
        network = network_of(SETTINGS[name])
        macs = count_macs(network, torch.zeros(1, 1, *PATCH))
        each = " ".join(f"{value:.3f}" for value in values)
        lines.append(
            f"| {name} | {count_parameters(network):,} | {macs / 1e6:.0f} | {_mean_and_sd(values)} | {each} "
            f"| {' | '.join(_difference(values, dice.get('none', [])))} | {_gap_left(name, dice)} |"
        )
    return "\n".join(lines)


def _best_threshold_dice(score: Callable[[np.ndarray], np.ndarray], thresholds: np.ndarray) -> float:
    return max(
        mean_dice(partial(lambda threshold, image: score(image) > threshold, threshold)) for threshold in thresholds
    )


def _mean_and_sd(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def _difference(values: list[float], baseline: list[float]) -> tuple[str, str]:
    """Return the difference of the means, and the same in pooled SDs; both groups have as many seeds."""
    if not baseline or values == baseline:
        return "", ""
    difference = statistics.mean(values) - statistics.mean(baseline)
    if len(values) < 2:
        return f"{difference:+.3f}", ""
    pooled_sd = ((statistics.variance(values) + statistics.variance(baseline)) / 2) ** 0.5
    return f"{difference:+.3f}", f"{difference / pooled_sd:+.1f}"


def _gap_left(name: str, dice: dict[str, list[float]]) -> str:
    """Return the fraction of the gap between CSC and 3x3x3 that a setting with a local shift leaves."""
    if "local" not in name or not {"CSC", "3x3x3"} <= dice.keys():
        return ""
    mean, low, high = (statistics.mean(dice[setting]) for setting in (name, "CSC", "3x3x3"))
    return f"{(high - mean) / (high - low):.0%}"


def _command_line() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER", help="where finished runs are kept"
    )
    parser.add_argument("--seeds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=400, help="default: %(default)s")
    parser.add_argument(
        "--settings",
        nargs="+",
        default=list(MAIN_SETTINGS),
        choices=[*SETTINGS, "all"],
        metavar="NAME",
        help=f"any of {', '.join(SETTINGS)}, or all; default: the first {len(MAIN_SETTINGS)}",
    )
    parser.add_argument("--processes", type=int, default=2, help="default: %(default)s")
    return parser.parse_args()


if __name__ == "__main__":
    main()
