"""Which runs make which table, and what does the paper report for them?"""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.nnunet import N_FOLDS

TABLES = ("table1", "table2", "ratio", "brats-positions", "brats-location", "cross-validation")
PAPER_TRAINER = "nnUNetTrainerGSPPaper"
COMPARED_TRAINERS = ("nnUNetTrainer", "nnUNetTrainerGSP")

# (template without its dataset, values); by the number of channels, which tells the paper's two datasets apart
_TABLE1 = {
    4: ("brats18", {"pointwise": {"mDice": 79.6, "WT": 86.4, "TC": 79.7, "ET": 72.7},
                    "conv3d": {"mDice": 80.5, "WT": 89.0, "TC": 78.7, "ET": 73.7}}),
    1: ("promise12", {"pointwise": {"mDice": 65.5}, "conv3d": {"mDice": 87.3}}),
}
_BASELINES = {"pointwise": "pointwise FCN without GS", "conv3d": "3D FCN"}
_POSITIONS = ("CSC", "CCS", "CSCS", "CSCSUpShift")
_TABLE2 = {"ProSGv1": (84.9, 84.0, 83.1, 83.0), "ProSGv2": (84.5, 85.4, 85.2, 84.5),
           "ProSGv3": (85.6, 84.3, 84.8, 83.6), "ProSGv4": (85.0, 84.3, 85.3, 84.6)}
_BRATS_POSITIONS = (81.2, 80.7, 80.1, 80.2)


@dataclass(frozen=True)
class Row:
    """What one run trains, and what the paper reports for it.

    Attributes:
        label: as the table names it.
        trainer: nnU-Net trainer class.
        template: of the plans; None trains the dataset's own plans.
        overrides: settings in place of the template's.
        fold: of nnU-Net's split; fold 0 is the paper's 8:2.
        paper: Dice in percent by name, "mDice" the mean of all foreground classes; empty where there is none.
    """

    label: str
    trainer: str
    template: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    fold: int = 0
    paper: Mapping[str, float] = field(default_factory=dict)

    @property
    def setting(self) -> str:
        """The template and what replaces its settings, as part of a file name."""
        replaced = [value if isinstance(value, str) else f"{key.removeprefix('shift_')}{value}"
                    for key, value in self.overrides.items()]
        return "_".join([self.template or "", *replaced])


def rows_of(table: str, n_channels: int, trainers: Sequence[str] | None = None) -> list[Row]:
    """Return the runs of a table, with the values of He et al., "Group Shift Pointwise Convolution".

    Args:
        table: one of TABLES.
        n_channels: of the dataset's images; 4 chooses BraTS18 in Table 1, 1 chooses PROMISE12.
        trainers: in place of the paper's (one), or of those that the cross-validation compares.

    Raises:
        InputError: the number of channels is that of neither dataset, more trainers than one for a table of the paper,
            or one trainer twice.
    """
    if table == "cross-validation":
        return _cross_validation(trainers or COMPARED_TRAINERS)
    if trainers and len(trainers) > 1:
        raise InputError(f"Expected one trainer for {table}, got {' '.join(trainers)}; only cross-validation compares "
                         f"several.")
    trainer = trainers[0] if trainers else PAPER_TRAINER
    return {"table1": _table1, "table2": _table2, "ratio": _ratio, "brats-positions": _brats_positions,
            "brats-location": _brats_location}[table](n_channels, trainer)


def _table1(n_channels: int, trainer: str) -> list[Row]:
    """Table 1: the two baselines."""
    if n_channels not in _TABLE1:
        raise InputError(f"Expected a dataset of 4 channels (BraTS18) or 1 (PROMISE12) for table1, got {n_channels} "
                         f"channels; choose another dataset with -d.")
    dataset, values = _TABLE1[n_channels]
    return [Row(label, trainer, f"{dataset}_baseline_{baseline}", paper=values[baseline])
            for baseline, label in _BASELINES.items()]


def _table2(_: int, trainer: str) -> list[Row]:
    """Table 2: spatial groups and insert positions on PROMISE12."""
    return [Row(f"{groups}, {position}", trainer, f"promise12_{groups.lower()}", _at(position), paper={"mDice": value})
            for groups, values in _TABLE2.items() for position, value in zip(_POSITIONS, values, strict=True)]


def _ratio(_: int, trainer: str) -> list[Row]:
    """Sec. 3.1: the ratio of shifted channels on PROMISE12."""
    return [Row("C_s = C/2", trainer, "promise12_prosgv3", paper={"mDice": 85.6}),
            Row("C_s = C", trainer, "promise12_prosgv3", {"shift_ratio": 1}, paper={"mDice": 81.4})]


def _brats_positions(_: int, trainer: str) -> list[Row]:
    """Sec. 3.2: insert positions on BraTS18."""
    return [Row(position, trainer, "brats18_csc", _at(position), paper={"mDice": value})
            for position, value in zip(_POSITIONS, _BRATS_POSITIONS, strict=True)]


def _brats_location(_: int, trainer: str) -> list[Row]:
    """Sec. 3.2: the shift in the encoder, the decoder or both on BraTS18."""
    return [Row("encoder", trainer, "brats18_csc", {"shift_location": "encoder"}, paper={"mDice": 81.5}),
            Row("decoder", trainer, "brats18_csc_dec", paper={"mDice": 82.6}),
            Row("both", trainer, "brats18_csc", paper={"mDice": 81.2})]


def _cross_validation(trainers: Sequence[str]) -> list[Row]:
    if len(set(trainers)) < len(trainers):
        raise InputError(f"Expected different trainers for cross-validation, got {' '.join(trainers)}; name each once.")
    return [Row(f"{trainer}, fold {fold}", trainer, fold=fold) for trainer, fold in product(trainers, range(N_FOLDS))]


def _at(position: str) -> dict[str, str]:
    """Leave CSC to the templates, so that a run has one name wherever it stands."""
    return {} if position == _POSITIONS[0] else {"shift_position": position}
