"""The space of networks: what can be chosen, and the settings of plans that a choice stands for."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from nnunetv2_gsp.architectures.architecture import Stages
from nnunetv2_gsp.architectures.settings import DEFAULT_LOCATION, DEFAULT_POSITION, SHIFT_LOCATIONS, SHIFT_POSITIONS

if TYPE_CHECKING:
    from optuna.trial import Trial

Choice = Mapping[str, Any]  # name of a parameter -> value

GROUPS = {"rule": None, "halves": 2}  # name -> groups along each axis of every stage; the rule has its own
SHIFT_RATIOS = (0.0, 0.125, 0.25, 0.5, 1.0)
LOCAL_SHIFT_RATIOS = (0.0, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0)
POSITIONS = SHIFT_POSITIONS[1:]
WIDTHS = (0.5, 3.0, 0.25)  # factor on the planned channels: smallest, largest, step
CONVOLUTIONS = (1, 4)  # of a stage: fewest, most
_CHANNELS_AT_ONCE = 4  # widths are rounded to multiples of it
_FEWEST_STAGES = 2

# name -> what differs from the network of the template default; the first trials of every search
FIRST: dict[str, Choice] = {
    "default": {},
    "default_local": {"local_shift_ratio": 0.375},
    "decoder alone": {"shift_location": "decoder"},
    "local alone": {"shift_ratio": 0.0, "local_shift_ratio": 0.375},
    "pointwise": {"shift_ratio": 0.0},
    **{
        preset: {"shift_ratio": 0.0, "local_shift_ratio": 0.375, "shift_position": "CSCS", "width": width}
        for preset, width in (("gsp_s", 0.5), ("gsp_m", 1.0), ("gsp_l", 1.5))
    },
}


@dataclass(frozen=True)
class Space:
    """The networks that can be made of a planned one, by choices of shifts, widths, convolutions and stages.

    Attributes:
        planned: stages of the planned network, as `read_stages` returns them.

    Examples:
        >>> space = Space(Stages.checked(2, 3, [16, 32, 64], [1, 2, 2], n_conv_per_stage=2, n_conv_per_stage_decoder=2))
        >>> space.settings(space.choice(width=1.5, shift_location="decoder"))["features_per_stage"]
        [24, 48, 96]
    """

    planned: Stages

    @property
    def n_stages(self) -> int:
        """Number of stages of the planned network."""
        return len(self.planned.features_per_stage)

    def suggested_by(self, trial: "Trial") -> dict[str, Any]:
        """Return the choice that a trial of Optuna suggests; one that has it already keeps it."""
        low, high, step = WIDTHS
        return {
            "groups": trial.suggest_categorical("groups", list(GROUPS)),
            "shift_ratio": trial.suggest_categorical("shift_ratio", SHIFT_RATIOS),
            "local_shift_ratio": trial.suggest_categorical("local_shift_ratio", LOCAL_SHIFT_RATIOS),
            "shift_position": trial.suggest_categorical("shift_position", POSITIONS),
            "shift_location": trial.suggest_categorical("shift_location", SHIFT_LOCATIONS),
            "width": trial.suggest_float("width", low, high, step=step),
            "convolutions": trial.suggest_int("convolutions", *CONVOLUTIONS),
            "convolutions_decoder": trial.suggest_int("convolutions_decoder", *CONVOLUTIONS),
            "stages": trial.suggest_int("stages", _FEWEST_STAGES, self.n_stages),
        }

    def choice(self, **chosen: Any) -> dict[str, Any]:
        """Return a complete choice: that of the template default, with the given parameters in place of its own.

        Args:
            chosen: name of a parameter -> value.
        """
        default = {
            "groups": "rule",
            "shift_ratio": 0.5,
            "local_shift_ratio": 0.0,
            "shift_position": DEFAULT_POSITION,
            "shift_location": DEFAULT_LOCATION,
            "width": 1.0,
            "convolutions": _planned_number(self.planned.n_conv_per_stage),
            "convolutions_decoder": _planned_number(self.planned.n_conv_per_stage_decoder),
            "stages": self.n_stages,
        }
        return {**default, **chosen}

    def first(self) -> dict[str, dict[str, Any]]:
        """Return the choices of the first trials by their name: the template default, and others of this package."""
        return {name: self.choice(**chosen) for name, chosen in FIRST.items()}

    def cheapest(self) -> dict[str, Any]:
        """Return the choice that costs least: no network of the space has fewer multiply-accumulates."""
        return self.choice(
            shift_ratio=0.0,
            width=WIDTHS[0],
            convolutions=CONVOLUTIONS[0],
            convolutions_decoder=CONVOLUTIONS[0],
            stages=_FEWEST_STAGES,
        )

    def settings(self, choice: Choice) -> dict[str, Any]:
        """Return the settings of a template that a choice stands for; what stays as planned is left out.

        Choices that differ only in what has no effect give the same settings.

        Args:
            choice: value of every parameter, as `choice` returns them.
        """
        return {**self._shifts(choice), **self._topology(choice)}

    def _shifts(self, choice: Choice) -> dict[str, Any]:
        if choice["shift_ratio"] == choice["local_shift_ratio"] == 0:
            return {"shift_position": "none", "shift_ratio": 0}
        counts = GROUPS[choice["groups"]] if choice["shift_ratio"] > 0 else None
        n_axes = len(self.planned.strides[0])
        return {
            **({} if counts is None else {"spatial_groups": [[counts] * n_axes] * choice["stages"]}),
            **{name: choice[name] for name in ("shift_ratio", "local_shift_ratio", "shift_position", "shift_location")},
        }

    def _topology(self, choice: Choice) -> dict[str, Any]:
        n_stages, planned = choice["stages"], self.planned
        as_planned: dict[str, list[Any]] = {
            "features_per_stage": list(planned.features_per_stage),
            "strides": [list(strides) for strides in planned.strides],
            "n_conv_per_stage": list(planned.n_conv_per_stage),
            "n_conv_per_stage_decoder": list(planned.n_conv_per_stage_decoder),
        }
        chosen = {
            **as_planned,
            "features_per_stage": [_scaled(channels, choice["width"]) for channels in planned.features_per_stage],
            "n_conv_per_stage": _numbers(planned.n_conv_per_stage, choice["convolutions"]),
            "n_conv_per_stage_decoder": _numbers(planned.n_conv_per_stage_decoder, choice["convolutions_decoder"]),
        }
        if n_stages == self.n_stages:
            return {name: value for name, value in chosen.items() if value != as_planned[name]}
        # a decoder's stages begin with the lowest resolution
        decoder = chosen.pop("n_conv_per_stage_decoder")[-(n_stages - 1) :]
        return {**{name: value[:n_stages] for name, value in chosen.items()}, "n_conv_per_stage_decoder": decoder}


def _planned_number(numbers: tuple[int, ...]) -> int:
    """Return the number of convolutions that stands for what is planned, within the space."""
    fewest, most = CONVOLUTIONS
    return min(max(*numbers, fewest), most)


def _numbers(planned: tuple[int, ...], chosen: int) -> list[int]:
    return list(planned) if chosen == _planned_number(planned) else [chosen] * len(planned)


def _scaled(channels: int, factor: float) -> int:
    """Return the channels of a wider or narrower stage: a multiple of four, rounded half up, or as planned."""
    if factor == 1:
        return channels
    steps = int(Fraction(factor) * channels / _CHANNELS_AT_ONCE + Fraction(1, 2))
    return _CHANNELS_AT_ONCE * max(steps, 1)
