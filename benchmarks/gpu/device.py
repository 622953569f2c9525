"""What the GPU can do at best: copying, and products of large matrices."""

from collections.abc import Iterator

import torch

from benchmarks.gpu.meters import in_a_row
from benchmarks.gpu.settings import Settings
from benchmarks.page import Row, Table

GIBIBYTE = 2**30


def tables(settings: Settings) -> Iterator[Table]:
    """Time a copy and a product."""
    n_bytes, edge = (2**20, 256) if settings.is_tiny else (GIBIBYTE, 8192)
    dtype = torch.float16 if settings.on_gpu else torch.float32
    source, target = (torch.empty(n_bytes, dtype=torch.uint8, device=settings.device).random_() for _ in range(2))
    left, right = (torch.randn(edge, edge, device=settings.device, dtype=dtype) for _ in range(2))
    timings = in_a_row(
        {"copy": lambda: target.copy_(source), "product": lambda: left @ right},
        calls=5,
        rounds=settings.rounds(20),
        device=settings.device,
    )
    rows: list[Row] = [
        {
            "": "copying, read and written",
            "rate": f"{2 * n_bytes / timings['copy'].median_ms / 1e9:.2f} TB/s",
            "ms": timings["copy"],
        },
        {
            "": f"a product of {edge}×{edge} matrices, {str(dtype).removeprefix('torch.')}",
            "rate": f"{2 * edge**3 / timings['product'].median_ms / 1e9:.0f} TFLOP/s",
            "ms": timings["product"],
        },
    ]
    yield Table("What the card can do", rows, f"{n_bytes / GIBIBYTE:.3g} GiB are copied.")
