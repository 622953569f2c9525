"""Finds differences in how contenders were trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nnunetv2_gsp.wording import times


@dataclass(frozen=True)
class TrainingProtocol:
    """Settings of a training that a fair comparison keeps equal; None where one is not known.

    Attributes:
        patch_size: size of a patch in voxels along each axis.
        batch_size: patches in a batch, as the plans have it.
        epochs: number of trained epochs, one entry for each fold.
        learning_rates: the highest learning rate, one entry for each fold.
        devices: names of the GPUs or devices that trained, as nnU-Net's debug.json has them.
    """

    patch_size: tuple[int, ...] | None = None
    batch_size: int | None = None
    epochs: tuple[int, ...] | None = None
    learning_rates: tuple[float, ...] | None = None
    devices: tuple[str, ...] | None = None


def differences(protocols: Mapping[str, TrainingProtocol]) -> list[str]:
    """Return a sentence for each setting in which the trainings of contenders differ.

    Args:
        protocols: contender's name -> settings of its training.

    Examples:
        >>> differences({"a": TrainingProtocol(batch_size=2), "b": TrainingProtocol(batch_size=4)})
        ['Trained with different batch sizes: a 2, b 4.']
    """
    sentences = []
    for name, words in (
        ("patch_size", "with different patch sizes"),
        ("batch_size", "with different batch sizes"),
        ("epochs", "for different numbers of epochs"),
        ("learning_rates", "at different learning rates"),
        ("devices", "on different devices"),
    ):
        values = {contender: getattr(protocol, name) for contender, protocol in protocols.items()}
        known = {contender: _in_words(name, value) for contender, value in values.items() if value is not None}
        if len(set(known.values())) > 1:
            each = ", ".join(f"{contender} {value}" for contender, value in known.items())
            sentences.append(f"Trained {words}: {each}.")
    return sentences


def unknown_lengths(protocols: Mapping[str, TrainingProtocol]) -> list[str]:
    """Return a sentence for each contender with an unknown number of epochs; none if nothing is known of any.

    Args:
        protocols: contender's name -> settings of its training.

    Examples:
        >>> unknown_lengths({"a": TrainingProtocol(epochs=(1000,)), "b": TrainingProtocol()})
        ['How long b was trained is not known.']
    """
    if all(protocol == TrainingProtocol() for protocol in protocols.values()):
        return []
    return [
        f"How long {contender} was trained is not known."
        for contender, protocol in protocols.items()
        if protocol.epochs is None
    ]


def _in_words(name: str, value: Any) -> str:
    if name == "patch_size":
        return times(value)
    return ", ".join(map(str, dict.fromkeys(value))) if isinstance(value, tuple) else str(value)
