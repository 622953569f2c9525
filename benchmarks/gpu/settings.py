"""What is measured, where, and in which sizes? Free of torch, for the process that only waits for others."""
from dataclasses import dataclass
from pathlib import Path

KINDS = ("GSP", "stock")


@dataclass(frozen=True)
class Settings:
    """What every section is told.

    Attributes:
        device: cuda or cpu.
        is_tiny: a few voxels, to see that everything runs.
        raw: folder of an nnU-Net raw dataset, for the section that trains.
        code: which state of the code is measured.
    """

    device: str = "cuda"
    is_tiny: bool = False
    raw: Path | None = None
    code: str = "unknown"

    @property
    def on_gpu(self) -> bool:
        """Whether there is a GPU to wait for."""
        return self.device == "cuda"

    @property
    def batch(self) -> int:
        """Of a training step."""
        return 2

    @property
    def patch(self) -> tuple[int, int, int]:
        """In voxels."""
        return (16, 16, 16) if self.is_tiny else (128, 128, 128)

    @property
    def case(self) -> tuple[int, int, int]:
        """Size of a whole image in voxels, axes as in the plans."""
        return (16, 20, 24) if self.is_tiny else (155, 240, 240)

    @property
    def features(self) -> tuple[int, ...]:
        """A number a stage; nnU-Net's are 32 to 320."""
        return (16, 16, 16) if self.is_tiny else (32, 64, 128, 256, 320, 320)

    @property
    def ways(self) -> tuple[str, ...]:
        """How networks run: nnU-Net compiles trainings on a GPU, predictions on request, and nothing on a CPU."""
        return ("compiled", "eager") if self.on_gpu else ("eager",)

    @property
    def precision(self) -> str:
        """Of trainings and predictions, for a note."""
        return "fp16 AMP" if self.on_gpu else "fp32"

    def rounds(self, wanted: int) -> int:
        """Return how often contenders take turns."""
        return 2 if self.is_tiny else wanted


def times(sizes: tuple[int, ...]) -> str:
    """Write sizes for a title."""
    return "×".join(map(str, sizes))
