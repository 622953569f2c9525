"""Starts trainings through submitit: on this machine, N at a time, or as a job array of Slurm."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunetv2_gsp.experiments.runs import RunState, SubmittedJob, TrainingJob, TrainingRun
from nnunetv2_gsp.progress import progress_bar
from nnunetv2_gsp.slurm import SlurmResources, job_variables, jobs_in_slurm, submit_array

if TYPE_CHECKING:
    import submitit

_POLL_S, _POLL_SLURM_S = 0.5, 30  # a cluster should not be asked often
_END_S = 30  # for a training to end when the user interrupts
# torch's threads, and nnU-Net's processes for augmentation: each training would start one for every core
_THREADS_AND_WORKERS = ("OMP_NUM_THREADS", "nnUNet_n_proc_DA")
_UNLIMITED_MIN = 10 * 365 * 24 * 60  # submitit's local jobs must have a limit


def train_locally(
    runs: Sequence[TrainingRun], at_a_time: int, after_each: Callable[[], object] = lambda: None, title: str = "train"
) -> None:
    """Train on this machine, and return when all runs have ended; an interrupt ends the running ones.

    Args:
        runs: runs to train, in this order.
        at_a_time: number of trainings that run at once, from 1 on; they are spread over the GPUs, or share the CPU's
            cores.
        after_each: function without arguments that is called whenever a run has ended.
        title: name of the work, for the progress bar.
    """
    import submitit

    folder = runs[0].experiments / "logs"
    waiting, free = deque(runs), deque(range(at_a_time))
    running: list[tuple[TrainingRun, int, submitit.Job[None]]] = []
    with progress_bar(title, "run", len(runs)) as show:

        def show_progress() -> None:
            show(len(runs) - len(waiting) - len(running), ", ".join(run.row.label for run, *_ in running))

        try:
            while waiting or running:
                while waiting and free:
                    run, slot = waiting.popleft(), free.popleft()
                    running.append((run, slot, _start(run, _share(run.device, slot, at_a_time), folder / run.name)))
                    show_progress()
                time.sleep(_POLL_S)
                for ended in [entry for entry in running if entry[2].done()]:
                    running.remove(ended)
                    free.append(ended[1])
                    show_progress()
                    after_each()
        finally:
            _end([job for *_, job in running])


def submit_to_slurm(runs: Sequence[TrainingRun], at_a_time: int | None, resources: SlurmResources) -> list[str]:
    """Submit the runs as one job array, and record the job of each run.

    Args:
        runs: runs to train, one job each.
        at_a_time: largest number of jobs that run at once; None: as many as submitit allows, 256.
        resources: GPUs, cores, time and partition of each job.

    Returns:
        The ids of the jobs, in the order of the runs.

    Raises:
        InputError: Slurm refused the array.
    """
    jobs = submit_array(
        [TrainingJob(run, job_variables()) for run in runs],
        runs[0].experiments / "logs",
        resources,
        at_a_time,
        on_gpu=runs[0].device == "cuda",
    )
    for run, job in zip(runs, jobs, strict=True):
        run.remember(_job("slurm", job))
    return [job.job_id for job in jobs]


def wait_for_slurm(runs: Sequence[TrainingRun], title: str = "train") -> None:
    """Return when Slurm has none of the runs any more; an interrupt leaves the jobs to Slurm.

    Args:
        runs: runs that were submitted to Slurm.
        title: name of the work, for the progress bar.

    Raises:
        UnavailableError: Slurm is not available, or does not answer.
    """
    with progress_bar(title, "run", len(runs)) as show:
        while True:
            in_slurm = slurm_states(runs)
            states = [run.state(in_slurm) for run in runs]
            left = [state for state in states if state in (RunState.QUEUED, RunState.RUNNING)]
            show(len(runs) - len(left), f"{left.count(RunState.QUEUED)} queued")
            if not left:
                return
            time.sleep(_POLL_SLURM_S)


def slurm_states(runs: Iterable[TrainingRun]) -> dict[str, RunState]:
    """Return job id -> state for the jobs of the runs that Slurm still has; finished runs are not looked up.

    squeue is used, as sacct needs an accounting database that small clusters lack.

    Args:
        runs: runs with any executor; only those that were sent to Slurm are looked up.

    Raises:
        UnavailableError: Slurm is not available, or does not answer.
    """
    jobs = [job for run in runs if not run.finished and (job := run.job()) and job.executor == "slurm"]
    if not jobs:
        return {}
    return {
        id: RunState.QUEUED if state == "PENDING" else RunState.RUNNING
        for id, state in jobs_in_slurm([job.id for job in jobs]).items()
    }


def _start(run: TrainingRun, environment: dict[str, str], folder: Path) -> "submitit.Job[None]":
    import submitit

    executor = submitit.LocalExecutor(folder)
    executor.update_parameters(timeout_min=_UNLIMITED_MIN, stderr_to_stdout=True)
    job = executor.submit(TrainingJob(run, {**job_variables(), **environment}))
    run.remember(_job("local", job))
    return job


def _share(device: str, slot: int, at_a_time: int) -> dict[str, str]:
    """Return the environment variables that give one of several trainings its share of the machine."""
    if device == "cuda":
        gpus = _gpus()
        return {"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]}  # submitit hides them unless it is to choose
    # threads of several trainings on the same cores wait for each other, at a multiple of the time
    cores = str(max(1, (os.cpu_count() or 1) // at_a_time))
    return {name: os.environ.get(name, cores) for name in _THREADS_AND_WORKERS}


def _end(jobs: Sequence["submitit.Job[None]"]) -> None:
    for job in jobs:
        job.cancel()
    deadline = time.monotonic() + _END_S
    while not all(job.done() for job in jobs) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _job(executor: str, job: Any) -> SubmittedJob:
    return SubmittedJob(executor, job.job_id, str(job.paths.stdout), str(job.paths.result_pickle))


def _gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return chosen.split(",") if chosen else [str(index) for index in range(torch.cuda.device_count())]
