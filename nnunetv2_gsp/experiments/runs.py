"""Describes a training of nnU-Net and its state, as the files tell it."""

import json
import pickle
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import Enum
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Any

from nnunetv2_gsp.errors import ConflictingInputError
from nnunetv2_gsp.experiments import cpu_training
from nnunetv2_gsp.experiments.tables import TableRow
from nnunetv2_gsp.files import write_json
from nnunetv2_gsp.messages import show_messages
from nnunetv2_gsp.nnunet import run_command

STOPPED_FROM_OUTSIDE = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


class RunState(str, Enum):
    """State of a run."""

    FINISHED = "finished"
    RUNNING = "running"
    QUEUED = "queued"
    FAILED = "failed"
    INTERRUPTED = "interrupted"  # continues from its last checkpoint
    NOT_STARTED = "not started"


@dataclass(frozen=True)
class SubmittedJob:
    """The job that a run was last sent as.

    Attributes:
        executor: name of the executor, "local" or "slurm".
        id: submitit's id of the job; in Slurm it is Slurm's own (ARRAY_TASK for a job of an array).
        log: path of the file with the output of the training.
        outcome: path of submitit's result file, which exists once the job has ended without being killed.
    """

    executor: str
    id: str
    log: str
    outcome: str

    @property
    def failed(self) -> bool:
        """True if the job ended with an error of its own."""
        outcome = Path(self.outcome)
        return outcome.is_file() and pickle.loads(outcome.read_bytes())[0] == "error"


@dataclass(frozen=True)
class TrainingRun:
    """One training: a row of a table on a dataset.

    Attributes:
        row: the trainer, settings and fold that are trained.
        dataset: full name of the dataset, such as Dataset137_BraTS.
        configuration: name of the configuration of the plans.
        plans: name of the plans that are trained.
        device: device that nnU-Net trains on, one of `nnunet.DEVICES`.
        results: the dataset's folder below nnUNet_results.

    Examples:
        >>> row = TableRow("CSC", "promise12_prosgv3")
        >>> TrainingRun(row, "Dataset120_PROMISE12", "3d_fullres", "nnUNetGSPPlans", "cuda", Path("results")).name
        'nnUNetTrainerGSPPaper__nnUNetGSPPlans__3d_fullres__fold_0'
    """

    row: TableRow
    dataset: str
    configuration: str
    plans: str
    device: str
    results: Path

    @property
    def name(self) -> str:
        """Name that no other run on the dataset has; tables with the same run share it."""
        return f"{self.row.trainer}__{self.plans}__{self.configuration}__fold_{self.row.fold}"

    @property
    def experiments(self) -> Path:
        """The folder in which jobs, logs and tables lie."""
        return self.results / "experiments"

    @property
    def fold_folder(self) -> Path:
        """Folder that nnU-Net's training writes to."""
        return self.results / f"{self.row.trainer}__{self.plans}__{self.configuration}" / f"fold_{self.row.fold}"

    @property
    def summary(self) -> Path:
        """File that nnU-Net's training writes last."""
        return self.fold_folder / "validation" / "summary.json"

    @property
    def finished(self) -> bool:
        """True if nnU-Net has written the summary completely; a part, left by a kill or full disk, is written anew."""
        return bool(self._dice())

    @property
    def lock(self) -> Path:
        """File that is locked by the job while it trains."""
        return self._job_file.with_suffix(".lock")

    @property
    def _job_file(self) -> Path:
        return self.experiments / "jobs" / f"{self.name}.json"

    def command(self) -> list[str]:
        """Return the command line of the training, with --c if there is a checkpoint to continue from.

        Examples:
            >>> row = TableRow("stock, fold 1", fold=1, trainer="nnUNetTrainer")
            >>> run = TrainingRun(row, "Dataset120_PROMISE12", "3d_fullres", "nnUNetPlans", "cuda", Path("results"))
            >>> print(*run.command())
            nnUNetv2_train Dataset120_PROMISE12 3d_fullres 1 -p nnUNetPlans -tr nnUNetTrainer -device cuda
        """
        started = any(self.fold_folder.glob("checkpoint_*.pth")) and not self.finished
        # trainings share the cores, of which nnU-Net's command would take all
        on_the_cpu = self.device == "cpu"
        return [
            *([sys.executable, "-m", cpu_training.__name__] if on_the_cpu else ["nnUNetv2_train"]),
            self.dataset,
            self.configuration,
            str(self.row.fold),
            "-p",
            self.plans,
            "-tr",
            self.row.trainer,
            *([] if on_the_cpu else ["-device", self.device]),
            *(["--c"] if started else []),
        ]

    def remember(self, job: SubmittedJob) -> None:
        """Record the job that the run was sent as."""
        self._job_file.parent.mkdir(parents=True, exist_ok=True)
        write_json(asdict(job), self._job_file)

    def job(self) -> SubmittedJob | None:
        """Return the job that the run was last sent as, or None if there was none."""
        return SubmittedJob(**json.loads(self._job_file.read_text())) if self._job_file.is_file() else None

    def state(self, in_slurm: Mapping[str, RunState]) -> RunState:
        """Return the state of the run.

        Args:
            in_slurm: job id -> state, for each job that Slurm still has.
        """
        if self.finished:
            return RunState.FINISHED
        job = self.job()
        if job is not None and job.executor == "slurm" and job.id in in_slurm:
            return in_slurm[job.id]
        if is_locked(self.lock):
            return RunState.RUNNING
        if job is None:
            return RunState.NOT_STARTED
        return RunState.FAILED if job.failed else RunState.INTERRUPTED

    def dice_percent(self, labels: Mapping[str, Any]) -> dict[str, float]:
        """Return the Dice of a finished run in percent: the mean as "mDice", then every foreground class or region.

        Args:
            labels: name -> value of each label or region, as in dataset.json.

        Raises:
            ConflictingInputError: the run was trained with other labels.
        """
        found = self._dice()
        dice = {name: 100 * found[_key(label)] for name, label in labels.items() if _key(label) in found}
        if not dice:
            raise ConflictingInputError(
                f"the Dice of {', '.join(labels)}",
                f"that of the labels {', '.join(found)}",
                where=self.summary,
                remedy="use the dataset.json that was trained with",
            )
        return {"mDice": sum(dice.values()) / len(dice), **dice}

    def _dice(self) -> dict[str, float]:
        """Return label or region -> Dice of nnU-Net's summary; empty if the file is missing or incomplete."""
        try:
            means = json.loads(self.summary.read_text())["mean"]
            return {label: float(values["Dice"]) for label, values in means.items()}
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return {}


@dataclass(frozen=True)
class TrainingJob:
    """Trains a run in a process of its own, with the package's messages in its log; submitit pickles it.

    Attributes:
        run: run that the job trains.
        environment: environment variables for nnU-Net's command besides those of the job.
    """

    run: TrainingRun
    environment: Mapping[str, str]

    def __call__(self) -> None:
        """Train the run, or continue its training, unless it has finished.

        Raises:
            RuntimeError: the training failed.
            SystemExit: the command was stopped from outside.
        """
        with show_messages(), locked(self.run.lock) as lock:
            if not self.run.finished:
                self._train(lock)

    def checkpoint(self) -> Any:
        """Return the job that submitit requeues when Slurm's time is up: the same, which continues from the files."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _train(self, lock: int) -> None:
        """Run the command, which inherits the lock, as it may outlive this process when a terminal closes."""
        command = self.run.command()
        code = run_command(command, self.environment, pass_fds=[lock])
        if -code in STOPPED_FROM_OUTSIDE:
            time.sleep(5)  # for submitit's handler: it gets the same signal from Slurm, and requeues
            raise SystemExit("the training was stopped from outside")
        if code != 0:
            raise RuntimeError(f"the training stopped with exit code {code}")


@contextmanager
def locked(file: Path, wait: bool = True) -> Iterator[int]:
    """Hold a lock that ends with this process, and with those that inherit its file descriptor.

    Args:
        file: file to lock; created where it is missing.
        wait: True waits while another process holds the lock, False raises.

    Yields:
        The file descriptor that holds the lock.

    Raises:
        ConflictingInputError: another process holds the lock, and `wait` is False.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder, locked(Path(folder, "lock")):
        ...     is_locked(Path(folder, "lock"))
        True
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as opened:
        try:
            flock(opened, LOCK_EX if wait else LOCK_EX | LOCK_NB)
        except BlockingIOError as error:
            raise ConflictingInputError(
                "one call at a time", "another one at work", where=file, remedy="wait for it", parameters=["dry_run"]
            ) from error
        except OSError:  # some clusters' file systems have no locks; Slurm knows its jobs without them
            pass
        yield opened.fileno()


def is_locked(file: Path) -> bool:
    """Tell whether a process holds the lock, without writing anything."""
    try:
        with file.open("r+") as opened:
            flock(opened, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _key(label: Any) -> str:
    """Return a label or region as nnU-Net's summary.json spells it."""
    return str(tuple(label)) if isinstance(label, list) else str(label)
