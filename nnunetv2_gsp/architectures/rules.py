"""What makes no network? Each rule once, so that the network itself and all that plan one refuse in the same words."""
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

KERNELS = (1, 3)


@dataclass(frozen=True)
class Stages:
    """The stages of a U-Net, the highest resolution first.

    Attributes:
        features: channels C of every stage.
        strides: of every stage, one number an axis.
        n_convolutions: of every encoder stage.
        n_convolutions_decoder: of every decoder stage, lowest resolution first.
    """

    features: list[int]
    strides: list[tuple[int, ...]]
    n_convolutions: list[int]
    n_convolutions_decoder: list[int]

    @classmethod
    def checked(cls, n_axes: int, n_stages: Any, features_per_stage: Any, strides: Any, n_conv_per_stage: Any,
                n_conv_per_stage_decoder: Any) -> "Stages":
        """Take the arguments of a network by their names; one number counts for every stage.

        Raises:
            ValueError: they do not make a U-Net.
        """
        check_number_of_stages(n_stages)
        return cls(numbers_per_stage("features_per_stage", features_per_stage, n_stages),
                   _strides(strides, n_stages, n_axes),
                   numbers_per_stage("n_conv_per_stage", n_conv_per_stage, n_stages),
                   numbers_per_stage("n_conv_per_stage_decoder", n_conv_per_stage_decoder, n_stages - 1))


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Raise ValueError unless the value is one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}.")


def check_number_of_stages(n_stages: Any) -> None:
    """Raise ValueError unless there are two stages at least."""
    if not is_count(n_stages) or n_stages < 2:
        raise ValueError(f"A U-Net needs at least two stages, got n_stages = {n_stages!r}: take a larger patch, or "
                         f"leave this configuration out; nnU-Net's own network has no output either then.")


def numbers_per_stage(name: str, value: Any, n_stages: int) -> list[int]:
    """Return one number for each of `n_stages`; raises ValueError unless they are whole and positive."""
    numbers = [value] * n_stages if is_count(value) else entries_of(value)
    if len(numbers) != n_stages or not all(map(is_count, numbers)):
        raise ValueError(f"{name} must be one number or have {n_stages} entries, one a stage, in whole numbers from 1 "
                         f"on, got {value}: change it, or the number of stages.")
    return numbers


def check_groups(spatial_groups: Any, n_stages: int, n_axes: int) -> None:
    """Raise ValueError unless every stage has a positive count for each axis."""
    check_one_entry_a_stage("spatial_groups", spatial_groups, n_stages)
    for stage, groups in enumerate(spatial_groups):
        if not is_count_per_axis(groups, n_axes):
            raise ValueError(f"spatial_groups of stage {stage} must be {n_axes} positive counts, one an axis, got "
                             f"{groups}.")


def check_one_entry_a_stage(name: str, value: Any, n_stages: int) -> None:
    """Raise ValueError unless there are as many entries as stages."""
    if len(entries_of(value)) != n_stages:
        raise ValueError(f"{name} must have one entry a stage, {n_stages} here, got {value}: add or drop entries, or "
                         f"change the stages with them.")


def is_count(value: Any) -> bool:
    """Tell whether a value is a whole number from 1 on."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) > 0


def is_count_per_axis(value: Any, n_axes: int) -> bool:
    """Tell whether a value is a whole number from 1 on for every axis."""
    return len(entries_of(value)) == n_axes and all(map(is_count, value))


def entries_of(value: Any) -> list[Any]:
    """Return what a list, tuple or array holds; nothing of what is none, such as a word."""
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else []


def _strides(value: Any, n_stages: int, n_axes: int) -> list[tuple[int, ...]]:
    strides = [value] * n_stages if is_count(value) else entries_of(value)
    if len(strides) != n_stages or not all(is_count(stride) or is_count_per_axis(stride, n_axes) for stride in strides):
        raise ValueError(f"strides must be one number or have {n_stages} entries, one a stage, each a whole number "
                         f"from 1 on or {n_axes} of them, one an axis, got {value}: change them, or the number of "
                         f"stages.")
    return [(stride,) * n_axes if is_count(stride) else tuple(stride) for stride in strides]
