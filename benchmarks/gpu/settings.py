"""Device and sizes of all sections. Imports no torch, for the process that only waits for others."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

KINDS = ("GSP", "stock")


class Contender(NamedTuple):
    """A network and the engine that computes it.

    Attributes:
        kind: of the network, one of `KINDS`.
        engine: what NNUNETV2_GSP_ENGINE would say; auto is what users get.
    """

    kind: str
    engine: str = "auto"

    def __str__(self) -> str:
        """Return a title for a column."""
        return self.kind if self.engine == "auto" else f"{self.kind} by {self.engine}"


GSP, STOCK = map(Contender, KINDS)


@dataclass(frozen=True)
class Settings:
    """Settings that every section gets.

    Attributes:
        device: cuda or cpu.
        is_tiny: if True, patches have a few voxels, to see that everything runs.
        raw: folder of an nnU-Net raw dataset for the section that trains, or None.
        code: state of the code that is measured, a git description.
        takes_asked: whether the engine on request is compared, too; not where it has failed.
    """

    device: str = "cuda"
    is_tiny: bool = False
    raw: Path | None = None
    code: str = "unknown"
    takes_asked: bool = True

    @property
    def on_gpu(self) -> bool:
        """Whether sections run on a GPU."""
        return self.device == "cuda"

    @property
    def batch(self) -> int:
        """Batch size of a training step."""
        return 2

    @property
    def patch(self) -> tuple[int, int, int]:
        """Patch size in voxels, (D, H, W)."""
        return (16, 16, 16) if self.is_tiny else (128, 128, 128)

    @property
    def case(self) -> tuple[int, int, int]:
        """Size of a whole image in voxels, (D, H, W)."""
        return (16, 20, 24) if self.is_tiny else (155, 240, 240)

    @property
    def features(self) -> tuple[int, ...]:
        """Channels of each stage, from the highest resolution down; nnU-Net's are 32 to 320."""
        return (16, 16, 16) if self.is_tiny else (32, 64, 128, 256, 320, 320)

    @property
    def ways(self) -> tuple[str, ...]:
        """Ways to run networks: nnU-Net compiles trainings on a GPU, predictions on request, and nothing on a CPU."""
        return ("compiled", "eager") if self.on_gpu else ("eager",)

    @property
    def precision(self) -> str:
        """Precision of trainings and predictions, for a note."""
        return "fp16 AMP" if self.on_gpu else "fp32"

    @property
    def asked_engine(self) -> str:
        """The engine that runs only where somebody asks for it."""
        return "triton" if self.on_gpu else "plain"

    @property
    def contenders(self) -> tuple[Contender, ...]:
        """Whom predictions and trainings compare: what users get, stock, and last GSP by the engine on request."""
        return GSP, STOCK, *([Contender("GSP", self.asked_engine)] if self.takes_asked else [])

    def rounds(self, wanted: int) -> int:
        """Return the number of rounds: those wanted, or 2 in a tiny run."""
        return 2 if self.is_tiny else wanted
