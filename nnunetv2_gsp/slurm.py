"""Submits work to Slurm as a job array, through submitit, and asks what Slurm still has of it."""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunetv2_gsp.errors import ConflictingInputError, InputError, UnavailableError, check_name

if TYPE_CHECKING:
    import submitit

EXECUTORS = ("local", "slurm")
_SUBMIT_ELSEWHERE = "run on a machine that submits to Slurm"


@dataclass(frozen=True)
class SlurmResources:
    """Resources of each job in a Slurm array; account, memory and the like come from Slurm's own SBATCH_ variables.

    Attributes:
        partition: name of the partition; None takes Slurm's default.
        gpus: number of GPUs, or type and number, as sbatch's --gpus-per-node takes them ("1", "a100:1"); None is one if
            the device is cuda, else none.
        cpus: number of CPU cores; None takes Slurm's default.
        time_min: limit in minutes; work that needs more is requeued and goes on, up to three times.
    """

    partition: str | None = None
    gpus: str | None = None
    cpus: int | None = None
    time_min: int = 24 * 60


def resources_for(executor: str, slurm: SlurmResources | None) -> SlurmResources | None:
    """Return the resources of Slurm's jobs, the defaults where none are given; None for the executor local.

    Args:
        executor: name of the executor, one of `EXECUTORS`.
        slurm: resources that were asked for.

    Raises:
        ConflictingInputError: there are resources for the executor local.
        InputError: there is no such executor.

    Examples:
        >>> resources_for("slurm", None).time_min, resources_for("local", None)
        (1440, None)
    """
    check_name("an executor", executor, EXECUTORS, parameters=["executor"])
    if executor == "slurm":
        return slurm or SlurmResources()
    if slurm is not None:
        raise ConflictingInputError(
            "Slurm's partition, GPUs, CPUs and time with Slurm alone",
            f"them with the executor {executor}",
            remedy="drop them",
            parameters=["slurm"],
        )
    return None


def check_executor(executor: str) -> None:
    """Check that an executor can be used here.

    Args:
        executor: name of the executor, one of `EXECUTORS`.

    Raises:
        UnavailableError: submitit is not installed, or Slurm is asked for and not available.
    """
    if find_spec("submitit") is None:
        raise UnavailableError(
            "submitit to be installed", "none", remedy="run: pip install 'nnunetv2_gsp[experiments]'"
        )
    if executor == "slurm" and shutil.which("sbatch") is None:
        raise UnavailableError("Slurm's sbatch on PATH", "none", remedy=_SUBMIT_ELSEWHERE, parameters=["executor"])


def submit_array(
    jobs: Sequence[Callable[[], None]],
    logs: Path,
    resources: SlurmResources,
    at_a_time: int | None = None,
    *,
    on_gpu: bool,
) -> "list[submitit.Job[None]]":
    """Submit work as one job array.

    Args:
        jobs: picklable functions without arguments, one for each job.
        logs: folder for the output of the jobs; it is made where it is missing.
        resources: GPUs, cores, time and partition of each job.
        at_a_time: largest number of jobs that run at once; None: as many as submitit allows, 256.
        on_gpu: True asks for a GPU for each job, unless the resources say what to ask for.

    Returns:
        submitit's jobs, in the order of `jobs`.

    Raises:
        InputError: Slurm refused the array.
    """
    import submitit

    executor = submitit.SlurmExecutor(logs)
    wishes: dict[str, Any] = {
        "partition": resources.partition,
        "gpus_per_node": resources.gpus or ("1" if on_gpu else None),
        "array_parallelism": at_a_time,
        "cpus_per_task": resources.cpus,
    }
    if resources.cpus is not None:
        wishes["srun_args"] = [f"--cpus-per-task={resources.cpus}"]  # srun does not take it from sbatch since 22.05
    executor.update_parameters(
        job_name="nnUNetv2_gsp",
        time=resources.time_min,
        stderr_to_stdout=True,
        **{name: wish for name, wish in wishes.items() if wish is not None},
    )
    try:
        return executor.submit_array(jobs)
    except submitit.core.utils.FailedJobError as error:
        reason = "; ".join(str(error).split(os.linesep)).strip("; ")
        raise InputError(
            "jobs that Slurm takes", f"a refusal ({reason})", remedy="ask for what the cluster has"
        ) from error


def jobs_in_slurm(ids: Sequence[str]) -> dict[str, str]:
    """Return id -> Slurm's state, such as PENDING, of the jobs that Slurm still has.

    squeue is used, as sacct needs an accounting database that small clusters lack.

    Args:
        ids: ids of jobs, ARRAY_TASK for a job of an array, at least one.

    Raises:
        UnavailableError: Slurm is not available, or does not answer.
    """
    if shutil.which("squeue") is None:
        raise UnavailableError(f"Slurm's squeue on PATH to ask for job {ids[0]}", "none", remedy=_SUBMIT_ELSEWHERE)
    arrays = ",".join(sorted({id.split("_")[0] for id in ids}))
    asked = subprocess.run(
        ["squeue", "--noheader", "--array", "--format=%i %T", f"--jobs={arrays}"], capture_output=True, text=True
    )
    if asked.returncode != 0 and "Invalid job id" not in asked.stderr:  # a single job of long ago
        raise UnavailableError("an answer of Slurm's squeue", f"an error ({asked.stderr.strip()})")
    states = dict(line.split(maxsplit=1) for line in asked.stdout.splitlines())
    return {id: states[id] for id in ids if id in states}


def job_variables() -> dict[str, str]:
    """Return nnU-Net's folders and settings, and ours, for a cluster whose jobs do not inherit the environment.

    Examples:
        >>> from nnunetv2_gsp.nnunet import environment_with
        >>> with environment_with({"nnUNet_raw": "/data/raw", "NNUNETV2_GSP_ENGINE": "plain"}):
        ...     [job_variables()[name] for name in ("nnUNet_raw", "NNUNETV2_GSP_ENGINE")]
        ['/data/raw', 'plain']
    """
    settings = {name: value for name, value in os.environ.items() if name.startswith(("nnUNet_", "NNUNETV2_GSP_"))}
    return {**settings, "PYTHONUNBUFFERED": "1"}
