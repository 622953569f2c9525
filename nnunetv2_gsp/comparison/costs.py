"""What did a trained model cost? From nnU-Net's own files; what nobody logged stays blank."""
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from nnunetv2_gsp.errors import InputError

CHECKPOINT = "checkpoint_final.pth"
_PREDICTING = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?): predicting (\S+)", re.MULTILINE)
_GPU_MEMORY = re.compile(r"(?:GPU|CUDA) memory\D{0,40}?(\d+(?:\.\d+)?) ?(GiB|GB|MiB|MB)", re.IGNORECASE)
_GIB = {"gib": 1.0, "gb": 1e9 / 2 ** 30, "mib": 1 / 1024, "mb": 1e6 / 2 ** 30}

IN_WORDS = ("Parameters: all that is learnt, as the checkpoint has it. MACs: of one patch, counted on the network that "
            "the model's plans name; blank where the checkpoint holds another one. Epoch: median over epochs, then "
            "over folds, on whatever machine trained. Prediction: median time from one case to the next in the log of "
            "the validation. GPU memory: largest in the logs; nnU-Net logs none of itself. Checkpoint: one fold's.")


@dataclass(frozen=True)
class Cost:
    """What a model took; None where it is not known.

    Attributes:
        parameters: that are learnt.
        macs: multiply-accumulates of a forward pass of one patch, batch 1.
        epoch_s: median seconds of an epoch.
        prediction_s: median seconds of a validation case.
        gpu_memory_gib: largest that the logs name.
        checkpoint_bytes: size of one fold's final checkpoint.
    """

    parameters: int | None = None
    macs: int | None = None
    epoch_s: float | None = None
    prediction_s: float | None = None
    gpu_memory_gib: float | None = None
    checkpoint_bytes: int | None = None


@dataclass(frozen=True)
class Protocol:
    """What a fair comparison holds the same; None where it is not known.

    Attributes:
        patch_size: in voxels.
        batch_size: of the plans.
        epochs: that were trained, of each fold.
        devices: names of the GPUs or devices that trained, as nnU-Net's debug.json has them.
    """

    patch_size: tuple[int, ...] | None = None
    batch_size: int | None = None
    epochs: tuple[int, ...] | None = None
    devices: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Curves:
    """A fold's training as nnU-Net logged it, a value an epoch each.

    Attributes:
        fold: which.
        training_loss: nnU-Net's, the lower the better.
        validation_loss: the same.
        pseudo_dice: nnU-Net's moving average of the Dice on validation patches.
    """

    fold: str
    training_loss: list[float]
    validation_loss: list[float]
    pseudo_dice: list[float]


def read_model(model: Path, configuration: str, folds: Sequence[str]) -> tuple[Cost, Protocol, list[Curves]]:
    """Read what nnU-Net wrote of a trained model.

    Args:
        model: TRAINER__PLANS__CONFIGURATION.
        configuration: of the plans.
        folds: 0, 1, ... or all.

    Raises:
        InputError: the plans or a final checkpoint can't be read.
    """
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    try:
        plans = PlansManager(str(model / "plans.json"))
        planned = plans.get_configuration(configuration).configuration
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise InputError(f"Expected plans.json with {configuration} in {model}, found none that can be read; train "
                         f"the model, or name another.") from error
    fold_folders = {fold: model / f"fold_{fold}" for fold in folds}
    finished = {fold: folder / CHECKPOINT for fold, folder in fold_folders.items() if (folder / CHECKPOINT).is_file()}
    counts_and_logs = {fold: read_checkpoint(file) for fold, file in finished.items()}
    parameters = next((count for count, _ in counts_and_logs.values()), None)
    logs = {fold: log for fold, (_, log) in counts_and_logs.items()}
    cost = Cost(parameters, _macs(model, plans, configuration, parameters),
                _median([epoch_seconds(log) for log in logs.values()]),
                _median([_prediction_s(folder) for folder in fold_folders.values()]),
                max(filter(None, map(_gpu_memory_gib, fold_folders.values())), default=None),
                next((file.stat().st_size for file in finished.values()), None))
    devices = tuple(dict.fromkeys(filter(None, map(_device, fold_folders.values()))))
    patch_size = planned.get("patch_size")
    epochs = [_logged(log, "train_losses") for log in logs.values()]
    protocol = Protocol(tuple(patch_size) if isinstance(patch_size, list) else None, planned.get("batch_size"),
                        tuple(len(losses) for losses in epochs if losses) or None, devices or None)
    return cost, protocol, list(filter(None, (_curves(fold, log) for fold, log in logs.items())))


def read_checkpoint(file: Path) -> tuple[int, dict[str, Any]]:
    """Return the number of learnable parameters of a checkpoint, and nnU-Net's log of its training, empty without.

    Raises:
        InputError: it can't be read.
    """
    import torch

    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=False)
        # nnU-Net's blocks register a convolution under two names, but its storage is one; integers are settings.
        sizes = {weight.data_ptr(): weight.numel() for weight in checkpoint["network_weights"].values()
                 if weight.is_floating_point()}
        log = checkpoint.get("logging")
    except Exception as error:  # torch names no exception for a broken pickle
        raise InputError(f"Expected nnU-Net's checkpoint at {file}, found something that can't be read; train that "
                         f"fold again.") from error
    return sum(sizes.values()), log if isinstance(log, dict) else {}


def epoch_seconds(log: dict[str, Any]) -> float | None:
    """Return the median duration of an epoch in nnU-Net's log; None where there is none."""
    starts, ends = _logged(log, "epoch_start_timestamps"), _logged(log, "epoch_end_timestamps")
    durations = [end - start for start, end in zip(starts, ends, strict=False)]
    return median(durations) if durations else None


def differences(protocols: dict[str, Protocol]) -> list[str]:
    """Return a sentence for each thing that contenders were not trained alike in."""
    sentences = []
    for name, words in (("patch_size", "patch"), ("batch_size", "batch"), ("epochs", "number of epochs"),
                        ("devices", "device")):
        values = {contender: getattr(protocol, name) for contender, protocol in protocols.items()}
        known = {contender: _plain(name, value) for contender, value in values.items() if value is not None}
        if len(set(known.values())) > 1:
            each = ", ".join(f"{contender} {value}" for contender, value in known.items())
            sentences.append(f"Trained with another {words}: {each}.")
    return sentences


def unknown_lengths(protocols: dict[str, Protocol]) -> list[str]:
    """Return a sentence for each contender whose epochs nobody knows; none where nothing is known of any."""
    if all(protocol == Protocol() for protocol in protocols.values()):
        return []
    return [f"How long {contender} was trained is not known." for contender, protocol in protocols.items()
            if protocol.epochs is None]


def _plain(name: str, value: Any) -> str:
    if name == "patch_size":
        return "×".join(map(str, value))
    return ", ".join(map(str, dict.fromkeys(value))) if isinstance(value, tuple) else str(value)


def _macs(model: Path, plans: Any, configuration: str, parameters: int | None) -> int | None:
    """Count on the network that the plans name, if it is the one in the checkpoint."""
    from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels

    from nnunetv2_gsp.profiling import count_architecture

    try:
        dataset = json.loads((model / "dataset.json").read_text(encoding="utf-8"))
        manager = plans.get_configuration(configuration)
        counted, macs = count_architecture(manager.configuration["architecture"], manager.patch_size,
                                           determine_num_input_channels(plans, manager, dataset),
                                           plans.get_label_manager(dataset).num_segmentation_heads)
    except Exception:  # odd files go uncounted, and a network of some other package with needs of its own
        return None
    return macs if counted == parameters else None


def _logs(fold: Path) -> str:
    return "\n".join(file.read_text(encoding="utf-8", errors="replace")
                     for file in sorted(fold.glob("training_log_*.txt")))


def _prediction_s(fold: Path) -> float | None:
    """Return the median time between the log's lines that announce a case; None with fewer than two."""
    try:
        times = [datetime.fromisoformat(stamp) for stamp, _ in _PREDICTING.findall(_logs(fold))]
    except ValueError:  # no such time
        return None
    return _median([(later - earlier).total_seconds() for earlier, later in pairwise(times)])


def _gpu_memory_gib(fold: Path) -> float | None:
    return max((float(size) * _GIB[unit.lower()] for size, unit in _GPU_MEMORY.findall(_logs(fold))), default=None)


def _device(fold: Path) -> str | None:
    try:
        debug = json.loads((fold / "debug.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    name = (debug.get("gpu_name") or debug.get("device")) if isinstance(debug, dict) else None
    return name if isinstance(name, str) else None


def _curves(fold: str, log: dict[str, Any]) -> Curves | None:
    """Return the curves of a fold; None where one of them is not in its log."""
    curves = [_logged(log, name) for name in ("train_losses", "val_losses", "ema_fg_dice")]
    return Curves(fold, *curves) if all(curves) else None


def _logged(log: dict[str, Any], name: str) -> list[float]:
    """Return what nnU-Net logged each epoch; empty where it is not there, or no numbers."""
    try:
        return [float(value) for value in log[name]]
    except (KeyError, TypeError, ValueError):
        return []


def _median(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None and not math.isnan(value)]
    return float(np.median(there)) if there else None
