"""Lists the tables that can be trained: the trainings behind each, and the paper's values where it has the table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nnunetv2_gsp.errors import ConflictingInputError, check_name
from nnunetv2_gsp.nnunet import N_FOLDS

PAPER_TRAINER = "nnUNetTrainerGSPPaper"

# (template without its dataset, values) by number of channels, which tells the paper's two datasets apart
_TABLE1 = {
    4: (
        "brats18",
        {
            "pointwise": {"mDice": 79.6, "WT": 86.4, "TC": 79.7, "ET": 72.7},
            "conv3d": {"mDice": 80.5, "WT": 89.0, "TC": 78.7, "ET": 73.7},
        },
    ),
    1: ("promise12", {"pointwise": {"mDice": 65.5}, "conv3d": {"mDice": 87.3}}),
}
_BASELINES = {"pointwise": "pointwise FCN without GS", "conv3d": "3D FCN"}
_POSITIONS = ("CSC", "CCS", "CSCS", "CSCSUpShift")  # columns of the paper's Table 2
_TABLE2 = {
    "ProSGv1": (84.9, 84.0, 83.1, 83.0),
    "ProSGv2": (84.5, 85.4, 85.2, 84.5),
    "ProSGv3": (85.6, 84.3, 84.8, 83.6),
    "ProSGv4": (85.0, 84.3, 85.3, 84.6),
}
_BRATS_POSITIONS = (81.2, 80.7, 80.1, 80.2)

# name -> template and settings; None is the planned network
_Networks = Mapping[str, tuple[str | None, Mapping[str, Any]]]
_LOCAL = {"shift_ratio": 0, "local_shift_ratio": 0.375}
_NETWORKS: _Networks = {
    "stock": (None, {}),
    "3×3×3": ("default", {"kernel": 3, "shift_position": "none"}),
    "pointwise": ("default", {"shift_position": "none"}),
    "CSC": ("default", {}),
    "CSC in the decoder": ("default", {"shift_location": "decoder"}),
    "CCS": ("default", {"shift_position": "CCS"}),
    "CSCS": ("default", {"shift_position": "CSCS"}),
    "CSC, ratio 1": ("default", {"shift_ratio": 1}),
    "local shifts": ("default", _LOCAL),
    "CSC and local shifts": ("default_local", {}),
    "gsp_s": ("gsp_s", {}),
    "gsp_m": ("gsp_m", {}),
    "gsp_l": ("gsp_l", {}),
}
# what may cost the group shift its Dice, and what may buy more of it
_VARIATIONS: _Networks = {
    "CSC, groups (2, 2, 2)": ("default", {"spatial_groups": [2, 2, 2]}),
    "CSC, ratio 1/4": ("default", {"shift_ratio": 0.25}),
    "CSC, ratio 1/8": ("default", {"shift_ratio": 0.125}),
    "CSC in the encoder": ("default", {"shift_location": "encoder"}),
    "CSC in the decoder, ratio 1/4": ("default", {"shift_location": "decoder", "shift_ratio": 0.25}),
    "CSC ratio 1/8, local shifts": ("default_local", {"shift_ratio": 0.125}),
    "local shifts, ratio 3/4": ("default", {**_LOCAL, "local_shift_ratio": 0.75}),
    "local shifts, ratio 3/4, CSCS": ("default", {**_LOCAL, "local_shift_ratio": 0.75, "shift_position": "CSCS"}),
    "gsp_m, 4 convolutions": ("gsp_m", {"n_conv_per_stage": 4, "n_conv_per_stage_decoder": 4}),
}


@dataclass(frozen=True)
class TableRow:
    """One training of a table, and the paper's values for it.

    Attributes:
        label: name of the row in the table.
        template: name of the plans' template; None trains the dataset's own plans.
        settings: settings that replace the template's, name -> value.
        fold: number of the fold in nnU-Net's split, 0 to 4; fold 0 corresponds to the paper's 8:2.
        paper: class -> Dice in percent, with "mDice" for the mean of all foreground classes; empty without values.
        trainer: name of the nnU-Net trainer class.
        network: name that the rows share of which only the fold differs; None without other folds.
    """

    label: str
    template: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    fold: int = 0
    paper: Mapping[str, float] = field(default_factory=dict)
    trainer: str = PAPER_TRAINER
    network: str | None = None

    @property
    def name_of_setting(self) -> str:
        """Name of the template and of the settings that replace its own, as part of a file's name.

        Examples:
            >>> TableRow("C_s = C", "promise12_prosgv3", {"shift_ratio": 1}).name_of_setting
            'promise12_prosgv3_ratio1'
        """
        return "_".join([self.template or "", *(_as_part_of_a_name(*setting) for setting in self.settings.items())])


@dataclass(frozen=True)
class RunTable:
    """A table whose runs can be trained.

    Attributes:
        description: one line for lists of tables.
        rows: function that takes the number of channels of the dataset's images and returns the rows.
        trainers: names of the trainers of each row, unless others are asked for; several are compared.
    """

    description: str
    rows: Callable[[int], list[TableRow]]
    trainers: Sequence[str] = (PAPER_TRAINER,)


def rows_of(
    table: str, n_channels: int, trainers: Sequence[str] | None = None, folds: Sequence[int] | None = None
) -> list[TableRow]:
    """Return the rows of a table, with the values of He et al., "Group Shift Pointwise Convolution".

    Args:
        table: name of the table, a key of `TABLES`.
        n_channels: number of channels of the dataset's images; 4 means BraTS18 in Table 1, 1 means PROMISE12.
        trainers: names of trainers in place of the table's own: one for a table of the paper, any number of different
            ones for cross-validation.
        folds: numbers of folds, 0 to 4, to which the table is restricted; None takes all of its folds.

    Raises:
        InputError: there is no such table.
        ConflictingInputError: neither dataset has this number of channels, there are several trainers for a table of
            one trainer, a trainer is named twice, or the table has none of the folds.

    Examples:
        >>> [row.label for row in rows_of("ratio", n_channels=1)]
        ['C_s = C/2', 'C_s = C']
    """
    check_name("a table", table, TABLES, parameters=["table"])
    usual = TABLES[table].trainers
    chosen = trainers or usual
    if len(set(chosen)) < len(chosen):
        raise ConflictingInputError(f"different trainers for {table}", " ".join(chosen), remedy="name each once")
    rows = _in_folds(table, TABLES[table].rows(n_channels), folds)
    if len(usual) > 1:
        return [
            replace(row, label=f"{trainer}, {row.label}", trainer=trainer, network=trainer)
            for trainer in chosen
            for row in rows
        ]
    if len(chosen) > 1:
        raise ConflictingInputError(f"one trainer for {table}", " ".join(chosen), parameters=["trainers"])
    return [replace(row, trainer=chosen[0]) for row in rows]


def _in_folds(table: str, rows: list[TableRow], folds: Sequence[int] | None) -> list[TableRow]:
    if folds is None:
        return rows
    there = {row.fold for row in rows}
    if not set(folds) <= there:
        raise ConflictingInputError(
            f"folds that {table} has: {', '.join(map(str, sorted(there)))}",
            ", ".join(map(str, folds)),
            parameters=["folds"],
        )
    return [row for row in rows if row.fold in folds]


def _table1(n_channels: int) -> list[TableRow]:
    if n_channels not in _TABLE1:
        raise ConflictingInputError(
            "a dataset of 4 channels (BraTS18) or 1 (PROMISE12) for table1",
            f"one of {n_channels} channels",
            parameters=["dataset"],
        )
    dataset, values = _TABLE1[n_channels]
    return [
        TableRow(label, f"{dataset}_baseline_{baseline}", paper=values[baseline])
        for baseline, label in _BASELINES.items()
    ]


def _table2(_: int) -> list[TableRow]:
    return [
        TableRow(f"{groups}, {position}", f"promise12_{groups.lower()}", _at(position), paper={"mDice": value})
        for groups, values in _TABLE2.items()
        for position, value in zip(_POSITIONS, values, strict=True)
    ]


def _ratio(_: int) -> list[TableRow]:
    return [
        TableRow("C_s = C/2", "promise12_prosgv3", paper={"mDice": 85.6}),
        TableRow("C_s = C", "promise12_prosgv3", {"shift_ratio": 1}, paper={"mDice": 81.4}),
    ]


def _brats_positions(_: int) -> list[TableRow]:
    return [
        TableRow(position, "brats18_csc", _at(position), paper={"mDice": value})
        for position, value in zip(_POSITIONS, _BRATS_POSITIONS, strict=True)
    ]


def _brats_location(_: int) -> list[TableRow]:
    return [
        TableRow("encoder", "brats18_csc", {"shift_location": "encoder"}, paper={"mDice": 81.5}),
        TableRow("decoder", "brats18_csc_dec", paper={"mDice": 82.6}),
        TableRow("both", "brats18_csc", paper={"mDice": 81.2}),
    ]


def _cross_validation(_: int) -> list[TableRow]:
    return [TableRow(f"fold {fold}", fold=fold) for fold in range(N_FOLDS)]


def _fold_by_fold(networks: _Networks) -> list[TableRow]:
    """Return a row for each network and fold, fold by fold, so that all can be compared early."""
    return [
        TableRow(f"{network}, fold {fold}", template, settings, fold, network=network)
        for fold in range(N_FOLDS)
        for network, (template, settings) in networks.items()
    ]


def _as_part_of_a_name(key: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    in_words = "-".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"{key.removeprefix('shift_')}{in_words}"


def _at(position: str) -> dict[str, str]:
    """Return the setting of a position; CSC is left to the templates, so that a run has one name in all tables."""
    return {} if position == _POSITIONS[0] else {"shift_position": position}


TABLES = {
    "table1": RunTable("the two baselines on BraTS18 or PROMISE12 (Table 1)", _table1),
    "table2": RunTable("spatial groups and insert positions on PROMISE12 (Table 2)", _table2),
    "ratio": RunTable("half or all channels shifted on PROMISE12 (Sec. 3.1)", _ratio),
    "brats-positions": RunTable("insert positions on BraTS18 (Sec. 3.2)", _brats_positions),
    "brats-location": RunTable("shifts in encoder, decoder or both on BraTS18 (Sec. 3.2)", _brats_location),
    "cross-validation": RunTable(
        "stock nnU-Net and GSP in five folds (not in the paper)",
        _cross_validation,
        ("nnUNetTrainer", "nnUNetTrainerGSP"),
    ),
    "networks": RunTable(
        "the planned network and the family of GSP networks in five folds (not in the paper)",
        lambda _: _fold_by_fold(_NETWORKS),
        ("nnUNetTrainer",),
    ),
    "variations": RunTable(
        "other settings of the shifts, and a deeper network, in five folds (not in the paper)",
        lambda _: _fold_by_fold(_VARIATIONS),
        ("nnUNetTrainer",),
    ),
}
