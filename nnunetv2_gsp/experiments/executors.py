"""Where do runs run? On this machine, N at a time, or as a job array of Slurm; both through submitit."""
import os
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.experiments.runs import Job, Run, State, Training

if TYPE_CHECKING:
    import submitit

_POLL_S = 0.5
_END_S = 30  # what a training gets to end when the user interrupts
_UNLIMITED_MIN = 10 * 365 * 24 * 60  # submitit's local jobs must have a limit


@dataclass(frozen=True)
class SlurmResources:
    """What each job of the array asks for; account, memory and the like come from Slurm's own SBATCH_ variables.

    Attributes:
        partition: None takes Slurm's default.
        gpus: as sbatch's --gpus-per-node takes them, "1" or "a100:1"; None is one, if the device is cuda.
        cpus: CPU cores; None takes Slurm's default.
        time_min: limit in minutes; a training that needs more is requeued and goes on, up to three times.
    """

    partition: str | None = None
    gpus: str | None = None
    cpus: int | None = None
    time_min: int = 24 * 60


def check_executor(executor: str) -> None:
    """Raise InputError unless submitit is there, and Slurm where it is asked for."""
    if find_spec("submitit") is None:
        raise InputError("Expected submitit, which is not installed; run: pip install 'nnunetv2_gsp[experiments]'")
    if executor == "slurm" and shutil.which("sbatch") is None:
        raise InputError("Expected Slurm's sbatch on PATH for --executor slurm, found none; run on a machine that "
                         "submits to Slurm, or with --executor local.")


def train_locally(runs: Sequence[Run], at_a_time: int, after_each: Callable[[], object]) -> None:
    """Train on this machine and return when all have ended; what is running ends with an interrupt.

    Args:
        runs: in this order.
        at_a_time: this many; they take turns on the GPUs, or share the CPU's cores.
        after_each: called whenever a run has ended.
    """
    import submitit

    folder = runs[0].experiments / "logs"
    waiting, free = deque(runs), deque(range(at_a_time))
    running: list[tuple[Run, int, submitit.Job[None]]] = []
    with tqdm(total=len(runs), unit="run") as bar:
        try:
            while waiting or running:
                while waiting and free:
                    run, slot = waiting.popleft(), free.popleft()
                    running.append((run, slot, _start(run, _share(run.device, slot, at_a_time), folder / run.name)))
                    bar.set_postfix_str(", ".join(started.row.label for started, *_ in running))
                time.sleep(_POLL_S)
                for ended in [entry for entry in running if entry[2].done()]:
                    running.remove(ended)
                    free.append(ended[1])
                    bar.update()
                    after_each()
        finally:
            _end([job for *_, job in running])


def submit_to_slurm(runs: Sequence[Run], at_a_time: int | None, resources: SlurmResources) -> list[str]:
    """Submit one job array; returns the ids of its jobs, in the order of the runs.

    Raises:
        InputError: Slurm refused it.
    """
    import submitit

    executor = submitit.SlurmExecutor(runs[0].experiments / "logs")
    gpus = resources.gpus or ("1" if runs[0].device == "cuda" else None)
    wishes: dict[str, Any] = {"partition": resources.partition, "gpus_per_node": gpus,
                              "array_parallelism": at_a_time, "cpus_per_task": resources.cpus}
    if resources.cpus is not None:
        wishes["srun_args"] = [f"--cpus-per-task={resources.cpus}"]  # srun does not take it from sbatch since 22.05
    executor.update_parameters(job_name="nnUNetv2_gsp", time=resources.time_min, stderr_to_stdout=True,
                               **{name: wish for name, wish in wishes.items() if wish is not None})
    try:
        jobs = executor.submit_array([Training(run, _nnunet_variables()) for run in runs])
    except submitit.core.utils.FailedJobError as error:
        raise InputError(f"Slurm refused the jobs: {'; '.join(str(error).split(os.linesep)).strip('; ')}") from error
    for run, job in zip(runs, jobs, strict=True):
        run.remember(_job("slurm", job))
    return [job.job_id for job in jobs]


def slurm_states(runs: Iterable[Run]) -> dict[str, State]:
    """Ask Slurm for the jobs of runs that are not finished; those that it has no longer are not in the answer.

    squeue is asked, not sacct, which needs an accounting database that small clusters lack.

    Raises:
        InputError: Slurm does not answer.
    """
    jobs = [job for run in runs if not run.finished and (job := run.job()) and job.executor == "slurm"]
    if not jobs:
        return {}
    if shutil.which("squeue") is None:
        raise InputError(f"Expected Slurm's squeue on PATH to ask for job {jobs[0].id}, found none; run on a machine "
                         f"that submits to Slurm.")
    ids = ",".join(sorted({job.id.split("_")[0] for job in jobs}))
    asked = subprocess.run(["squeue", "--noheader", "--array", "--format=%i %T", f"--jobs={ids}"],
                           capture_output=True, text=True)
    if asked.returncode != 0 and "Invalid job id" not in asked.stderr:  # a single job of long ago
        raise InputError(f"Slurm does not say how its jobs are: {asked.stderr.strip()}")
    return {job: State.QUEUED if state == "PENDING" else State.RUNNING
            for job, state in map(str.split, asked.stdout.splitlines())}


def _start(run: Run, environment: dict[str, str], folder: Path) -> "submitit.Job[None]":
    import submitit

    executor = submitit.LocalExecutor(folder)
    executor.update_parameters(timeout_min=_UNLIMITED_MIN, stderr_to_stdout=True)
    job = executor.submit(Training(run, {**_nnunet_variables(), **environment}))
    run.remember(_job("local", job))
    return job


def _share(device: str, slot: int, at_a_time: int) -> dict[str, str]:
    """Return the variables that give one of several trainings its part of the machine."""
    if device == "cuda":
        gpus = _gpus()
        return {"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]}  # submitit hides them unless it is to choose
    # threads of several trainings on the same cores wait for each other, at a multiple of the time
    return {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // at_a_time)))}


def _end(jobs: Sequence["submitit.Job[None]"]) -> None:
    for job in jobs:
        job.cancel()
    deadline = time.monotonic() + _END_S
    while not all(job.done() for job in jobs) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _job(executor: str, job: Any) -> Job:
    return Job(executor, job.job_id, str(job.paths.stdout), str(job.paths.result_pickle))


def _gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return chosen.split(",") if chosen else [str(index) for index in range(torch.cuda.device_count())]


def _nnunet_variables() -> dict[str, str]:
    """Return nnU-Net's folders and settings, for a cluster whose jobs do not inherit the environment."""
    nnunet = {name: value for name, value in os.environ.items() if name.startswith("nnUNet_")}
    return {**nnunet, "PYTHONUNBUFFERED": "1"}
