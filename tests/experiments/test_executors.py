"""How trainings share a machine, and what Slurm is asked."""

import os
import subprocess
from dataclasses import replace
from functools import partial

import pytest

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.experiments import executors
from nnunetv2_gsp.experiments.executors import slurm_states
from nnunetv2_gsp.experiments.runs import RunState, SubmittedJob, TrainingRun
from nnunetv2_gsp.experiments.tables import TableRow
from nnunetv2_gsp.slurm import SlurmResources
from tests.fake_slurm import options_and_srun, put_command, put_sbatch


@pytest.fixture
def runs(tmp_path):
    rows = [TableRow(f"fold {fold}", fold=fold) for fold in range(3)]
    return [TrainingRun(row, "Dataset001_Any", "3d_fullres", "nnUNetPlans", "cpu", tmp_path) for row in rows]


@pytest.mark.parametrize("at_a_time", [1, 2])
def test_so_many_at_a_time(at_a_time, runs, monkeypatch, tmp_path):
    events = tmp_path / "events"

    def short_job(run, environment):
        """In place of a training wait until as many have begun as may, and then a little for one more."""
        wait = f"for i in $(seq 600); do [ $(grep -cx 1 {events}) -ge {at_a_time} ] && break; sleep 0.1; done; sleep 1"
        return partial(subprocess.check_call, ["sh", "-c", f"echo 1 >> {events}; {wait}; echo -1 >> {events}"])

    monkeypatch.setattr(executors, "TrainingJob", short_job)
    monkeypatch.setattr(TrainingRun, "remember", lambda *_: None)
    executors.train_locally(runs, at_a_time, after_each=lambda: None)
    running = [sum(map(int, events.read_text().split()[:end])) for end in range(1, 7)]
    assert max(running) == at_a_time
    assert running[-1] == 0


def test_trainings_take_turns_on_the_gpus_or_share_the_cores(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5e1f")
    assert [executors._share("cuda", slot, 3) for slot in range(3)] == [
        {"CUDA_VISIBLE_DEVICES": name} for name in ("3", "GPU-5e1f", "3")
    ]
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("nnUNet_n_proc_DA", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert executors._share("cpu", 0, at_a_time=3) == {"OMP_NUM_THREADS": "2", "nnUNet_n_proc_DA": "2"}
    monkeypatch.setenv("nnUNet_n_proc_DA", "5")  # the user's own
    assert executors._share("cpu", 0, at_a_time=9) == {"OMP_NUM_THREADS": "1", "nnUNet_n_proc_DA": "5"}


@pytest.mark.parametrize(("device", "gpus"), [("cpu", set()), ("cuda", {"--gpus-per-node=1"})])
def test_runs_are_one_array_of_slurm_and_remember_their_jobs(device, gpus, runs, tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    sbatch = put_sbatch(tmp_path, monkeypatch)
    ids = ["7_0", "7_1", "7_2"]
    on_device = [replace(run, device=device) for run in runs]
    assert executors.submit_to_slurm(on_device, 2, SlurmResources("night")) == ids
    options, _ = options_and_srun(sbatch)
    assert {"--partition=night", "--array=0-2%2"} <= options
    assert {option for option in options if "gpu" in option} == gpus
    [log] = [option.removeprefix("--output=") for option in options if option.startswith("--output=")]
    assert [(run.job().executor, run.job().id, run.job().log) for run in runs] == [
        ("slurm", id, log.replace("%A_%a", id)) for id in ids
    ]


def test_slurm_that_is_not_there_is_one_sentence(runs, monkeypatch):
    runs[0].remember(SubmittedJob("slurm", "7_0", "log", "outcome"))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match="squeue on PATH to ask for job 7_0"):
        slurm_states(runs)


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """Return a function that puts a squeue on PATH, as `put_command`."""
    return partial(put_command, "squeue", folder=tmp_path, monkeypatch=monkeypatch)


def test_slurm_is_asked_once_for_all_jobs_of_an_array(runs, squeue):
    for number, run in enumerate(runs):
        run.remember(SubmittedJob("slurm", f"7_{number}", "log", "outcome"))
    asked = squeue("echo 7_0 PENDING; echo 7_1 RUNNING")
    assert slurm_states(runs) == {"7_0": RunState.QUEUED, "7_1": RunState.RUNNING}
    assert "--jobs=7" in asked.read_text().split()


def test_an_error_of_slurm_is_one_sentence(runs, squeue):
    runs[0].remember(SubmittedJob("slurm", "7_0", "log", "outcome"))
    squeue("echo slurm_load_jobs error: Unable to contact slurm controller >&2; exit 1")
    with pytest.raises(InputError, match=r"answer of Slurm's squeue, got an error .*Unable to contact"):
        slurm_states(runs)
    squeue("echo slurm_load_jobs error: Invalid job id specified >&2; exit 1")
    assert slurm_states(runs) == {}
