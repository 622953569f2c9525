"""Searches the networks of a dataset: checks, goes on where the search folder says, and reports."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2_gsp.errors import ConflictingInputError, DamagedFileError, InputError
from nnunetv2_gsp.experiments.preparation import check_number_of_cases
from nnunetv2_gsp.experiments.runs import locked
from nnunetv2_gsp.files import check_target, write_json
from nnunetv2_gsp.nnunet import N_FOLDS, check_device, find_trainer, nnunet_folder
from nnunetv2_gsp.plans import preprocessed_folder
from nnunetv2_gsp.search import N_TRIALS, TRAINERS
from nnunetv2_gsp.search.report import GMACS, MILLISECONDS, Report
from nnunetv2_gsp.search.study import Search, TrialOutcome, check_optuna
from nnunetv2_gsp.search.trainings import Trainings, local_training, slurm_training
from nnunetv2_gsp.slurm import SlurmResources, check_executor, resources_for


@dataclass(frozen=True)
class SearchOutcome:
    """What a search has found.

    Attributes:
        text: table of the trials as Markdown, with the paths of the files; after a dry run the listing.
        failed: a line for each training that failed, with the path of its log.
    """

    text: str
    failed: Sequence[str] = ()


def search_networks(
    dataset: str,
    *,
    configuration: str = "3d_fullres",
    plans_name: str = "nnUNetPlans",
    trainers: Sequence[str] = TRAINERS,
    folds: Sequence[int] = (0,),
    budget_gmacs: float | None = None,
    budget_ms: float | None = None,
    n_trials: int = N_TRIALS,
    kept: float = 0.5,
    seed: int = 0,
    device: str = "cuda",
    executor: str = "local",
    at_a_time: int = 1,
    slurm: SlurmResources | None = None,
    output: Path | None = None,
    dry_run: bool = False,
) -> SearchOutcome:
    """Search for the networks with the best Dice for their cost that a dataset can be given.

    The cost of a network is known before anything is trained; what exceeds the budget is never trained. The other
    trials are trained with one trainer after the other, and only the best of those that cost no more go on to the
    next. The first trials are the template default and others of this package; then Optuna chooses. A search that was
    killed or interrupted goes on with the same call. Plans and results of each network lie where nnU-Net has them.

    Args:
        dataset: name or id of a planned dataset, as nnU-Net takes it.
        configuration: name of the plans' configuration to train, such as 3d_fullres.
        plans_name: name of the plans that nnU-Net made, from which those of each network are derived.
        trainers: names of trainers, from the shortest training to the longest; the Dice of the last one counts.
        folds: numbers of the folds, 0 to 4, that each network is trained in; their mean Dice counts.
        budget_gmacs: largest number of multiply-accumulates of a forward pass of one patch, in 10⁹, above 0; None has
            no limit.
        budget_ms: largest time of a forward pass of one patch on this machine's CPU, in milliseconds, above 0; with it,
            milliseconds are the cost in place of multiply-accumulates. None does not measure them.
        n_trials: number of networks to train, those of earlier calls included; from 1 on.
        kept: fraction of the trials that goes on to the next trainer, above 0, up to 1.
        seed: number that settles what Optuna chooses, given the results so far.
        device: device that nnU-Net trains on, one of `nnunet.DEVICES`.
        executor: name of the executor, one of `EXECUTORS`.
        at_a_time: number of trials, and of trainings, at once; from 1 on.
        slurm: resources of each Slurm job; None takes the defaults.
        output: search folder, in which the trials are remembered and reports are written; None takes `search` below the
            dataset's results.
        dry_run: True lists what would be trained, or what has been, and writes nothing.

    Raises:
        ConflictingInputError: the search folder is that of another search, both budgets are given, or another call is
            at work in the folder.
        MissingInputError: a dataset, plans, a configuration or a trainer does not exist.
        UnavailableError: Optuna, the executor or the device is not available.
        InputError: there is no such executor, no network meets the budget, the plans make no network, or preprocessing
            failed.
    """
    _check_numbers(budget_gmacs, budget_ms, kept, trainers, folds)
    slurm = resources_for(executor, slurm)
    preprocessed = preprocessed_folder(dataset)
    results = nnunet_folder("nnUNet_results").absolute() / preprocessed.name
    trainings = Trainings(
        preprocessed,
        results,
        configuration,
        plans_name,
        tuple(trainers),
        tuple(folds),
        device,
        local_training(at_a_time) if slurm is None else slurm_training(at_a_time, slurm),
        takes_time=budget_ms is not None,
    )
    folder = results / "search" if output is None else output.absolute()
    budget = budget_gmacs if budget_ms is None else budget_ms
    search = Search(trainings.space(), trainings, folder / "trials.journal", budget, at_a_time, kept, seed)
    _check_machine(executor, device)
    for trainer in trainers:
        find_trainer(trainer)
    check_number_of_cases(preprocessed, trainings.dataset_json)
    check_target(folder, overwrite=True, is_folder=True, parameters=["output"])
    described = _description(trainings, search)
    _check_same_search(folder, described)
    _check_budget(search, budget_ms is not None)
    if dry_run:
        return SearchOutcome(_listing(trainings, search, n_trials))

    with locked(folder / "lock", wait=False):
        write_json(described, folder / "search.json")
        search.run(n_trials, after_each=lambda: _report(trainings, search).write(folder))
        report = _report(trainings, search)
        files = report.write(folder)
    return SearchOutcome("\n".join([report.markdown(), *map(str, files)]), _failed(trainings, report))


def _check_numbers(
    budget_gmacs: float | None, budget_ms: float | None, kept: float, trainers: Sequence[str], folds: Sequence[int]
) -> None:
    if budget_gmacs is not None and budget_ms is not None:
        raise ConflictingInputError("one budget", "two, in MACs and in milliseconds", remedy="leave out one")
    for name, budget in (("budget_gmacs", budget_gmacs), ("budget_ms", budget_ms)):
        if budget is not None and not budget > 0:
            raise InputError("a budget above 0", f"{budget:g}", parameters=[name])
    if not 0 < kept <= 1:
        raise InputError("a fraction above 0, up to 1, of the trials that go on", f"{kept:g}", parameters=["kept"])
    for name, given in (("trainers", trainers), ("folds", folds)):
        if not given or len(set(given)) < len(given):
            raise InputError(f"different {name}, at least one", " ".join(map(str, given)) or "none", parameters=[name])
    if not set(folds) <= set(range(N_FOLDS)):
        raise InputError(f"folds from 0 to {N_FOLDS - 1}", " ".join(map(str, folds)), parameters=["folds"])


def _check_machine(executor: str, device: str) -> None:
    check_optuna()
    check_executor(executor)
    if executor == "local":
        check_device(device)


def _check_budget(search: Search, in_milliseconds: bool) -> None:
    """Raise InputError if not even the cheapest network of the space meets the budget."""
    cheapest = search.task.network(search.space.settings(search.space.cheapest()))
    if search.budget is not None and cheapest.cost > search.budget:
        unit = _unit(in_milliseconds)
        raise InputError(
            "a budget that a network meets",
            f"{search.budget:g} {unit}, where the cheapest network takes {cheapest.cost:.3g} {unit}",
            parameters=["budget_ms" if in_milliseconds else "budget_gmacs"],
        )


def _description(trainings: Trainings, search: Search) -> dict[str, Any]:
    """Return what makes a search the same one: trials are compared only if all of this is equal."""
    return {
        "dataset": trainings.preprocessed.name,
        "configuration": trainings.configuration,
        "plans": trainings.plans_name,
        "trainers": list(trainings.trainers),
        "folds": list(trainings.folds),
        "budget": search.budget,
        "unit of the budget": _unit(trainings.takes_time),
        "patch": list(trainings.planned["patch_size"]),
        "batch": trainings.planned["batch_size"],
        "planned network": json.loads(json.dumps(trainings.planned["architecture"]["arch_kwargs"])),
    }


def _check_same_search(folder: Path, described: dict[str, Any]) -> None:
    file = folder / "search.json"
    if not file.is_file():
        return
    try:
        there = dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DamagedFileError(
            "the description of a search in JSON", "something else", where=file, parameters=["output"]
        ) from error
    for name, wanted in described.items():
        if there.get(name) != wanted:
            raise ConflictingInputError(
                f"a search with {name} {_in_words(wanted)}",
                f"one with {_in_words(there.get(name))}",
                where=folder,
                remedy="move it away",
                parameters=["output"],
            )


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return f"of {value.get('n_stages')} stages of {_in_words(value.get('features_per_stage'))} channels"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "none" if value is None else str(value)


def _report(trainings: Trainings, search: Search) -> Report:
    folds = ", ".join(map(str, trainings.folds))
    return Report(
        f"Search on {trainings.preprocessed.name}, {trainings.configuration}, {trainings.plans_name}",
        search.space,
        trainings.trainers,
        search.records(),
        search.budget,
        _unit(trainings.takes_time),
        [
            f"Dice: mean over foreground classes and folds ({folds}) of nnU-Net's validation, for each trainer.",
            "MACs: convolutions of one forward pass of one patch, batch 1, without deep supervision.",
            f"A trial is pruned unless fewer than {search.kept:.0%} of the trials that cost no more are better so far.",
        ],
    )


def _failed(trainings: Trainings, report: Report) -> list[str]:
    """Return a line for each failed training, with the path of its log."""
    return [
        f"Trial {record} failed: {job.log}"
        for record in report.records
        if record.outcome is TrialOutcome.FAILED and record.network is not None
        for run in trainings.runs(record.network.name, rung=len(record.dice))
        if not run.finished and (job := run.job()) is not None
    ]


def _listing(trainings: Trainings, search: Search, n_trials: int) -> str:
    """Return the first trials with their costs, or the trials of a search that has begun, and a training's command."""
    if search.journal.is_file():
        return _report(trainings, search).markdown()
    unit = _unit(trainings.takes_time)
    folds = ", ".join(map(str, trainings.folds))
    lines = [f"At most {n_trials} networks, {', then '.join(trainings.trainers)}, folds {folds}. The first ones:"]
    for name, choice in search.space.first().items():
        try:
            network = search.task.network(search.space.settings(choice))
        except InputError as error:
            lines.append(f"{name}: makes no network ({error.problem})")
            continue
        is_over = search.budget is not None and network.cost > search.budget
        lines.append(f"{name}: {network.cost:.3g} {unit}{', over the budget' if is_over else ''}")
        lines += [f"    {shlex.join(run.command())}" for run in trainings.runs(network.name, rung=0)[:1]]
    return "\n".join(lines)


def _unit(in_milliseconds: bool) -> str:
    return MILLISECONDS if in_milliseconds else GMACS
