"""Seconds of an epoch without loading data, by nnU-Net's own benchmark: its plans beside the GSP plans of them."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.gpu.commands import run, short, training
from benchmarks.gpu.networks import CONFIGURATION, DATASET, plans_of
from benchmarks.gpu.settings import STOCK, Contender, Settings
from benchmarks.measuring import WrongError
from benchmarks.models import CHANNELS, Plan
from benchmarks.page import Row, Table
from nnunetv2_gsp.nnunet import nnunet_folder
from nnunetv2_gsp.plans import write_gsp_plans
from nnunetv2_gsp.wording import times

EPOCHS = 2  # the first one compiles
TRAINER = "nnUNetTrainerBenchNoDataLoading"


def tables(settings: Settings) -> Iterator[Table]:
    """Train stock, then GSP by each engine, on one batch of noise; the fastest epoch counts."""
    plans = plans_of(Plan(settings.patch, settings.features), settings.batch)
    names = {"stock": plans["plans_name"], "GSP": _write_plans(plans)}
    steps = 2 if settings.is_tiny else 250
    rows: list[Row] = []
    for contender in sorted(settings.contenders, key=STOCK.__ne__):  # which the others are compared with
        seconds = _fastest_epoch(contender, plans["dataset_name"], names[contender.kind], steps, settings)
        rows.append(
            {
                "": f"{contender}, `-p {names[contender.kind]}`",
                "GSP / stock": seconds / float(rows[0]["s"]) if rows else 1.0,  # type: ignore[arg-type]
                "s": seconds,
            }
        )
        yield Table(
            f"An epoch without data, {settings.batch}×{CHANNELS}×{times(settings.patch)}",
            list(rows),
            f"nnU-Net's nnUNetTrainerBenchmark_5epochs_noDataLoading with {EPOCHS} epochs of {steps} steps, "
            f"{settings.precision}, as its command compiles; the fastest epoch.",
        )


def _write_plans(plans: dict[str, Any]) -> str:
    """Write what nnU-Net's planning and preprocessing leave, as far as is read without data; return GSP plans' name."""
    folder = nnunet_folder("nnUNet_preprocessed") / plans["dataset_name"]
    data = folder / plans["configurations"][CONFIGURATION]["data_identifier"]
    data.mkdir(parents=True, exist_ok=True)
    (data / "case.b2nd").touch()  # by whose name nnU-Net tells the kind of data
    for name, content in ((plans["plans_name"], plans), ("dataset", DATASET), ("dataset_fingerprint", {})):
        (folder / f"{name}.json").write_text(json.dumps(content))
    return write_gsp_plans(plans["dataset_name"]).stem


def _fastest_epoch(contender: Contender, dataset: str, plans_name: str, steps: int, settings: Settings) -> float:
    results = Path(os.environ["nnUNet_results"], "epochs", contender.engine)
    command = [*training(dataset, TRAINER, settings), "-p", plans_name]
    compiles = {"nnUNet_compile": str(settings.on_gpu).lower()}  # whatever ran in this process before
    run(command, {**short(contender, results, EPOCHS, steps), **compiles})
    [file] = (results / dataset / f"{TRAINER}__{plans_name}__{CONFIGURATION}").glob("fold_0/benchmark_result.json")
    [measured] = json.loads(file.read_text()).values()
    fastest = measured["fastest_epoch"]
    if isinstance(fastest, str):  # what nnU-Net says in place of a number
        raise WrongError(f"{contender}: {fastest}")
    return float(fastest)
