"""Runs the trials of a search with Optuna, whatever trains them; all that it has to remember lies in a file."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from packaging.version import Version

from nnunetv2_gsp.errors import RefusedSettingsError, UnavailableError
from nnunetv2_gsp.search.halving import Point, goes_on
from nnunetv2_gsp.search.space import Choice, Space

if TYPE_CHECKING:
    import optuna

_log = logging.getLogger(__name__)

_STUDY = "search"
_OLDEST_OPTUNA = "5.0"  # which has constraints that a trial sets itself
_MOST_ATTEMPTS = 200  # to find a network that is new and within the budget
_SEEDS_APART = 100_000  # more than any search has trials


@dataclass(frozen=True)
class Network:
    """A network that can be trained, and its cost.

    Attributes:
        name: name that no other network of the search has.
        settings: settings of a template, name -> value.
        parameters: number of learnt parameters.
        macs: number of multiply-accumulates in a forward pass of one patch.
        milliseconds: time of a forward pass of one patch; None if it is not measured.
    """

    name: str
    settings: Mapping[str, Any]
    parameters: int
    macs: int
    milliseconds: float | None = None

    @property
    def cost(self) -> float:
        """Cost that counts: milliseconds where they are measured, else multiply-accumulates in 10⁹.

        Examples:
            >>> Network("pointwise", {}, parameters=1000, macs=2_500_000_000).cost
            2.5
        """
        return self.macs / 1e9 if self.milliseconds is None else self.milliseconds


class Task(Protocol):
    """What the networks are trained for, and how."""

    @property
    def n_rungs(self) -> int:
        """Number of rungs, from 1 on: trainings of a trial, each longer than the one before."""

    def network(self, settings: Mapping[str, Any]) -> Network:
        """Return the network of a template's settings with its cost, without training it.

        Raises:
            RefusedSettingsError: the settings make no network.
        """

    def train(self, networks: Sequence[Network], rung: int) -> list[float | None]:
        """Train networks for as long as a rung says, unless they are trained, and return the Dice of each.

        Returns:
            For each network its mean Dice, from 0 to 1, or None if its training failed.
        """


class TrialOutcome(str, Enum):
    """What became of a trial."""

    RUNNING = "running"
    FINISHED = "finished"
    PRUNED = "pruned"
    FAILED = "failed"
    OVER_BUDGET = "over budget"
    REFUSED = "makes no network"
    REPEATED = "repeated"


_OF_TRAINED = (TrialOutcome.RUNNING, TrialOutcome.FINISHED, TrialOutcome.PRUNED, TrialOutcome.FAILED)


@dataclass(frozen=True)
class TrialRecord:
    """A trial as it is remembered.

    Attributes:
        number: number of the trial, from 0 on.
        name: name of a first trial, such as default; empty for those that Optuna has chosen.
        choice: value of each parameter of the space; some may be missing if the search was killed meanwhile.
        network: network that was chosen; None if there is none, or it is not known yet.
        dice: mean Dice at the end of each rung that the trial has come to, from 0 to 1.
        outcome: what became of the trial.
    """

    number: int
    name: str
    choice: Choice
    network: Network | None
    dice: tuple[float, ...]
    outcome: TrialOutcome

    def __str__(self) -> str:
        """Return number and name, such as 0 (default)."""
        return f"{self.number} ({self.name})" if self.name else str(self.number)

    @property
    def is_trained(self) -> bool:
        """True if the trial counts: its network is new, within the budget and trained, or about to be."""
        return self.outcome in _OF_TRAINED and self.network is not None

    def point(self, rung: int) -> Point | None:
        """Return the Dice at the end of a rung, and the cost; None if the trial has not come to it."""
        if self.network is None or len(self.dice) <= rung:
            return None
        return Point(self.dice[rung], self.network.cost)


@dataclass(frozen=True)
class Search:
    """A search, which goes on where its file says.

    Attributes:
        space: networks that can be chosen.
        task: what the networks are trained for.
        journal: file that remembers the trials.
        budget: largest cost of a network, in the unit of `Network.cost`; None has no limit.
        at_a_time: number of trials whose trainings are started together, from 1 on.
        kept: fraction of the trials that goes on to the next rung, above 0, up to 1.
        seed: number that settles what Optuna chooses, given the results so far; any whole number.
    """

    space: Space
    task: Task
    journal: Path
    budget: float | None = None
    at_a_time: int = 1
    kept: float = 0.5
    seed: int = 0
    _failed: set[int] = field(default_factory=set, init=False, repr=False)  # by this call

    def run(self, n_trials: int, after_each: Callable[[], object] = lambda: None) -> None:
        """Train until so many trials have been trained, at least to the end of the first rung.

        Trials over the budget, without a network or with a network that has been tried do not count. The first trial is
        never pruned, as others are compared to it. A failed training is tried again by the next call alone; if none
        has ever finished, the search ends.

        Args:
            n_trials: number of trials, those of earlier calls included; from 1 on.
            after_each: function without arguments that is called after the trainings of each rung.
        """
        self.journal.parent.mkdir(parents=True, exist_ok=True)
        drop_half_a_line(self.journal)
        self._enqueue_first()
        while batch := self._next_trials(n_trials):
            self._train(batch, after_each)
            if self._failed and not any(record.dice for record in self.records()):
                break

    def records(self) -> list[TrialRecord]:
        """Return all trials that have begun, by their number."""
        from optuna.trial import TrialState

        begun = self._study.get_trials(deepcopy=False)
        return [_record(trial) for trial in begun if trial.state is not TrialState.WAITING]

    @cached_property
    def _study(self) -> "optuna.Study":
        return open_study(self.journal)

    def _enqueue_first(self) -> None:
        there = {trial.user_attrs.get("name") for trial in self._study.get_trials(deepcopy=False)}
        for name, choice in self.space.first().items():
            if name not in there:
                self._study.enqueue_trial(choice, user_attrs={"name": name})

    def _next_trials(self, n_trials: int) -> "dict[int, optuna.Trial]":
        """Return the trials to train next, by number: those of a search that was killed, else new ones."""
        begun = [record.number for record in self.records() if record.outcome is TrialOutcome.RUNNING]
        failed = [record.number for record in self.records() if record.outcome is TrialOutcome.FAILED]
        again = [*begun, *(number for number in failed if number not in self._failed)]
        batch = {number: trial for number in again if self._is_to_train(trial := self._taken_up(number))}
        attempts = 0
        while len(batch) < self.at_a_time and sum(record.is_trained for record in self.records()) < n_trials:
            trial = self._asked()
            if self._is_to_train(trial):
                batch[trial.number] = trial
                attempts = 0
            elif (attempts := attempts + 1) == _MOST_ATTEMPTS:
                _log.info("The search ends: %d choices in a row gave no new network within the budget.", attempts)
                break
        return batch

    def _asked(self) -> "optuna.Trial":
        # a sampler of its own for each trial, so that a search that was killed chooses as one that was not
        self._study.sampler = _sampler(self.seed, len(self._study.get_trials(deepcopy=False)))
        return self._study.ask()

    def _taken_up(self, number: int) -> "optuna.Trial":
        """Return a trial that an earlier process has begun."""
        from optuna.trial import Trial

        self._study.sampler = _sampler(self.seed, number)
        storage = _storage(self.journal)
        study_id = storage.get_study_id_from_name(_STUDY)
        return Trial(self._study, storage.get_trial_id_from_study_id_trial_number(study_id, number))

    def _is_to_train(self, trial: "optuna.Trial") -> bool:
        """Find out the network of a trial; tell Optuna at once if it is not to be trained."""
        settings = self.space.settings(self.space.suggested_by(trial))
        try:
            network = self.task.network(settings)
        except RefusedSettingsError:
            self._refuse(trial, TrialOutcome.REFUSED, 1.0)
            return False
        measured = trial.user_attrs.get("network", {}).get("milliseconds")
        if measured is not None:  # once for all, as times vary
            network = replace(network, milliseconds=measured)
        trial.set_user_attr("network", asdict(network))
        if self.budget is not None and network.cost > self.budget:
            self._refuse(trial, TrialOutcome.OVER_BUDGET, network.cost / self.budget - 1)
            return False
        if self._is_repeated(trial.number, network.name):
            self._tell(trial, TrialOutcome.REPEATED)
            return False
        return True

    def _is_repeated(self, number: int, name: str) -> bool:
        return any(
            record.is_trained and record.number != number and record.network is not None and record.network.name == name
            for record in self.records()
        )

    def _refuse(self, trial: "optuna.Trial", outcome: TrialOutcome, violation: float) -> None:
        if not trial.constraints:  # else it was killed between the two
            trial.set_constraint("budget", violation)
        self._tell(trial, outcome)

    def _train(self, batch: "dict[int, optuna.Trial]", after_each: Callable[[], object]) -> None:
        """Train trials rung after rung, and tell Optuna how each of them ended."""
        last = self.task.n_rungs - 1
        for rung in range(self.task.n_rungs):
            batch = self._trained(batch, rung)
            going_on = batch if rung == last else {n: each for n, each in batch.items() if self._goes_on(n, rung)}
            for number, trial in batch.items():
                if rung == last:
                    self._tell(trial, TrialOutcome.FINISHED)
                elif number not in going_on:
                    self._tell(trial, TrialOutcome.PRUNED)
            after_each()
            batch = going_on

    def _trained(self, batch: "dict[int, optuna.Trial]", rung: int) -> "dict[int, optuna.Trial]":
        """Train trials for one rung; return those whose trainings finished, with their Dice remembered."""
        if not batch:
            return {}
        found = self.task.train([_network(trial.user_attrs) for trial in batch.values()], rung)
        finished = {}
        for (number, trial), dice in zip(batch.items(), found, strict=True):
            if dice is None:
                self._failed.add(number)
                trial.set_user_attr(
                    "outcome", TrialOutcome.FAILED.value
                )  # Optuna is told nothing: the next call tries again
                continue
            trial.set_user_attr("dice", [*trial.user_attrs.get("dice", [])[:rung], dice])
            finished[number] = trial
        return finished

    def _goes_on(self, number: int, rung: int) -> bool:
        points = {
            record.number: point
            for record in self.records()
            if record.is_trained and (point := record.point(rung)) is not None
        }
        trial = points.pop(number)
        return number == 0 or goes_on(trial, points.values(), self.kept)

    def _tell(self, trial: "optuna.Trial", outcome: TrialOutcome) -> None:
        from optuna.trial import TrialState

        trial.set_user_attr("outcome", outcome.value)
        if outcome is TrialOutcome.FINISHED:
            self._study.tell(trial, [trial.user_attrs["dice"][-1], _network(trial.user_attrs).cost])
        else:  # a repeated one, too, or it would be chosen time and again
            self._study.tell(trial, state=TrialState.PRUNED)


def check_optuna() -> None:
    """Check that Optuna can be used here.

    Raises:
        UnavailableError: it is not installed, or too old.
    """
    found = version("optuna") if find_spec("optuna") is not None else "none"
    if found == "none" or Version(found) < Version(_OLDEST_OPTUNA):
        raise UnavailableError(
            f"Optuna {_OLDEST_OPTUNA} or newer to be installed",
            found,
            remedy="run: pip install 'nnunetv2_gsp[search]'",
        )


def open_study(journal: Path) -> "optuna.Study":
    """Return Optuna's study of a journal, which is made where it is missing: Dice is maximised, cost minimised.

    Args:
        journal: file that remembers the trials.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = _storage(journal)
    if any(study.study_name == _STUDY for study in storage.get_all_studies()):
        return optuna.load_study(study_name=_STUDY, storage=storage, sampler=_sampler())
    return optuna.create_study(
        storage=storage, study_name=_STUDY, sampler=_sampler(), directions=["maximize", "minimize"]
    )


def drop_half_a_line(journal: Path) -> None:
    r"""Cut off what a process that was killed, or a full disk, left unfinished at the end of a journal.

    Optuna ignores it as long as it is the end, but would write behind it.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     journal = Path(folder, "journal")
        ...     _ = journal.write_bytes(b'{"op_code":0}\n{"op_co')
        ...     drop_half_a_line(journal)
        ...     journal.read_bytes()
        b'{"op_code":0}\n'
    """
    content = journal.read_bytes() if journal.is_file() else b""
    if content and not content.endswith(b"\n"):
        journal.write_bytes(content[: content.rfind(b"\n") + 1])


def _storage(journal: Path) -> "optuna.storages.JournalStorage":
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(journal)))


def _sampler(seed: int = 0, number: int = 0) -> "optuna.samplers.TPESampler":
    from optuna.samplers import TPESampler

    # the ratios depend on each other, so parameters are drawn together; the sampler takes seeds of 32 bits
    return TPESampler(seed=(seed * _SEEDS_APART + number) % 2**32, multivariate=True)


def _record(trial: "optuna.trial.FrozenTrial") -> TrialRecord:
    remembered = trial.user_attrs
    return TrialRecord(
        trial.number,
        remembered.get("name", ""),
        trial.params,
        _network(remembered) if "network" in remembered else None,
        tuple(remembered.get("dice", ())),
        TrialOutcome(remembered.get("outcome", TrialOutcome.RUNNING)),
    )


def _network(remembered: Mapping[str, Any]) -> Network:
    return Network(**remembered["network"])
