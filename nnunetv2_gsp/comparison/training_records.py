"""Reads nnU-Net's records of a fold's training: its checkpoint, its logs and its debug.json."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from nnunetv2_gsp.errors import DamagedFileError

_PREDICTING = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?): predicting (\S+)", re.MULTILINE)
_GPU_MEMORY = re.compile(r"(?:GPU|CUDA) memory\D{0,40}?(\d+(?:\.\d+)?) ?(GiB|GB|MiB|MB)", re.IGNORECASE)
_STATISTICS = ("running_mean", "running_var")  # of a BatchNorm, not learnt
_GIB = {"gib": 1.0, "gb": 1e9 / 2**30, "mib": 1 / 1024, "mb": 1e6 / 2**30}

Log = Mapping[str, Any]  # as nnU-Net keeps it in a checkpoint: lists with an entry an epoch


@dataclass(frozen=True)
class LearningCurves:
    """A fold's training as nnU-Net logged it, with an entry for each epoch.

    Attributes:
        fold: name of the fold: "0", "1" and so on, or "all".
        training_loss: (n_epochs,), nnU-Net's loss on training patches; lower is better.
        validation_loss: (n_epochs,), the same loss on validation patches.
        pseudo_dice: (n_epochs,), nnU-Net's moving average of the Dice on validation patches, 0 to 1.
    """

    fold: str
    training_loss: list[float]
    validation_loss: list[float]
    pseudo_dice: list[float]


def read_checkpoint(file: Path) -> tuple[int, dict[str, Any]]:
    """Return the number of learnable parameters in a checkpoint, and nnU-Net's log, which is empty if it has none.

    Args:
        file: checkpoint_final.pth from a trusted source, as it is a pickle.

    Raises:
        DamagedFileError: the checkpoint can't be read.
    """
    import torch

    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=False)
        # nnU-Net's blocks register a convolution under two names, but its storage is one; integers are settings.
        sizes = {
            weight.data_ptr(): weight.numel()
            for name, weight in checkpoint["network_weights"].items()
            if weight.is_floating_point() and not name.endswith(_STATISTICS)
        }
        log = checkpoint.get("logging")
    except Exception as error:  # torch names no exception for a broken pickle
        raise DamagedFileError(
            "nnU-Net's checkpoint", "something that can't be read", where=file, remedy="train that fold again"
        ) from error
    return sum(sizes.values()), log if isinstance(log, dict) else {}


def learning_curves(fold: str, log: Log) -> LearningCurves | None:
    """Return the learning curves of a fold; None if the log lacks one of them.

    Args:
        fold: name of the fold: "0", "1" and so on, or "all".
        log: nnU-Net's log of that fold's training.

    Examples:
        >>> log = {"train_losses": [-0.2, -0.5], "val_losses": [-0.1, -0.3], "ema_fg_dice": [0.4, 0.6]}
        >>> learning_curves("0", log).pseudo_dice
        [0.4, 0.6]
    """
    curves = [_logged(log, name) for name in ("train_losses", "val_losses", "ema_fg_dice")]
    return LearningCurves(fold, *curves) if all(curves) else None


def n_epochs(log: Log) -> int:
    """Return the number of trained epochs; 0 if the log does not hold it.

    Args:
        log: nnU-Net's log of a fold's training.

    Examples:
        >>> n_epochs({"train_losses": [-0.2, -0.5]})
        2
    """
    return len(_logged(log, "train_losses"))


def learning_rate(log: Log) -> float | None:
    """Return the highest learning rate of a training; None if the log does not hold it.

    Args:
        log: nnU-Net's log of a fold's training.

    Examples:
        >>> learning_rate({"lrs": [0.01, 0.0055]})
        0.01
    """
    return max(_logged(log, "lrs"), default=None)


def epoch_seconds(log: Log) -> float | None:
    """Return the median duration of an epoch in seconds; None if the log does not hold it.

    Args:
        log: nnU-Net's log of a fold's training.

    Examples:
        >>> epoch_seconds({"epoch_start_timestamps": [0, 10, 20], "epoch_end_timestamps": [9, 18, 30]})
        9.0
    """
    starts, ends = _logged(log, "epoch_start_timestamps"), _logged(log, "epoch_end_timestamps")
    return known_median([end - start for start, end in zip(starts, ends, strict=False)])


def prediction_seconds(fold_folder: Path) -> float | None:
    """Return the median seconds from one case's line in the logs to the next; None with fewer than two such lines.

    Args:
        fold_folder: folder of a fold that holds nnU-Net's training_log_*.txt.
    """
    try:
        times = [datetime.fromisoformat(stamp) for stamp, _ in _PREDICTING.findall(_texts(fold_folder))]
    except ValueError:  # no such time
        return None
    return known_median([(later - earlier).total_seconds() for earlier, later in pairwise(times)])


def gpu_memory_gib(fold_folder: Path) -> float | None:
    """Return the largest GPU memory in the logs, in GiB; None if they hold none.

    Args:
        fold_folder: folder of a fold that holds nnU-Net's training_log_*.txt.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = Path(folder, "training_log_1.txt").write_text("GPU memory: 2048 MiB")
        ...     gpu_memory_gib(Path(folder))
        2.0
    """
    return max(
        (float(size) * _GIB[unit.lower()] for size, unit in _GPU_MEMORY.findall(_texts(fold_folder))), default=None
    )


def training_device(fold_folder: Path) -> str | None:
    """Return the name of the GPU or device that trained; None if nnU-Net did not record it.

    Args:
        fold_folder: folder of a fold that holds nnU-Net's debug.json.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = Path(folder, "debug.json").write_text('{"device": "cuda", "gpu_name": "NVIDIA A100"}')
        ...     training_device(Path(folder))
        'NVIDIA A100'
    """
    try:
        debug = json.loads((fold_folder / "debug.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    name = (debug.get("gpu_name") or debug.get("device")) if isinstance(debug, dict) else None
    return name if isinstance(name, str) else None


def known_median(values: Sequence[float | None]) -> float | None:
    """Return the median of the known values; None if no value is known.

    Args:
        values: values in the same unit; None and NaN stand for unknown ones.

    Examples:
        >>> known_median([3.0, None, 1.0]), known_median([None])
        (2.0, None)
    """
    known = [value for value in values if value is not None and not math.isnan(value)]
    return float(median(known)) if known else None


def _texts(fold_folder: Path) -> str:
    return "\n".join(
        file.read_text(encoding="utf-8", errors="replace") for file in sorted(fold_folder.glob("training_log_*.txt"))
    )


def _logged(log: Log, name: str) -> list[float]:
    """Return nnU-Net's logged value of each epoch; an empty list if it is missing or not numeric."""
    try:
        return [float(value) for value in log[name]]
    except (KeyError, TypeError, ValueError):
        return []
