"""Writes results beside the paper's values, as Markdown and CSV."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from nnunetv2_gsp.experiments.runs import RunState, TrainingRun
from nnunetv2_gsp.tables import Table

Cells = dict[str, Any]  # of one line, by the names of the columns; numbers are percent


def cells_of(runs: Sequence[TrainingRun], states: Sequence[RunState], labels: Mapping[str, Any]) -> list[Cells]:
    """Return a table's lines: Dice of the finished runs and of the paper in percent, and the state of each run.

    Args:
        runs: all runs of one table.
        states: state of each run, in the order of `runs`.
        labels: name -> value of each label or region, as in dataset.json.
    """
    table = []
    for run, state in zip(runs, states, strict=True):
        measured = run.dice_percent(labels) if state is RunState.FINISHED else {}
        paper = {f"{name}, paper": value for name, value in run.row.paper.items()}
        table.append({"run": run.row.label, "mDice": None, **measured, **paper, "state": describe(run, state)})
    return table


def describe(run: TrainingRun, state: RunState) -> str:
    """Return the state in words, with the log of a failed run, and the job of a run in Slurm."""
    job = run.job()
    if job is not None and state is RunState.FAILED:
        return f"failed: {job.log}"
    if job is not None and job.executor == "slurm" and state in (RunState.QUEUED, RunState.RUNNING):
        return f"{state.value}: Slurm job {job.id}"
    return state.value


def as_markdown(title: str, table: Sequence[Cells], runs: Sequence[TrainingRun]) -> str:
    """Return the table as Markdown; below trainings of several folds stands a line with mean ± SD.

    Args:
        title: line of text above the table.
        table: lines of the table, as `cells_of` returns them.
        runs: run of each line, in the order of `table`.
    """
    rows = [*table, *_over_folds(table, runs)]
    columns = _columns(table)
    text = [["" if row.get(name) is None else _percent(row[name]) for name in columns] for row in rows]
    return "\n".join([title, "", Table(columns, text).markdown(padded=True), ""])


def as_csv(table: Sequence[Cells]) -> str:
    """Return the table as CSV, with all digits.

    Examples:
        >>> print(as_csv([{"run": "CSC", "mDice": 81.25, "state": "finished"}]), end="")
        run,mDice,state
        CSC,81.25,finished
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, _columns(table), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def _over_folds(table: Sequence[Cells], runs: Sequence[TrainingRun]) -> list[Cells]:
    """Return mean ± sample SD over the finished folds of each network with several folds.

    A cell is blank where a fold has no figure; of a label that no case of a fold has, nnU-Net's is NaN.
    """
    folds_of: dict[str, list[Cells]] = {}
    for run, cells in zip(runs, table, strict=True):
        if run.row.network is not None and cells["mDice"] is not None:
            folds_of.setdefault(run.row.network, []).append(cells)
    rows = []
    for network, finished in folds_of.items():
        if len(finished) > 1:
            values = {name: [cells[name] for cells in finished] for name in finished[0] if name not in ("run", "state")}
            rows.append(
                {
                    "run": f"{network}, mean ± SD of {len(finished)} folds",
                    **{
                        name: f"{mean(each):.1f} ± {stdev(each):.1f}"
                        for name, each in values.items()
                        if not any(value is None or math.isnan(value) for value in each)
                    },
                }
            )
    return rows


def _columns(table: Sequence[Cells]) -> list[str]:
    """Return the names of the columns that are not empty, the state last."""
    names = dict.fromkeys(name for row in table for name, value in row.items() if value is not None)
    known = [name for name in ("run", "mDice", "mDice, paper") if name in names]  # both means side by side
    return [*known, *(name for name in names if name not in (*known, "state")), "state"]


def _percent(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)
