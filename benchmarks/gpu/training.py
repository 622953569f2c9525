"""Times and memory of a training step: nnU-Net's own trainers on a batch of noise, stock and GSP in turns."""

import time
from collections.abc import Iterator, Mapping

import numpy as np
import torch

from benchmarks.gpu.meters import allocated_bytes, free, longest_kernels, peak_gibibytes
from benchmarks.gpu.networks import trainer_of
from benchmarks.gpu.settings import KINDS, Settings
from benchmarks.measuring import WrongError, ratios
from benchmarks.models import CHANNELS, CLASSES
from benchmarks.page import Row, Table
from nnunetv2_gsp.timing import interleaved
from nnunetv2_gsp.wording import times


def tables(settings: Settings) -> Iterator[Table]:
    """Time steps and forward passes, compiled and eager; then name the longest kernels of a step."""
    rows: list[Row] = []
    for way in settings.ways:
        contenders = {kind: Training(kind, way, settings) for kind in KINDS}
        rows += _rows(way, contenders, settings)
        yield _table(rows, contenders, settings)
        for kind, each in contenders.items():
            yield from longest_kernels(f"a training step, {kind}, {way}", each.step, settings)
        del contenders, each
        free()


def warm_gsp(settings: Settings) -> Iterator[Table]:
    """Compile what `tables` will need, untimed."""
    Training("GSP", settings.ways[0], settings).forward()
    yield from ()


def warm_stock(settings: Settings) -> Iterator[Table]:
    """Compile what `tables` will need, untimed."""
    Training("stock", settings.ways[0], settings).forward()
    yield from ()


class Training:
    """A trainer that has made its first steps, with their time and memory.

    Args:
        kind: of the network.
        way: compiled or eager.
        settings: of the bench.
        engine: by which a GSP network computes.

    Attributes:
        first_step_s: seconds of the first step, compilation included.
        peak_gib: peak memory of a step in GiB, weights, momentum and batch included, without what others hold.
    """

    def __init__(self, kind: str, way: str, settings: Settings, engine: str = "auto"):
        self.settings, before = settings, allocated_bytes(settings)
        self.trainer = trainer_of(kind, settings, is_compiled=way == "compiled")
        getattr(self.trainer.network, "_orig_mod", self.trainer.network).engine = engine  # torch.compile wraps it
        self.batch = self._batch_of_noise()
        start = time.perf_counter()
        self.step()
        self.first_step_s = time.perf_counter() - start
        self.step()  # cuDNN tries its algorithms in the first one
        self.peak_gib = peak_gibibytes(self.step, before, settings)

    def step(self) -> None:
        """Train for one step, which ends with waiting for the loss."""
        loss = self.trainer.train_step(self.batch)["loss"]
        if not np.isfinite(loss):
            raise WrongError(f"The loss of a training step is {loss}: no figures.")

    def forward(self) -> None:
        """Compute logits with gradients enabled."""
        with torch.autocast(self.settings.device, enabled=self.settings.on_gpu):
            self.trainer.network(self.batch["data"])

    def _batch_of_noise(self) -> dict[str, object]:
        torch.manual_seed(1)
        batch, patch, device = self.settings.batch, self.settings.patch, self.settings.device
        scales = self.trainer._get_deep_supervision_scales()
        sizes = [[int(edge * factor) for edge, factor in zip(patch, scale, strict=True)] for scale in scales]
        return {
            "data": torch.randn(batch, CHANNELS, *patch, device=device),
            "target": [torch.randint(CLASSES, (batch, 1, *size), device=device).float() for size in sizes],
        }


def _rows(way: str, contenders: Mapping[str, Training], settings: Settings) -> list[Row]:
    gsp, stock = (contenders[kind] for kind in KINDS)
    rows: list[Row] = []
    for what in ("step", "forward"):
        timings = interleaved(
            {kind: getattr(each, what) for kind, each in contenders.items()}, settings.rounds(20), settings.device
        )
        rows.append(
            {
                "": f"{what}, {way}",
                "GSP / stock": 1 / ratios(timings, "stock")["GSP"],
                **{f"{kind}, ms": timing for kind, timing in timings.items()},
            }
        )
    rows[0].update(
        {
            "GSP's peak, GiB": gsp.peak_gib,
            "stock's peak, GiB": stock.peak_gib,
            "GSP's first step, s": gsp.first_step_s,
            "stock's first step, s": stock.first_step_s,
        }
    )
    return rows


def _table(rows: list[Row], contenders: Mapping[str, Training], settings: Settings) -> Table:
    millions = {
        kind: sum(weights.numel() for weights in each.trainer.network.parameters()) / 1e6
        for kind, each in contenders.items()
    }
    features = settings.features
    return Table(
        f"Training, {settings.batch}×{CHANNELS}×{times(settings.patch)}",
        list(rows),
        f"nnU-Net's trainers on a batch of noise, {settings.precision}, {features[0]} to {features[-1]} "
        f"features ({', '.join(f'{kind} {count:.2f} M parameters' for kind, count in millions.items())}), "
        f"{settings.rounds(20)} rounds. Forward: gradients on. Peak: what torch allocates, weights and "
        f"momentum included. A first step includes the compilation, most of it from a cache.",
    )
