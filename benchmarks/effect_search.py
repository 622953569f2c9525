"""Searches for the networks that solve the task of `effect.py` best for their cost, as `nnUNetv2_gsp search` does.

A trial is trained for each number of steps in turn, from scratch and with all seeds; it goes on to the next number if
it is in the best half of those that cost no more. The budget is what the template default costs, unless another is
given. Run it with `python -m benchmarks.effect_search -o FOLDER --trials N`; the same call again goes on where it was
stopped.
"""

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from benchmarks.effect import PATCH, built, held_out_dice, stock_entry, train
from nnunetv2_gsp.architectures.from_plans import Entry, read_stages
from nnunetv2_gsp.counting import count_architecture
from nnunetv2_gsp.errors import RefusedSettingsError
from nnunetv2_gsp.files import write_json
from nnunetv2_gsp.plans import with_shifts, with_topology
from nnunetv2_gsp.plans_templates import Template
from nnunetv2_gsp.progress import progress
from nnunetv2_gsp.search.report import Report
from nnunetv2_gsp.search.space import Space
from nnunetv2_gsp.search.study import Network, Search


@dataclass(frozen=True)
class EffectTask:
    """The task of `effect.py`: rungs are numbers of steps, and each run keeps its Dice in a file."""

    folder: Path
    steps: Sequence[int]
    seeds: int
    processes: int

    @property
    def n_rungs(self) -> int:
        """Number of rungs: one for each number of steps."""
        return len(self.steps)

    def network(self, settings: Mapping[str, Any]) -> Network:
        """Return the network of a template's settings with its cost."""
        architecture = architecture_of(settings)
        parameters, macs = count_architecture(architecture, PATCH, 1, 2)
        content = json.dumps(architecture, sort_keys=True)
        return Network(hashlib.sha256(content.encode()).hexdigest()[:12], settings, parameters, macs)

    def train(self, networks: Sequence[Network], rung: int) -> list[float | None]:
        """Train what has no file yet, each run in a process with one thread, and return the mean Dice over seeds."""
        steps = self.steps[rung]
        missing = [
            (network, seed)
            for network in networks
            for seed in range(self.seeds)
            if not self._file(network, seed, steps).is_file()
        ]
        if missing:
            with ProcessPoolExecutor(self.processes, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
                started = [
                    pool.submit(train_and_save, dict(each.settings), seed, steps, self._file(each, seed, steps))
                    for each, seed in missing
                ]
                for run in progress(started, f"{steps} steps", "run"):
                    run.result()
        return [mean(self._dice(network, seed, steps) for seed in range(self.seeds)) for network in networks]

    def _file(self, network: Network, seed: int, steps: int) -> Path:
        return self.folder / f"{network.name}_seed{seed}_steps{steps}.json"

    def _dice(self, network: Network, seed: int, steps: int) -> float:
        return float(json.loads(self._file(network, seed, steps).read_text())["dice"])


def main() -> None:
    """Search, write the report beside the runs, and print it."""
    arguments = _command_line()
    task = EffectTask(arguments.output, arguments.steps, arguments.seeds, arguments.processes)
    budget = arguments.budget_macs or task.network({}).cost
    space = Space(read_stages(stock_entry(), PATCH))
    search = Search(space, task, arguments.output / "trials.journal", budget, arguments.processes, seed=arguments.seed)
    report = partial(report_of, search, task, budget)
    search.run(arguments.trials, after_each=lambda: report().write(arguments.output))
    print(report().markdown())


def architecture_of(settings: Mapping[str, Any]) -> Entry:
    """Return the entry `architecture` of a template's settings; raises RefusedSettingsError if they make none."""
    template = Template("search", "", "", settings)
    planned = {"architecture": stock_entry(), "patch_size": list(PATCH), "batch_size": 1, "use_mask_for_norm": []}
    try:
        architecture: Entry = with_shifts(with_topology(planned, template), template)["architecture"]
    except (ValueError, NotImplementedError) as error:
        raise RefusedSettingsError(str(error), "The effect task") from error
    return architecture


def train_and_save(settings: dict[str, Any], seed: int, steps: int, file: Path) -> None:
    """Train a network, and keep its Dice in a file."""
    network = train(partial(built, architecture_of(settings)), seed, steps)
    write_json({"dice": held_out_dice(network), "settings": settings}, file)


def report_of(search: Search, task: EffectTask, budget: float) -> Report:
    """Return what the search has found so far, with the number of steps that it took."""
    records = search.records()
    n_steps = task.seeds * sum(steps for record in records for steps in task.steps[: len(record.dice)])
    return Report(
        "Search on the effect task",
        search.space,
        [f"{steps} steps" for steps in task.steps],
        records,
        budget,
        notes=[
            f"Dice: mean over held-out cases and {task.seeds} seed(s); MACs of one forward pass of 1×32×32×32.",
            f"{n_steps} steps, as many as {n_steps / task.steps[-1]:.1f} trainings of {task.steps[-1]} steps.",
        ],
    )


def _command_line() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="where runs are kept")
    parser.add_argument("--trials", type=int, default=30, metavar="N", help="networks to train (default: %(default)s)")
    parser.add_argument(
        "--steps",
        type=int,
        nargs="+",
        default=[100, 400],
        metavar="N",
        help="of the trainings of a trial, from few to many (default: 100 400)",
    )
    parser.add_argument("--seeds", type=int, default=1, help="trainings with each number of steps (default: 1)")
    parser.add_argument("--budget-macs", type=float, metavar="G", help="10⁹ MACs (default: those of template default)")
    parser.add_argument("--seed", type=int, default=0, help="for what Optuna chooses (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="default: %(default)s")
    return parser.parse_args()


if __name__ == "__main__":
    main()
