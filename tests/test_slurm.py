"""What is asked of Slurm stands in the script that submitit gives to sbatch."""

from functools import partial

import pytest

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.slurm import SlurmResources, submit_array
from tests.fake_slurm import options_and_srun, put_sbatch

pytest.importorskip("submitit")


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    return put_sbatch(tmp_path, monkeypatch)


def submit(folder, resources, at_a_time=None, on_gpu=False):
    """Submit three jobs that return their numbers."""
    return submit_array([partial(int, number) for number in range(3)], folder, resources, at_a_time, on_gpu=on_gpu)


def test_each_wish_is_asked_for(sbatch, tmp_path):
    submit(tmp_path / "logs", SlurmResources("night", "a100:1", cpus=4, time_min=90), at_a_time=2)
    options, srun = options_and_srun(sbatch)
    wishes = {"--partition=night", "--gpus-per-node=a100:1", "--cpus-per-task=4", "--time=90", "--array=0-2%2"}
    assert wishes <= options
    assert "--cpus-per-task=4" in srun


def test_what_nobody_wishes_for_is_left_to_slurm(sbatch, tmp_path):
    submit(tmp_path / "logs", SlurmResources())
    options, srun = options_and_srun(sbatch)
    assert {"--time=1440", "--array=0-2%3"} <= options
    named = {option.split("=")[0] for option in (*options, *srun)}
    assert not named & {"--partition", "--gpus-per-node", "--cpus-per-task", "--error"}


@pytest.mark.parametrize(("gpus", "asked"), [(None, "1"), ("2", "2")])
def test_a_job_on_a_gpu_gets_one_unless_others_are_wished_for(gpus, asked, sbatch, tmp_path):
    submit(tmp_path / "logs", SlurmResources(gpus=gpus), on_gpu=True)
    options, _ = options_and_srun(sbatch)
    assert f"--gpus-per-node={asked}" in options


def test_jobs_come_in_the_order_of_the_work(sbatch, tmp_path):
    jobs = submit(tmp_path / "logs", SlurmResources())
    assert [job.job_id for job in jobs] == ["7_0", "7_1", "7_2"]
    assert [job.submission().result() for job in jobs] == [0, 1, 2]


def test_a_refusal_is_one_sentence(tmp_path, monkeypatch):
    put_sbatch(tmp_path, monkeypatch, "printf 'error: invalid partition: night\nerror: not submitted\n' >&2; exit 1")
    said = r"got a refusal \(error: invalid partition: night; error: not submitted\); ask for what the cluster has"
    with pytest.raises(InputError, match=f"Expected jobs that Slurm takes, {said}"):
        submit(tmp_path / "logs", SlurmResources("night"))
