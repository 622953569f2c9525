"""Losses and Dice of stock, and of GSP by two engines, after a few short epochs on a raw dataset, with some seeds."""

import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.gpu.commands import FOLD, fold_folder, preprocess, run, short, training, training_log
from benchmarks.gpu.settings import Contender, Settings
from benchmarks.page import Row, Table

SEEDS, EPOCHS, ITERATIONS = (0, 1, 2), 5, 50
TRAINERS = {"GSP": "nnUNetTrainerGSPBench", "stock": "nnUNetTrainerBench"}
CURVES = {
    "training loss": "train_losses",
    "validation loss": "val_losses",
    "Dice of validation patches": "mean_fg_dice",
}


def tables(settings: Settings) -> Iterator[Table]:
    """Preprocess the dataset, train on it, and put what nnU-Net logged side by side."""
    dataset = _link_raw(settings)
    cores = os.cpu_count() or 1
    preprocess(dataset, cores)
    runs = list(product(settings.contenders, SEEDS[:1] if settings.is_tiny else SEEDS))
    found: dict[tuple[Contender, int], dict[str, Any]] = {}
    with ThreadPoolExecutor(min(len(runs), max(1, cores // 2))) as pool:
        logs = pool.map(lambda each: _train(each, dataset, len(runs), settings), runs)
        for each, log in zip(runs, logs, strict=True):
            found[each] = log
            yield _table(dataset, found, settings)


def _link_raw(settings: Settings) -> str:
    """Link the dataset into an nnUNet_raw of its own, with a reader that is always installed; return its name."""
    assert settings.raw is not None
    raw = settings.raw.resolve()
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):  # other sections have datasets, too
        os.environ[name] = str(Path(os.environ[name], "losses"))
    folder = Path(os.environ["nnUNet_raw"], raw.name)
    folder.mkdir(parents=True)
    for name in ("imagesTr", "labelsTr"):
        (folder / name).symlink_to(raw / name)
    description = json.loads((raw / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**description, "overwrite_image_reader_writer": "NibabelIO"}))
    return raw.name


def _train(asked: tuple[Contender, int], dataset: str, n_runs: int, settings: Settings) -> dict[str, Any]:
    """Train and validate fold 0; return nnU-Net's log, and the Dice of whole cases."""
    contender, seed = asked
    results = Path(os.environ["nnUNet_results"], f"{contender.engine}_{seed}")
    n_loaders = max(1, (os.cpu_count() or 1) // n_runs)
    run(
        training(dataset, TRAINERS[contender.kind], settings),
        {
            **short(contender, results, *_length(settings)),
            "nnUNet_compile": "false",
            "nnUNet_n_proc_DA": str(n_loaders),
            "GSP_BENCH_SEED": str(seed),
        },
    )
    fold = fold_folder(results, dataset, TRAINERS[contender.kind])
    summary = json.loads((fold / "validation" / "summary.json").read_text())
    return {**training_log(fold), "Dice": summary["foreground_mean"]["Dice"]}


def _table(dataset: str, found: Mapping[tuple[Contender, int], Mapping[str, Any]], settings: Settings) -> Table:
    epochs, iterations = _length(settings)

    def row(name: str, values: Mapping[tuple[Contender, int], float]) -> Row:
        return {
            "": name,
            **{
                str(contender): ", ".join(f"{value:.3f}" for (of, _), value in values.items() if of == contender)
                for contender in settings.contenders
            },
        }

    rows = [
        row(f"{name}, epoch {epoch + 1}", {each: log[key][epoch] for each, log in found.items()})
        for name, key in CURVES.items()
        for epoch in range(epochs)
    ]
    rows.append(row("Dice of whole cases", {each: log["Dice"] for each, log in found.items()}))
    return Table(
        f"Learning, {dataset}",
        rows,
        f"Fold {FOLD}, {epochs} epochs of {iterations} steps, a value for each of "
        f"{len({seed for _, seed in found})} seeds of the weights; eager, all trainings beside each other.",
    )


def _length(settings: Settings) -> tuple[int, int]:
    return (1, 2) if settings.is_tiny else (EPOCHS, ITERATIONS)
