"""The verb `experiments`: write the plans of a table, train what is missing, collect."""
import contextlib
import hashlib
import io
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunetv2_gsp.architectures.from_plans import buildable_architecture, is_gsp
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.experiments import report
from nnunetv2_gsp.experiments.executors import (
    SlurmResources,
    check_executor,
    slurm_states,
    submit_to_slurm,
    train_locally,
)
from nnunetv2_gsp.experiments.preparation import due_preprocessing, preprocess, split
from nnunetv2_gsp.experiments.runs import Run, State, locked
from nnunetv2_gsp.experiments.tables import Row, rows_of
from nnunetv2_gsp.files import write_json, write_text
from nnunetv2_gsp.nnunet import N_FOLDS, check_device, nnunet_folder
from nnunetv2_gsp.plans import (
    derive_gsp_plans,
    effective_configurations,
    load_dataset_json,
    load_plans,
    preprocessed_folder,
)
from nnunetv2_gsp.trainers import nnUNetTrainerGSP

_CONFIGURATION, _PLANS = "3d_fullres", "nnUNetPlans"


def run_experiments(table: str, dataset: str, *, configuration: str = _CONFIGURATION, plans_name: str = _PLANS,
                    trainers: Sequence[str] | None = None, overrides: Mapping[str, Any] | None = None,
                    device: str = "cuda", executor: str = "local", at_a_time: int | None = None,
                    slurm: SlurmResources | None = None, retry: bool = False, dry_run: bool = False) -> bool:
    """Train what a table of the paper needs and is not trained yet; print the table beside the paper's values.

    Each run is nnU-Net's own nnUNetv2_train. A local executor works in the foreground until all have ended; Slurm gets
    one job array, and the same call later collects. A run is known by its trainer, plans, configuration and fold, so
    tables that share a run train it once. Jobs, logs and tables lie in `experiments` below the dataset's results.

    Args:
        table: one of `tables.TABLES`.
        dataset: name or id, as nnU-Net takes it; planned.
        configuration: of the plans.
        plans_name: plans to derive those of the table from; for cross-validation, the plans that are trained.
        trainers: in place of the table's own; cross-validation compares as many as are given.
        overrides: settings in place of the templates', for every run.
        device: cpu, cuda or mps.
        executor: "local" or "slurm".
        at_a_time: how many trainings run at once: locally 1 without it, in Slurm all.
        slurm: what a job asks for.
        retry: train failed runs again; they go on from their last checkpoint.
        dry_run: list the runs with their state, and write nothing.

    Returns:
        Whether nothing has failed, and for local runs whether all have finished.

    Raises:
        InputError: the dataset was not planned or does not fit the table, plans of that name hold other settings, an
            option does not fit, the executor is not there, or preprocessing failed.
    """
    if executor == "slurm":
        slurm = slurm or SlurmResources()
    elif slurm is not None:
        raise InputError("Expected --partition, --gpus, --cpus and --time with --executor slurm only; drop them, or "
                         "add it.")
    experiment = Experiment(table, preprocessed_folder(dataset), configuration, plans_name, trainers, overrides or {},
                            device)
    check_executor(executor)
    if executor == "local":
        check_device(device)
    experiment.check()
    if dry_run:
        print(experiment.listing())
        return True

    with locked(experiment.folder / "lock", f"Expected one call at a time for {experiment.dataset}, another one is at "
                                            f"work; wait for it, or look with --dry-run."):
        todo = experiment.prepare(retry)
        if todo and slurm is not None:
            ids = submit_to_slurm(todo, at_a_time, slurm)
            print(f"Submitted to Slurm: {' '.join(ids)}. The same command collects.")
        elif todo:
            train_locally(todo, at_a_time or 1, experiment.collect)
        print(f"\n{experiment.collect()}")
    return experiment.say_what_failed(may_be_unfinished=executor == "slurm")


@dataclass(frozen=True)
class Experiment:
    """A table of the paper on one dataset.

    Attributes:
        table: one of `tables.TABLES`.
        preprocessed: the dataset's folder below nnUNet_preprocessed.
        configuration: of the plans.
        plans_name: the dataset's own plans.
        trainers: in place of the table's.
        overrides: settings in place of the templates'.
        device: cpu, cuda or mps.
    """

    table: str
    preprocessed: Path
    configuration: str
    plans_name: str
    trainers: Sequence[str] | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cuda"

    @property
    def dataset(self) -> str:
        """Its full name."""
        return self.preprocessed.name

    @property
    def folder(self) -> Path:
        """Where jobs, logs and tables lie."""
        return self.runs[0].experiments

    @cached_property
    def dataset_json(self) -> dict[str, Any]:
        """nnU-Net's description of the dataset."""
        return load_dataset_json(self.preprocessed)

    @cached_property
    def runs(self) -> list[Run]:
        """All runs of the table."""
        results = nnunet_folder("nnUNet_results").absolute() / self.dataset
        rows = rows_of(self.table, self._n_channels(), self.trainers)
        return [Run(row, self.dataset, self.configuration, self._plans_of(row), self.device, results) for row in rows]

    @cached_property
    def plans(self) -> dict[str, dict[str, Any]]:
        """Content of all plans by name, derived or, for cross-validation, the dataset's own."""
        return {run.plans: self._content(run) for run in self.runs}

    def check(self) -> None:
        """Raise InputError if something in the way of these runs can be told before anything is written."""
        varied = {key for run in self.runs for key in run.row.overrides}
        for key in self.overrides:
            if key in varied:
                raise InputError(f"Expected settings that are the same in all runs of {self.table}, got {key} with "
                                 f"--set, which is what the table varies; drop it.")
        if self.overrides and self.runs[0].row.template is None:
            raise InputError(f"Expected no --set for {self.table}, which trains the plans {self.plans_name} as they "
                             f"are; derive others with nnUNetv2_gsp plan and name them with -p.")
        for name, content in self.plans.items():
            file = self.preprocessed / f"{name}.json"
            if file.is_file() and self._trained(load_plans(self.preprocessed, name)) != self._trained(content):
                raise InputError(f"Expected in {file} what this table trains, found plans with other settings; move "
                                 f"them away, with the results trained from them.")
        self._check_number_of_cases()
        trainers = [_trainer(name) for name in dict.fromkeys(run.row.trainer for run in self.runs)]
        if self.runs[0].row.template is None:  # others were checked when they were derived
            self._check_own_plans(trainers)

    def states(self) -> list[State]:
        """Return where the runs stand, in their order."""
        in_slurm = slurm_states(self.runs)
        return [run.state(in_slurm) for run in self.runs]

    def listing(self) -> str:
        """Return all runs with plans, trainer, fold, state and command line, and the preprocessing that is due."""
        lines = [self._title()]
        for run, state in zip(self.runs, self.states(), strict=True):
            lines += ["", f"{run.row.label}: {report.describe(run, state)}",
                      f"    plans {run.plans}, trainer {run.row.trainer}, fold {run.row.fold}",
                      f"    {shlex.join(run.command())}"]
        due = due_preprocessing(self.preprocessed, self.plans, self.configuration).values()
        return "\n".join([*lines, *(["", "Before the first training:"] if due else []), *map(shlex.join, due)])

    def prepare(self, retry: bool) -> list[Run]:
        """Write plans, preprocess, split; returns the runs that are to be trained.

        Args:
            retry: take failed runs, too.

        Raises:
            InputError: preprocessing failed.
        """
        wanted = [State.NOT_STARTED, State.INTERRUPTED, *([State.FAILED] if retry else [])]
        todo = [run for run, state in zip(self.runs, self.states(), strict=True) if state in wanted]
        plans = {run.plans: self.plans[run.plans] for run in todo}
        for name, content in plans.items():
            if not (self.preprocessed / f"{name}.json").is_file():
                write_json(content, self.preprocessed / f"{name}.json")
        for folder, command in due_preprocessing(self.preprocessed, plans, self.configuration).items():
            preprocess(folder, command)
        if todo:
            split(self.preprocessed, plans[todo[0].plans], self.configuration)
        return todo

    def collect(self) -> str:
        """Write the table beside the paper's values, as Markdown and CSV; returns the Markdown."""
        table = report.cells_of(self.runs, self.states(), self.dataset_json["labels"])
        text = report.as_markdown(self._title(), table, self.runs)
        write_text(text, self.folder / f"{self._file_name()}.md")
        write_text(report.as_csv(table), self.folder / f"{self._file_name()}.csv")
        return f"{text}\n{self.folder / self._file_name()}.md, .csv"

    def say_what_failed(self, may_be_unfinished: bool) -> bool:
        """Print each failed run with its log; returns whether there was none, and none that should have finished."""
        states = self.states()
        for run, state in zip(self.runs, states, strict=True):
            if state is State.FAILED:
                print(f"{run.row.label} {report.describe(run, state)}")
        if State.FAILED in states:
            print("Failed runs are trained again with --retry.")
        return State.FAILED not in states and (may_be_unfinished or set(states) == {State.FINISHED})

    def _check_number_of_cases(self) -> None:
        if (self.preprocessed / "splits_final.json").is_file():
            return
        n_cases = self.dataset_json.get("numTraining")
        if not isinstance(n_cases, int):
            raise InputError(f"Expected numTraining, the number of cases, in {self.preprocessed / 'dataset.json'}, got "
                             f"{n_cases}; write it there, and into the one in nnUNet_raw.")
        if n_cases < N_FOLDS:
            raise InputError(f"Expected at least {N_FOLDS} training cases for nnU-Net's split, {self.dataset} has "
                             f"{n_cases}; add cases, or write a splits_final.json yourself.")

    def _check_own_plans(self, trainers: Sequence[type[nnUNetTrainer]]) -> None:
        """Raise InputError if one of the trainers would build a GSP network, and the plans make none."""
        configuration = effective_configurations(self.plans[self.plans_name])[self.configuration]
        architecture = configuration["architecture"]
        if not is_gsp(architecture) and not any(issubclass(trainer, nnUNetTrainerGSP) for trainer in trainers):
            return
        try:
            buildable_architecture(architecture, configuration["patch_size"])
        except (ValueError, NotImplementedError) as error:
            raise InputError(f"{self.plans_name}, {self.configuration}: {error}") from error

    def _n_channels(self) -> int:
        return len(self.dataset_json.get("channel_names", self.dataset_json.get("modality", ())))

    def _plans_of(self, row: Row) -> str:
        if row.template is None:
            return self.plans_name
        parts = ["nnUNetGSPPlans", row.setting, *self._unusual([self.plans_name, self.configuration])]
        return "_".join([*parts, *self._overrides_by_name()])

    def _unusual(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if name not in (_CONFIGURATION, _PLANS)]

    def _overrides_by_name(self) -> list[str]:
        """Return a short hash of the settings given with --set, as they may be long; the plans spell them out."""
        if not self.overrides:
            return []
        return ["set-" + hashlib.sha256(json.dumps(self.overrides, sort_keys=True).encode()).hexdigest()[:8]]

    def _file_name(self) -> str:
        return "__".join([self.table, *self._unusual([self.plans_name, self.configuration]), *(self.trainers or []),
                          *self._overrides_by_name()])

    def _title(self) -> str:
        settings = "".join(f", {key}={json.dumps(value)}" for key, value in self.overrides.items())
        trainers = " and ".join(dict.fromkeys(run.row.trainer for run in self.runs))
        return (f"{self.table} on {self.dataset}, {self.configuration}, {trainers}{settings}. Dice of nnU-Net's "
                f"validation in percent, mDice the mean over the foreground classes.")

    def _content(self, run: Run) -> dict[str, Any]:
        if run.row.template is not None:
            _, content = derive_gsp_plans(self.dataset, self.plans_name, run.plans, run.row.template,
                                          {**run.row.overrides, **self.overrides}, [self.configuration])
            return content
        content = load_plans(self.preprocessed, self.plans_name)
        if self.configuration not in content["configurations"]:
            raise InputError(f"Expected plans with {self.configuration}, {self.plans_name} has none; name others with "
                             f"-p and -c.")
        return content

    def _trained(self, plans: dict[str, Any]) -> dict[str, Any]:
        """Return what a training depends on: plans may hold more configurations, and say how they were made."""
        configuration = effective_configurations(plans).get(self.configuration, {})
        about_all = {key: value for key, value in plans.items() if key not in ("gsp_template", "configurations")}
        return json.loads(json.dumps({**about_all, "configuration": {**configuration, "next_stage": None}}))


def _trainer(trainer: str) -> type[nnUNetTrainer]:
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # nnU-Net says where it searches
            return recursive_find_trainer_class_by_name(trainer)
    except (RuntimeError, TypeError, AssertionError) as error:  # not there, no class, no trainer
        raise InputError(f"Expected a trainer that nnU-Net finds, got {trainer}; choose another with -tr.") from error
