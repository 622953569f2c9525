"""Trains the networks of a search with nnU-Net, each in plans of its own, fold after fold."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

from nnunetv2_gsp.architectures.from_plans import read_stages
from nnunetv2_gsp.counting import channels_of, count_architecture, time_architecture
from nnunetv2_gsp.errors import MissingInputError, RefusedSettingsError
from nnunetv2_gsp.experiments.executors import (
    slurm_states,
    submit_to_slurm,
    train_locally,
    wait_for_slurm,
)
from nnunetv2_gsp.experiments.preparation import check_plans_of_these_names, prepare
from nnunetv2_gsp.experiments.runs import RunState, TrainingRun
from nnunetv2_gsp.experiments.tables import TableRow
from nnunetv2_gsp.plans import Configuration, effective_configurations, gsp_plans, load_dataset_json, load_plans
from nnunetv2_gsp.plans_templates import Template
from nnunetv2_gsp.search.space import Space
from nnunetv2_gsp.search.study import Network
from nnunetv2_gsp.slurm import SlurmResources

Train = Callable[[Sequence[TrainingRun], str], None]  # runs that are not finished, and a title for the progress bar


@dataclass(frozen=True)
class Trainings:
    """The trainings of a search on a dataset: rungs are trainers, and folds are instances.

    Attributes:
        preprocessed: the dataset's folder below nnUNet_preprocessed.
        results: the dataset's folder below nnUNet_results.
        configuration: name of the configuration of the plans.
        plans_name: name of the dataset's own plans, from which those of each network are derived.
        trainers: name of the trainer of each rung, from the shortest training to the longest.
        folds: numbers of the folds that are trained at each rung, whose mean Dice counts.
        device: device that nnU-Net trains on, one of `nnunet.DEVICES`.
        train_runs: function that trains runs, and returns when none of them is being trained any more.
        takes_time: True measures the milliseconds of each network on the CPU.
    """

    preprocessed: Path
    results: Path
    configuration: str
    plans_name: str
    trainers: Sequence[str]
    folds: Sequence[int]
    device: str
    train_runs: Train
    takes_time: bool = False
    _derived: dict[str, dict[str, Any]] = field(default_factory=dict, init=False, repr=False)  # plans by their name
    _counts: dict[str, tuple[int, int]] = field(default_factory=dict, init=False, repr=False)

    @property
    def n_rungs(self) -> int:
        """Number of rungs: one for each trainer."""
        return len(self.trainers)

    @cached_property
    def plans(self) -> dict[str, Any]:
        """Content of the dataset's own plans."""
        return load_plans(self.preprocessed, self.plans_name)

    @cached_property
    def dataset_json(self) -> dict[str, Any]:
        """Content of the dataset.json."""
        return load_dataset_json(self.preprocessed)

    @cached_property
    def planned(self) -> Configuration:
        """The configuration of the dataset's own plans.

        Raises:
            MissingInputError: the plans do not have it.
        """
        effective = effective_configurations(self.plans)
        if self.configuration not in effective:
            raise MissingInputError(
                f"a configuration of {self.plans_name} ({', '.join(effective)})",
                self.configuration,
                parameters=["configuration"],
            )
        return effective[self.configuration]

    def space(self) -> Space:
        """Return the space of networks that can be made of the planned one.

        Raises:
            RefusedSettingsError: the planned network is none that has a GSP counterpart.
        """
        try:
            return Space(read_stages(self.planned["architecture"], self.planned["patch_size"]))
        except (ValueError, NotImplementedError) as error:
            raise RefusedSettingsError(str(error), f"Configuration {self.configuration}", ["plans_name"]) from error

    def network(self, settings: Mapping[str, Any]) -> Network:
        """Return the network of a template's settings with its cost; equal networks have one name.

        Args:
            settings: name in `plans_templates.schema` -> value.

        Raises:
            RefusedSettingsError: the settings make no network.
        """
        plans = gsp_plans(self.plans, "search", Template("search", "", "", settings), [self.configuration])
        configuration = plans["configurations"][self.configuration]
        trained = {name: entry for name, entry in plans.items() if name != "gsp_template"}
        content = json.dumps(trained, sort_keys=True)
        name = f"nnUNetGSPPlans_search-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
        self._derived[name] = {**plans, "plans_name": name}
        architecture, patch_size = configuration["architecture"], configuration["patch_size"]
        parameters, macs = self._counted(_without_shifts(architecture), patch_size)
        milliseconds = None
        if self.takes_time:
            milliseconds = time_architecture(architecture, patch_size, *self._channels).median_ms
        return Network(name, settings, parameters, macs, milliseconds)

    def train(self, networks: Sequence[Network], rung: int) -> list[float | None]:
        """Train networks with a rung's trainer in all folds; runs that have finished are not trained again.

        Args:
            networks: networks that `network` has returned, at least one.
            rung: number of the rung, from 0 on.

        Returns:
            For each network the mean Dice over folds and foreground classes, or None if a fold has failed.

        Raises:
            ConflictingInputError: plans of a network's name have other settings.
            InputError: preprocessing failed, or Slurm refused the jobs.
        """
        todo = [run for network in networks for run in self.runs(network.name, rung) if not run.finished]
        if todo:
            plans = {run.plans: self._derived[run.plans] for run in todo}
            check_plans_of_these_names(self.preprocessed, plans, self.configuration)
            prepare(self.preprocessed, plans, self.configuration)
            self.train_runs(todo, self.trainers[rung])
        return [self._dice(self.runs(network.name, rung)) for network in networks]

    def runs(self, plans_name: str, rung: int) -> list[TrainingRun]:
        """Return the runs of a network at a rung, one for each fold.

        Args:
            plans_name: name of the network's plans.
            rung: number of the rung, from 0 on.
        """
        rows = [TableRow(f"{plans_name}, fold {fold}", fold=fold, trainer=self.trainers[rung]) for fold in self.folds]
        return [
            TrainingRun(row, self.preprocessed.name, self.configuration, plans_name, self.device, self.results)
            for row in rows
        ]

    @cached_property
    def _channels(self) -> tuple[int, int]:
        return channels_of(self.plans, self.configuration, self.dataset_json)

    def _counted(self, architecture: dict[str, Any], patch_size: Sequence[int]) -> tuple[int, int]:
        """Return parameters and MACs; each network that only shifts otherwise is counted once."""
        key = json.dumps([architecture, patch_size], sort_keys=True)
        if key not in self._counts:
            self._counts[key] = count_architecture(architecture, patch_size, *self._channels)
        return self._counts[key]

    def _dice(self, runs: Sequence[TrainingRun]) -> float | None:
        if not all(run.finished for run in runs):
            return None
        folds = [run.dice_percent(self.dataset_json["labels"]) for run in runs]
        # a class that neither a fold's references nor its predictions have leaves no number there
        classes = [
            [value for name, value in dice.items() if name != "mDice" and math.isfinite(value)] for dice in folds
        ]
        return mean(mean(values) if values else 0.0 for values in classes) / 100


def local_training(at_a_time: int) -> Train:
    """Return a function that trains runs on this machine.

    Args:
        at_a_time: number of trainings that run at once, from 1 on.
    """
    return lambda runs, title: train_locally(runs, at_a_time, title=title)


def slurm_training(at_a_time: int | None, resources: SlurmResources) -> Train:
    """Return a function that submits runs to Slurm, those apart that it has already, and waits for all of them.

    Args:
        at_a_time: largest number of jobs that run at once, from 1 on; None: as many as submitit allows, 256.
        resources: resources of each job.
    """

    def train(runs: Sequence[TrainingRun], title: str) -> None:
        in_slurm = slurm_states(runs)
        new = [run for run in runs if run.state(in_slurm) not in (RunState.QUEUED, RunState.RUNNING)]
        if new:
            submit_to_slurm(new, at_a_time, resources)
        wait_for_slurm(runs, title)

    return train


def _without_shifts(architecture: dict[str, Any]) -> dict[str, Any]:
    """Return the same GSP network without shifts, which neither learn nor multiply, but take long to trace."""
    kwargs = architecture["arch_kwargs"]
    still = {
        "spatial_groups": [[1] * len(groups) for groups in kwargs["spatial_groups"]],
        "shift_channels": [0] * kwargs["n_stages"],
        "local_shift_channels": [0] * kwargs["n_stages"],
        "shift_position": "none",
        "shift_location": "both",
    }
    return {**architecture, "arch_kwargs": {**kwargs, **still}}
