"""Milliseconds of one GSP layer, beside the same layer without a shift, and beside copying its bytes."""

import os
import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measuring import Contender, check, ratios
from benchmarks.page import Row, Table
from nnunetv2_gsp.architectures import GSPUNet
from nnunetv2_gsp.cpu import fused_layers
from nnunetv2_gsp.cpu.library import FusedLayers
from nnunetv2_gsp.cpu.program import Buffer, Program, Read, Step, Weights
from nnunetv2_gsp.cpu.runner import Runner
from nnunetv2_gsp.engines.checkpointed import after_convolution
from nnunetv2_gsp.ops import GroupShift, group_shift
from nnunetv2_gsp.timing import interleaved

GROUPS = (2, 2, 2)
Compile = Callable[[Callable[[Tensor], Tensor]], Callable[[Tensor], Tensor]]


def tables(channels: int = 32, edge: int = 128, rounds: int = 15) -> list[Table]:
    """Time a layer in PyTorch, eager and compiled, with and without its shift; then the fused one."""
    size = (edge, edge, edge)
    in_pytorch = [
        row
        for how, compile_layer in _ways_to_run().items()
        for row in _rows_beside_twin(how, compile_layer, channels, size, rounds)
    ]
    note = (
        f"Convolution, InstanceNorm, leaky ReLU, and half of the channels shifted by groups {GROUPS}; the twin "
        f"does not shift. fp32, batch 1, {rounds} rounds."
        + ("" if len(in_pytorch) > 2 else " Not compiled: there is no C++ compiler.")
    )
    title = f"{channels} channels at {edge}³"
    found = [Table(f"One GSP layer beside its pointwise twin, {title}", in_pytorch, note)]
    return [*found, _fused_table(title, channels, size, rounds)] if fused_layers() else found


def _ways_to_run() -> dict[str, Compile]:
    """Return the layer as it is, and compiled where torch's inductor finds a C++ compiler."""
    has_compiler = shutil.which(os.environ.get("CXX", "g++")) is not None
    return {"eager": lambda layer: layer, **({"compiled": torch.compile} if has_compiler else {})}


def _rows_beside_twin(how: str, compile_layer: Compile, channels: int, size: tuple[int, ...], rounds: int) -> list[Row]:
    """Return a row of timings for forward, and one for forward and backward."""
    layers = {name: _layer(channels, position) for name, position in (("GSP", "CCS"), ("twin", "none"))}
    x, upstream = torch.randn(2, 1, channels, *size)
    passes: dict[str, dict[str, Contender]] = {"forward": {}, "forward and backward": {}}
    for name, layer in layers.items():
        passes["forward"][name] = _forward(compile_layer(layer), x)
        passes["forward and backward"][name] = _forward_and_backward(compile_layer(_as_in_training(layer)), x, upstream)
    _check_layers(layers, passes, x, upstream)
    rows: list[Row] = []
    for title, contenders in passes.items():
        timings = interleaved(contenders, rounds)
        rows.append(
            {
                "": f"{how}, {title}",
                "GSP / twin": 1 / ratios(timings, "twin")["GSP"],
                "GSP, ms": timings["GSP"],
                "twin, ms": timings["twin"],
            }
        )
    return rows


def _layer(channels: int, shift_position: str) -> Any:
    """Return a block of a single convolution, as a network has it."""
    torch.manual_seed(0)
    return GSPUNet(
        channels,
        n_stages=2,
        features_per_stage=channels,
        conv_op=nn.Conv3d,
        strides=[1, 2],
        n_conv_per_stage=1,
        num_classes=1,
        n_conv_per_stage_decoder=1,
        spatial_groups=[GROUPS] * 2,
        shift_position=shift_position,
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
    ).encoder.stages[0]


def _as_in_training(block: Any) -> Callable[[Tensor], Tensor]:
    """Return the function that computes a layer as a training step does: all but the convolution is recomputed."""
    layer, shift = block.convs[0], block.shifts[0]
    return lambda x: after_convolution(layer, shift, layer.conv(x))


def _forward(run: Callable[[Tensor], Tensor], x: Tensor) -> Contender:
    def forward() -> Tensor:
        with torch.no_grad():
            return run(x)

    return forward


def _forward_and_backward(run: Callable[[Tensor], Tensor], x: Tensor, upstream: Tensor) -> Contender:
    def forward_and_backward() -> Tensor:
        leaf = x.detach().requires_grad_()
        run(leaf).backward(upstream)
        assert leaf.grad is not None
        return leaf.grad

    return forward_and_backward


def _check_layers(layers: dict[str, Any], passes: dict[str, dict[str, Contender]], x: Tensor, upstream: Tensor) -> None:
    """Compare outputs and gradients with those of the modules one by one."""
    for name, layer in layers.items():
        convolution = layer.convs[0]

        def plain(x: Tensor, name: str = name, convolution: Any = convolution) -> Tensor:
            y = nn.functional.leaky_relu(convolution.norm(convolution.conv(x)), convolution.nonlin.negative_slope)
            return group_shift(y, GROUPS, x.shape[1] // 2) if name == "GSP" else y

        check(f"{name}, forward", passes["forward"][name](), plain(x), tolerance=1e-4)
        check(
            f"{name}, backward",
            passes["forward and backward"][name](),
            _forward_and_backward(plain, x, upstream)(),
            tolerance=1e-2,
            size=torch.linalg.vector_norm,
        )


def _fused_table(title: str, channels: int, size: tuple[int, ...], rounds: int) -> Table:
    """Time a fused layer as it runs between two others, beside PyTorch and beside copying its output."""
    x, target = torch.randn(2, 1, channels, *size)
    shift, nonlin, convolution = GroupShift(GROUPS, channels // 2), nn.LeakyReLU(), nn.Conv3d(channels, channels, 1)
    norm = nn.InstanceNorm3d(channels, affine=True)
    before, after = Buffer(channels, size), Buffer(channels, size)
    step = Step((Read(before, nonlin=nonlin, group_shift=shift),), after, Weights(convolution), norm)
    with torch.inference_mode():
        # steps without weights copy
        _run_of(
            [
                Step((Read(image := Buffer(channels, size)),), before),
                step,
                Step((Read(after),), logits := Buffer(channels, size)),
            ],
            image,
            logits,
        )(x, target)
        check("the fused layer", target, convolution(shift(nonlin(x))), tolerance=1e-4)
        run = _run_of([step], image, logits)
        timings = interleaved(
            {
                "copying the output": lambda: target.copy_(x),
                "fused": lambda: run(x, target),
                "PyTorch, eager": lambda: norm(convolution(shift(nonlin(x)))),
            },
            rounds,
        )
    copies, eager = (ratios(timings, name) for name in ("copying the output", "PyTorch, eager"))
    rows: list[Row] = [
        {"": name, "copies": 1 / copies[name], "speed-up over PyTorch": eager[name], "ms": timing}
        for name, timing in timings.items()
    ]
    return Table(
        f"One fused layer beside copying its output, {title}",
        rows,
        f"Leaky ReLU, shift and convolution, and of InstanceNorm the moments, which the next layer applies as "
        f"it loads; PyTorch applies them here. fp32, batch 1, {rounds} rounds.",
    )


def _run_of(steps: list[Step], image: Buffer, logits: Buffer) -> Callable[[Tensor, Tensor], None]:
    """Return a function that runs a program from one tensor to another, in memory of its own."""
    runner, library = Runner(Program(steps, image, (logits,), n_axes=3), n_samples=1), fused_layers()
    assert library is not None
    return partial(_run_in, torch.randn(runner.arena_floats), runner, library)


def _run_in(arena: Tensor, runner: Runner, library: FusedLayers, image: Tensor, logits: Tensor) -> None:
    runner.run(library, image, [logits], arena)
