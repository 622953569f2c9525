"""Runs a table's experiments: writes the plans, trains the missing runs, and collects the results."""

import hashlib
import json
import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunetv2_gsp.architectures.from_plans import buildable_architecture, is_gsp
from nnunetv2_gsp.errors import ConflictingInputError, InputError, MissingInputError
from nnunetv2_gsp.experiments import report
from nnunetv2_gsp.experiments.executors import slurm_states, submit_to_slurm, train_locally
from nnunetv2_gsp.experiments.preparation import (
    check_number_of_cases,
    check_plans_of_these_names,
    due_preprocessing,
    prepare,
)
from nnunetv2_gsp.experiments.runs import RunState, TrainingRun, locked
from nnunetv2_gsp.experiments.tables import TableRow, rows_of
from nnunetv2_gsp.files import write_text
from nnunetv2_gsp.nnunet import channel_names, check_device, find_trainer, nnunet_folder
from nnunetv2_gsp.plans import (
    derive_gsp_plans,
    effective_configurations,
    load_dataset_json,
    load_plans,
    preprocessed_folder,
)
from nnunetv2_gsp.slurm import SlurmResources, check_executor, resources_for
from nnunetv2_gsp.trainers import nnUNetTrainerGSP

_log = logging.getLogger(__name__)

_CONFIGURATION, _PLANS = "3d_fullres", "nnUNetPlans"


@dataclass(frozen=True)
class Outcome:
    """Results and failures of the runs of a table.

    Attributes:
        text: table beside the paper's values as Markdown, with the path of its file; after a dry run the listing.
        failed: a line for each failed run, with the path of its log.
        is_good: True if no run has failed and, with the local executor, all have finished.
    """

    text: str
    failed: Sequence[str] = ()
    is_good: bool = True


def run_experiments(
    table: str,
    dataset: str,
    *,
    configuration: str = _CONFIGURATION,
    plans_name: str = _PLANS,
    trainers: Sequence[str] | None = None,
    folds: Sequence[int] | None = None,
    settings: Mapping[str, Any] | None = None,
    device: str = "cuda",
    executor: str = "local",
    at_a_time: int | None = None,
    slurm: SlurmResources | None = None,
    retry: bool = False,
    dry_run: bool = False,
) -> Outcome:
    """Train the runs of a table that are not trained yet, and put the results beside the paper's values.

    Each run is trained as nnUNetv2_train does it. The local executor works in the foreground until all have ended;
    Slurm gets one job array, and the same call later collects the results. Trainer, plans, configuration and fold
    identify a run, so tables that share a run train it once. Jobs, logs and tables lie in `experiments` below the
    dataset's results.

    Args:
        table: name of the table, a key of `tables.TABLES`.
        dataset: name or id of a planned dataset, as nnU-Net takes it.
        configuration: name of the plans' configuration to train, such as 3d_fullres.
        plans_name: name of the plans from which the table's are derived; cross-validation and networks train them.
        trainers: names of trainers in place of the table's own; cross-validation compares as many as are given.
        folds: numbers of folds, 0 to 4, to which the table is restricted; None takes all of its folds.
        settings: settings that replace the templates' in every run, name -> value.
        device: device that nnU-Net trains on, one of `nnunet.DEVICES`.
        executor: name of the executor, one of `EXECUTORS`.
        at_a_time: number of trainings that run at once, from 1 on; None runs one locally, and all in Slurm.
        slurm: resources of each Slurm job; None takes the defaults.
        retry: True trains failed runs again, from their last checkpoint.
        dry_run: True lists the runs with their state, and writes nothing.

    Raises:
        ConflictingInputError: the dataset or the settings do not fit the table, plans of that name have other settings,
            Slurm resources are given for another executor, or another call is at work on the dataset.
        MissingInputError: a dataset, plans, a configuration or a trainer does not exist.
        UnavailableError: the executor or the device is not available.
        InputError: there is no such table or executor, the plans make no network, or preprocessing failed.
    """
    slurm = resources_for(executor, slurm)
    experiment = Experiment(
        table, preprocessed_folder(dataset), configuration, plans_name, trainers, settings or {}, device, folds
    )
    check_executor(executor)
    if executor == "local":
        check_device(device)
    experiment.check()
    if dry_run:
        return Outcome(experiment.listing())

    with locked(experiment.folder / "lock", wait=False):
        todo = experiment.prepare(retry)
        if todo and slurm is not None:
            _log.info(
                "Submitted to Slurm: %s. The same call again collects.",
                " ".join(submit_to_slurm(todo, at_a_time, slurm)),
            )
        elif todo:
            train_locally(todo, at_a_time or 1, experiment.collect)
        text = experiment.collect()
    return experiment.outcome(text, may_be_unfinished=executor == "slurm")


@dataclass(frozen=True)
class Experiment:
    """A table of the paper on one dataset.

    Attributes:
        table: name of the table, a key of `tables.TABLES`.
        preprocessed: the dataset's folder below nnUNet_preprocessed.
        configuration: name of the configuration of the plans.
        plans_name: name of the dataset's own plans.
        trainers: names of trainers in place of the table's own; None keeps these.
        settings: settings that replace the templates' in every run, name -> value.
        device: device that nnU-Net trains on, one of `nnunet.DEVICES`.
        folds: numbers of folds to which the table is restricted; None takes all of its folds.
    """

    table: str
    preprocessed: Path
    configuration: str
    plans_name: str
    trainers: Sequence[str] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cuda"
    folds: Sequence[int] | None = None

    @property
    def dataset(self) -> str:
        """The dataset's full name."""
        return self.preprocessed.name

    @property
    def folder(self) -> Path:
        """The folder in which jobs, logs and tables lie."""
        return self.runs[0].experiments

    @cached_property
    def dataset_json(self) -> dict[str, Any]:
        """Content of the dataset.json."""
        return load_dataset_json(self.preprocessed)

    @cached_property
    def runs(self) -> list[TrainingRun]:
        """The runs of the table, one for each row.

        Where derived plans stand beside the dataset's own, a GSP trainer has no row of these: it would train another
        network than they name.
        """
        results = nnunet_folder("nnUNet_results").absolute() / self.dataset
        rows = rows_of(self.table, len(channel_names(self.dataset_json)), self.trainers, self.folds)
        if len({row.template is None for row in rows}) > 1:
            trainers = {row.trainer for row in rows}
            gsp = {trainer for trainer in trainers if issubclass(find_trainer(trainer), nnUNetTrainerGSP)}
            rows = [row for row in rows if row.template or row.trainer not in gsp]
        return [
            TrainingRun(row, self.dataset, self.configuration, self._plans_of(row), self.device, results)
            for row in rows
        ]

    @cached_property
    def plans(self) -> dict[str, dict[str, Any]]:
        """Content of all plans by their name: derived ones or, for cross-validation, the dataset's own."""
        return {run.plans: self._content(run) for run in self.runs}

    def check(self) -> None:
        """Check everything that these runs need, before anything is written.

        Raises:
            InputError: as `run_experiments`.
        """
        self._check_settings()
        check_plans_of_these_names(self.preprocessed, self.plans, self.configuration)
        check_number_of_cases(self.preprocessed, self.dataset_json)
        trainers = [find_trainer(name) for name in dict.fromkeys(run.row.trainer for run in self.runs)]
        if self._trains_own_plans:  # others were checked when they were derived
            self._check_own_plans(trainers)

    def states(self) -> list[RunState]:
        """Return the state of each run, in the order of `runs`."""
        in_slurm = slurm_states(self.runs)
        return [run.state(in_slurm) for run in self.runs]

    def listing(self) -> str:
        """List each run with plans, trainer, fold, state and command line, and the preprocessing that is due."""
        lines = [self._title()]
        for run, state in zip(self.runs, self.states(), strict=True):
            lines += [
                "",
                f"{run.row.label}: {report.describe(run, state)}",
                f"    plans {run.plans}, trainer {run.row.trainer}, fold {run.row.fold}",
                f"    {shlex.join(run.command())}",
            ]
        due = due_preprocessing(self.preprocessed, self.plans, self.configuration).values()
        return "\n".join([*lines, *(["", "Before the first training:"] if due else []), *map(shlex.join, due)])

    def prepare(self, retry: bool) -> list[TrainingRun]:
        """Write the plans that are missing, preprocess and split.

        Args:
            retry: True includes failed runs.

        Returns:
            The runs that are to be trained.

        Raises:
            InputError: preprocessing failed.
        """
        wanted = [RunState.NOT_STARTED, RunState.INTERRUPTED, *([RunState.FAILED] if retry else [])]
        todo = [run for run, state in zip(self.runs, self.states(), strict=True) if state in wanted]
        if todo:
            prepare(self.preprocessed, {run.plans: self.plans[run.plans] for run in todo}, self.configuration)
        return todo

    def collect(self) -> str:
        """Write the table beside the paper's values as Markdown and CSV; return the Markdown and where it stands."""
        table = report.cells_of(self.runs, self.states(), self.dataset_json["labels"])
        text = report.as_markdown(self._title(), table, self.runs)
        write_text(text, self.folder / f"{self._file_name()}.md")
        write_text(report.as_csv(table), self.folder / f"{self._file_name()}.csv")
        return f"{text}\n{self.folder / self._file_name()}.md, .csv"

    def outcome(self, text: str, may_be_unfinished: bool) -> Outcome:
        """Return results and failures of the runs.

        Args:
            text: table as `collect` returns it.
            may_be_unfinished: True counts the outcome as good even if runs have not finished yet.
        """
        states = self.states()
        failed = [
            f"{run.row.label} {report.describe(run, state)}"
            for run, state in zip(self.runs, states, strict=True)
            if state is RunState.FAILED
        ]
        return Outcome(text, failed, not failed and (may_be_unfinished or set(states) == {RunState.FINISHED}))

    @property
    def _trains_own_plans(self) -> bool:
        return any(run.row.template is None for run in self.runs)

    def _check_settings(self) -> None:
        varied = {key for run in self.runs for key in run.row.settings}
        for key in self.settings:
            if key in varied:
                raise ConflictingInputError(
                    f"settings that are the same in all runs of {self.table}",
                    f"{key}, which the table varies",
                    parameters=["settings"],
                )
        if self.settings and self._trains_own_plans:
            raise ConflictingInputError(
                f"no settings for {self.table}, which trains plans as they are",
                ", ".join(self.settings),
                remedy="derive plans with these settings first",
                parameters=["plans_name"],
            )

    def _check_own_plans(self, trainers: Sequence[type[nnUNetTrainer]]) -> None:
        """Raise InputError if a trainer builds a GSP network that the plans can't make."""
        configuration = effective_configurations(self.plans[self.plans_name])[self.configuration]
        architecture = configuration["architecture"]
        if not is_gsp(architecture) and not any(issubclass(trainer, nnUNetTrainerGSP) for trainer in trainers):
            return
        try:
            buildable_architecture(architecture, configuration["patch_size"])
        except (ValueError, NotImplementedError) as error:
            raise InputError(
                "plans that make a GSP network",
                f"{self.configuration} of {self.plans_name}, which makes none: {str(error).removesuffix('.')}",
            ) from error

    def _plans_of(self, row: TableRow) -> str:
        if row.template is None:
            return self.plans_name
        parts = ["nnUNetGSPPlans", row.name_of_setting, *self._unusual([self.plans_name, self.configuration])]
        return "_".join([*parts, *self._settings_by_name()])

    def _unusual(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if name not in (_CONFIGURATION, _PLANS)]

    def _settings_by_name(self) -> list[str]:
        """Return a short hash of the settings, which may be long; the plans hold them in full."""
        if not self.settings:
            return []
        return ["set-" + hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:8]]

    def _file_name(self) -> str:
        return "__".join(
            [
                self.table,
                *self._unusual([self.plans_name, self.configuration]),
                *(self.trainers or []),
                *(f"fold_{fold}" for fold in self.folds or ()),
                *self._settings_by_name(),
            ]
        )

    def _title(self) -> str:
        settings = "".join(f", {key}={json.dumps(value)}" for key, value in self.settings.items())
        trainers = " and ".join(dict.fromkeys(run.row.trainer for run in self.runs))
        return (
            f"{self.table} on {self.dataset}, {self.configuration}, {trainers}{settings}. Dice of nnU-Net's "
            f"validation in percent, mDice the mean over the foreground classes."
        )

    def _content(self, run: TrainingRun) -> dict[str, Any]:
        if run.row.template is not None:
            _, content = derive_gsp_plans(
                self.dataset,
                self.plans_name,
                run.plans,
                run.row.template,
                {**run.row.settings, **self.settings},
                [self.configuration],
            )
            return content
        content = load_plans(self.preprocessed, self.plans_name)
        if self.configuration not in content["configurations"]:
            raise MissingInputError(
                f"plans with {self.configuration}",
                "none",
                where=self.preprocessed / f"{self.plans_name}.json",
                parameters=["plans_name", "configuration"],
            )
        return content
