"""One training of nnU-Net, and its state as the files tell it."""
import json
import pickle
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import Enum
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Any

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.experiments.tables import Row
from nnunetv2_gsp.files import write_json
from nnunetv2_gsp.nnunet import run_command

STOPPED_FROM_OUTSIDE = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


class State(str, Enum):
    """Where a run stands."""

    FINISHED = "finished"
    RUNNING = "running"
    QUEUED = "queued"
    FAILED = "failed"
    INTERRUPTED = "interrupted"  # goes on from its last checkpoint
    NOT_STARTED = "not started"


@dataclass(frozen=True)
class Job:
    """Where a run was last sent.

    Attributes:
        executor: "local" or "slurm".
        id: submitit's, which for Slurm is Slurm's (ARRAY_TASK for one of an array).
        log: what the training prints.
        outcome: submitit's file, there once the job has come to an end that was not forced on it.
    """

    executor: str
    id: str
    log: str
    outcome: str

    @property
    def failed(self) -> bool:
        """Whether the job ended with an error of its own."""
        outcome = Path(self.outcome)
        return outcome.is_file() and pickle.loads(outcome.read_bytes())[0] == "error"


@dataclass(frozen=True)
class Run:
    """One training: a row of a table on a dataset.

    Attributes:
        row: what is trained.
        dataset: its full name.
        configuration: of the plans.
        plans: their name.
        device: cpu, cuda or mps.
        results: the dataset's folder below nnUNet_results.
    """

    row: Row
    dataset: str
    configuration: str
    plans: str
    device: str
    results: Path

    @property
    def name(self) -> str:
        """What tells it from other runs on the dataset; tables that ask for the same run share it."""
        return f"{self.row.trainer}__{self.plans}__{self.configuration}__fold_{self.row.fold}"

    @property
    def experiments(self) -> Path:
        """The folder of jobs, logs and tables."""
        return self.results / "experiments"

    @property
    def fold_folder(self) -> Path:
        """Where nnU-Net puts the training."""
        return self.results / f"{self.row.trainer}__{self.plans}__{self.configuration}" / f"fold_{self.row.fold}"

    @property
    def summary(self) -> Path:
        """The last thing that nnU-Net's training leaves."""
        return self.fold_folder / "validation" / "summary.json"

    @property
    def finished(self) -> bool:
        """Whether nnU-Net has written the summary to its end; a kill or a full disk leaves a part, written anew."""
        return bool(self._dice())

    @property
    def lock(self) -> Path:
        """Held by the job that trains."""
        return self._job_file.with_suffix(".lock")

    @property
    def _job_file(self) -> Path:
        return self.experiments / "jobs" / f"{self.name}.json"

    def command(self) -> list[str]:
        """Return nnU-Net's command line, with --c where a checkpoint is."""
        started = any(self.fold_folder.glob("checkpoint_*.pth")) and not self.finished
        return ["nnUNetv2_train", self.dataset, self.configuration, str(self.row.fold), "-p", self.plans,
                "-tr", self.row.trainer, "-device", self.device, *(["--c"] if started else [])]

    def remember(self, job: Job) -> None:
        """Write down where the run was sent."""
        self._job_file.parent.mkdir(parents=True, exist_ok=True)
        write_json(asdict(job), self._job_file)

    def job(self) -> Job | None:
        """Return where the run was last sent, if it was."""
        return Job(**json.loads(self._job_file.read_text())) if self._job_file.is_file() else None

    def state(self, in_slurm: Mapping[str, State]) -> State:
        """Return where the run stands.

        Args:
            in_slurm: state of Slurm's jobs by id, for those that Slurm still has.
        """
        if self.finished:
            return State.FINISHED
        job = self.job()
        if job is not None and job.executor == "slurm" and job.id in in_slurm:
            return in_slurm[job.id]
        if is_locked(self.lock):
            return State.RUNNING
        if job is None:
            return State.NOT_STARTED
        return State.FAILED if job.failed else State.INTERRUPTED

    def dice_percent(self, labels: Mapping[str, Any]) -> dict[str, float]:
        """Return the Dice of a finished run in percent, "mDice" for their mean, then every foreground class or region.

        Args:
            labels: of the dataset.json.

        Raises:
            InputError: these are other labels than it was trained with.
        """
        found = self._dice()
        dice = {name: 100 * found[_key(label)] for name, label in labels.items() if _key(label) in found}
        if not dice:
            raise InputError(f"Expected in {self.summary} the Dice of {', '.join(labels)}, got that of the labels "
                             f"{', '.join(found)}; use the dataset.json that was trained with.")
        return {"mDice": sum(dice.values()) / len(dice), **dice}

    def _dice(self) -> dict[str, float]:
        """Return the Dice of each label or region in nnU-Net's summary, none where it is missing or incomplete."""
        try:
            means = json.loads(self.summary.read_text())["mean"]
            return {label: float(values["Dice"]) for label, values in means.items()}
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return {}


@dataclass(frozen=True)
class Training:
    """What a job does; submitit pickles it.

    Attributes:
        run: what to train.
        environment: variables that nnU-Net's command has besides those of the job.
    """

    run: Run
    environment: Mapping[str, str]

    def __call__(self) -> None:
        """Train, or go on training, unless that is done.

        Raises:
            RuntimeError: nnU-Net's command failed.
            SystemExit: it was stopped from outside.
        """
        with locked(self.run.lock) as lock:
            if not self.run.finished:
                self._train(lock)

    def checkpoint(self) -> Any:
        """Return what submitit requeues when Slurm's time is up: the same, which then goes on from nnU-Net's files."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _train(self, lock: int) -> None:
        """Run nnU-Net's command, which holds the lock, too: it may outlive this process when a terminal closes."""
        command = self.run.command()
        code = run_command(command, self.environment, pass_fds=[lock])
        if -code in STOPPED_FROM_OUTSIDE:
            time.sleep(5)  # for submitit's handler: it gets the same signal from Slurm, and requeues
            raise SystemExit(f"{command[0]} was stopped from outside")
        if code != 0:
            raise RuntimeError(f"{command[0]} stopped with exit code {code}")


@contextmanager
def locked(file: Path, otherwise: str | None = None) -> Iterator[int]:
    """Hold a lock that ends with this process, and those that inherit the descriptor it yields.

    Args:
        file: made where it is missing.
        otherwise: what to say if another process holds it; None waits.

    Raises:
        InputError: another process holds it.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as opened:
        try:
            flock(opened, LOCK_EX if otherwise is None else LOCK_EX | LOCK_NB)
        except BlockingIOError as error:
            raise InputError(otherwise) from error
        except OSError:  # some clusters mount file systems without locks; Slurm knows its jobs without
            pass
        yield opened.fileno()


def is_locked(file: Path) -> bool:
    """Tell whether a process holds the lock; nothing is written."""
    try:
        with file.open("r+") as opened:
            flock(opened, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _key(label: Any) -> str:
    """Spell a label or region as nnU-Net's summary.json does."""
    return str(tuple(label)) if isinstance(label, list) else str(label)
