"""Times of the parts of a layer at the highest resolution, in half precision, beside copying as many bytes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.gpu.meters import Run, in_a_row
from benchmarks.gpu.settings import Settings
from benchmarks.page import Row, Table
from nnunetv2_gsp.ops import LinearUpsampling, gpu_layer, group_shift, instance_norm
from nnunetv2_gsp.ops.gpu_layer import Access
from nnunetv2_gsp.ops.pointwise import pointwise_convolution
from nnunetv2_gsp.wording import times

GROUPS, CALLS, ROUNDS = (2, 2, 2), 10, 10
HALVED = 1 / 8  # the part of its voxels that a map has at half the resolution


@dataclass(frozen=True)
class Piece:
    """An operation on a feature map, and how many maps of the full resolution it has to move each way."""

    run: Callable[[Tensor], Tensor]
    x: Tensor
    maps_forward: float
    maps_backward: float = 0.0  # not timed
    weights: tuple[Tensor, ...] = ()


def tables(settings: Settings) -> Iterator[Table]:
    """Time each piece forward and backward."""
    torch.backends.cudnn.benchmark = True  # as nnU-Net's commands
    torch.manual_seed(0)
    x = torch.randn(
        settings.batch,
        settings.features[0],
        *settings.patch,
        device=settings.device,
        dtype=torch.float16 if settings.on_gpu else torch.float32,
    )
    pieces = _pieces(x, settings)
    runs: dict[str, tuple[Run, float]] = {"copy": (x.clone, 2.0)}
    for name, piece in pieces.items():
        runs[f"{name}, forward"] = _forward(piece), piece.maps_forward
        if piece.maps_backward:
            runs[f"{name}, backward"] = _backward(piece), piece.maps_backward
    yield _table(runs, x, settings)


def _pieces(x: Tensor, settings: Settings) -> dict[str, Piece]:
    channels, low = x.shape[1], functional.max_pool3d(x, 2)
    weight, kernel = (
        torch.randn(channels, channels, *size, device=x.device, dtype=x.dtype, requires_grad=True)
        for size in ((), (3, 3, 3))
    )
    bias = torch.randn(channels, device=x.device, dtype=x.dtype, requires_grad=True)
    affine = tuple(torch.ones(channels, device=x.device, requires_grad=True) for _ in range(2))  # fp32 under AMP, too

    def matrices() -> Tensor:
        return weight.expand(len(x), -1, -1)

    def convolve(y: Tensor) -> Tensor:
        return pointwise_convolution(y, weight[:, :, None, None, None], bias)

    def normalise(y: Tensor) -> Tensor:
        return instance_norm(y, affine[0], affine[1], 1e-5)

    def shift(y: Tensor) -> Tensor:
        return group_shift(y, GROUPS, channels // 2)

    def layer(y: Tensor) -> Tensor:
        return shift(functional.leaky_relu(normalise(convolve(y)), 0.01))

    pieces = {
        "bmm": Piece(lambda y: torch.bmm(matrices(), y.flatten(2)), x, 2, 4, (weight,)),
        "baddbmm": Piece(lambda y: torch.baddbmm(bias[:, None], matrices(), y.flatten(2)), x, 2, 4, (weight, bias)),
        "convolution 3×3×3": Piece(lambda y: functional.conv3d(y, kernel, padding=1), x, 2, 4, (kernel,)),
        "pointwise convolution": Piece(convolve, x, 2, 4, (weight, bias)),
        "instance norm, PyTorch's": Piece(
            lambda y: functional.instance_norm(y, weight=affine[0], bias=affine[1]), x, 3, 5, affine
        ),
        "instance norm": Piece(normalise, x, 3, 5, affine),
        "group shift": Piece(shift, x, 2, 2),
        "max-pool": Piece(lambda y: functional.max_pool3d(y, 2), x, 1 + HALVED, 1 + HALVED),
        "interpolation, PyTorch's": Piece(
            lambda y: functional.interpolate(y, scale_factor=2, mode="trilinear"), low, 1 + HALVED, 1 + HALVED
        ),
        "interpolation": Piece(
            LinearUpsampling(scale_factor=(2.0, 2.0, 2.0), mode="trilinear"), low, 1 + HALVED, 1 + HALVED
        ),
        "a layer": Piece(layer, x, 4, 8, (weight, bias, *affine)),
    }
    if settings.on_gpu:
        pieces["a layer, compiled"] = Piece(torch.compile(layer), x, 4)
        if settings.takes_asked:
            pieces["a layer, Triton"] = _triton_layer(x)
    return pieces


def _triton_layer(x: Tensor) -> Piece:
    """Return a layer by one kernel each way, which reads and writes a map once, backward two of each."""
    channels, access = x.shape[1], list(Access(*GROUPS, x.shape[1] // 2))
    weight = torch.randn(channels, channels, device=x.device, requires_grad=True)
    norm = [torch.randn(len(x), channels, device=x.device, requires_grad=True) for _ in range(3)]
    return Piece(
        lambda y: gpu_layer.layer(y, *norm, weight, None, 0.01, access, y.dtype, True)[0], x, 2, 4, (weight, *norm)
    )


def _forward(piece: Piece) -> Run:
    def forward() -> None:
        with torch.no_grad():
            piece.run(piece.x)

    return forward


def _backward(piece: Piece) -> Run:
    """Return a function that runs the backward pass alone, to the input and to the weights."""
    leaf = piece.x.detach().requires_grad_()
    output = piece.run(leaf)
    upstream = torch.randn_like(output)
    return lambda: torch.autograd.grad(output, (leaf, *piece.weights), upstream, retain_graph=True)


def _table(runs: dict[str, tuple[Run, float]], x: Tensor, settings: Settings) -> Table:
    timings = in_a_row(
        {name: run for name, (run, _) in runs.items()},
        1 if settings.is_tiny else CALLS,
        settings.rounds(ROUNDS),
        settings.device,
    )
    map_bytes = x.numel() * x.element_size()
    rates = {name: maps * map_bytes / timings[name].median_ms / 1e9 for name, (_, maps) in runs.items()}
    rows: list[Row] = [
        {"": name, "time relative to copying its bytes": rates["copy"] / rate, "TB/s": rate, "ms": timings[name]}
        for name, rate in rates.items()
    ]
    return Table(
        f"Pieces of a layer, {times(tuple(x.shape))}",
        rows,
        f"{x.dtype}, eager, unless it says compiled; {settings.rounds(ROUNDS)} rounds. TB/s: of the maps that "
        f"a piece has to read and write, an instance norm its input twice. A layer: convolution, instance "
        f"norm, leaky ReLU and group shift; its bytes are those of the bmm and of one pass behind it. "
        f"Backward: to the input and the weights.",
    )
