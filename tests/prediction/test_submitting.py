"""A folder's cases are shared by jobs; what is there stays, and the same call goes on."""

import json
import os
import pickle
import shutil
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import SimpleITK as sitk

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.nnunet import find_trainer
from nnunetv2_gsp.prediction import submitting
from nnunetv2_gsp.prediction.submitting import submit_predictions
from nnunetv2_gsp.slurm import SlurmResources
from tests.cli.commands import exit_code
from tests.datasets.sources import voxels
from tests.experiments.test_slurm import slurm_answers
from tests.prediction.models import SHAPES, nnunets_predictions, write_images, write_model


@pytest.fixture(scope="module")
def model_folder(nnunet_folders):
    return write_model(nnunet_folders)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("raw") / "images")


class Slurm:
    """A Slurm that keeps jobs until it is told to run them."""

    def __init__(self):
        self.jobs, self.resources, self.on_gpu = {}, None, None

    def submit_array(self, jobs, logs, resources, *, on_gpu):
        self.resources, self.on_gpu = resources, on_gpu
        ids = [f"7_{number}" for number in range(len(jobs))]
        self.jobs = dict(zip(ids, map(pickle.dumps, jobs), strict=True))
        return [SimpleNamespace(job_id=id) for id in ids]

    def jobs_in_slurm(self, ids):
        return {id: "PENDING" for id in ids if id in self.jobs}

    def run(self, id):
        pickle.loads(self.jobs.pop(id))()


@pytest.fixture
def slurm(monkeypatch):
    slurm = Slurm()
    monkeypatch.setattr(submitting, "check_executor", lambda executor: None)
    for name in ("submit_array", "jobs_in_slurm"):
        monkeypatch.setattr(submitting, name, getattr(slurm, name))
    return slurm


def predicted(output):
    return sorted(file.name.removesuffix(".nii.gz") for file in output.glob("*.nii.gz"))


def test_jobs_share_the_cases_and_the_same_call_goes_on(model_folder, images, tmp_path, slurm):
    out = tmp_path / "out"

    def submit():
        found = submit_predictions(images, out, model_folder, n_jobs=2, device="cpu", mirroring=False)
        return found.n_cases, found.n_there, found.submitted, found.in_slurm

    assert submit() == (3, 0, ("7_0", "7_1"), ())
    assert submit() == (3, 0, (), ("7_0", "7_1"))
    slurm.run("7_0")
    assert predicted(out) == ["a", "c"]
    assert submit() == (3, 2, (), ("7_1",))
    slurm.jobs.clear()  # it was cancelled
    assert submit() == (3, 2, ("7_0",), ())  # the one with b
    slurm.jobs.clear()
    (out / "a.nii.gz").write_text("mine")
    (out / "c.nii.gz").unlink()
    assert submit() == (3, 1, ("7_0", "7_1"), ())
    slurm.run("7_0")
    slurm.run("7_1")
    assert predicted(out) == ["a", "b", "c"]
    assert (out / "a.nii.gz").read_text() == "mine"
    assert submit() == (3, 3, (), ())
    nnunets = nnunets_predictions(model_folder, images, tmp_path / "nnunet", use_mirroring=False)
    for name in ("b", "c"):
        assert (voxels(out / f"{name}.nii.gz") == voxels(nnunets / f"{name}.nii.gz")).all()


def test_a_job_needs_neither_the_working_directory_nor_the_variables_it_was_submitted_with(
    nnunet_folders, images, tmp_path, slurm, monkeypatch
):
    trainer = find_trainer("nnUNetTrainerGSPFewIterations")  # which nnUNet_extTrainer names, as a user's own
    last = write_model(nnunet_folders, trainer_class=trainer, previous_stage="3d_lowres")
    first, elsewhere = tmp_path / "first", tmp_path / "elsewhere"
    for folder in (first, elsewhere):
        folder.mkdir()
    for name in SHAPES:
        image = sitk.ReadImage(images / f"{name}_0000.nii.gz")
        sitk.WriteImage(sitk.Cast(image > 5, sitk.sitkUInt8), first / f"{name}.nii.gz")
    monkeypatch.chdir(tmp_path)
    given = [Path(os.path.relpath(path)) for path in (images, tmp_path / "out", last)]
    submit_predictions(*given, device="cpu", previous_stage=Path("first"), mirroring=False)
    monkeypatch.chdir(elsewhere)
    monkeypatch.delenv("nnUNet_extTrainer")
    slurm.run("7_0")
    assert predicted(tmp_path / "out") == list(SHAPES)


def test_a_gpu_is_asked_for_where_the_device_is_one(model_folder, images, tmp_path, slurm):
    resources = SlurmResources("night", time_min=60)
    submit_predictions(images, tmp_path / "out", model_folder, device="cuda", slurm=resources)
    assert (slurm.resources, slurm.on_gpu) == (resources, True)
    [job] = map(pickle.loads, slurm.jobs.values())
    assert job.settings["device"] == "cuda"


def test_a_case_that_could_not_be_predicted_fails_its_job(model_folder, images, tmp_path, slurm):
    damaged = tmp_path / "images"
    shutil.copytree(images, damaged)
    (damaged / "b_0000.nii.gz").write_text("no image")
    submit_predictions(damaged, tmp_path / "out", model_folder, device="cpu")
    with pytest.raises(InputError, match=r"b_0000\.nii\.gz"):
        slurm.run("7_0")
    assert predicted(tmp_path / "out") == ["a", "c"]


def test_what_ended_jobs_left_is_named(model_folder, images, tmp_path, slurm, capsys):
    out = tmp_path / "out"
    asked = ("predict", "-i", images, "-o", out, "-m", model_folder, "-device", "cpu", "--executor", "slurm")
    assert exit_code(*asked) == 0
    assert capsys.readouterr().err == ""
    slurm.jobs.clear()
    assert exit_code(*asked) == 0
    assert capsys.readouterr().err == f"Ended jobs left a, b, c: the logs in {out / 'logs'} say why.\n"


def test_a_job_whose_time_is_up_goes_on():
    job = submitting.PredictionJob({"part": 1}, {})
    assert job.checkpoint().function is job


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("-n", 2), "expected -n jobs with --executor slurm alone, got -n 2 without it"),
        (("--partition", "night"), "expected Slurm's partition, GPUs, CPUs and time with Slurm alone"),
        (("--executor", "slurm", "-num_parts", 2), "expected -n jobs with --executor slurm, got -num_parts"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, sentence, tmp_path):
    message = exit_code("predict", "-i", tmp_path, "-o", tmp_path / "out", "-m", "model", *arguments)
    assert sentence.lower() in message.lower()


def test_the_verb_tells_where_the_cases_are(model_folder, images, tmp_path, slurm, capsys):
    out = tmp_path / "out"
    asked = ("predict", "-i", images, "-o", out, "-m", model_folder, "-device", "cpu", "--executor", "slurm", "-n", 3)
    assert exit_code(*asked) == 0
    there = f"0 of 3 cases are predicted in {out}."
    assert capsys.readouterr().out == f"{there}\nSubmitted 7_0, 7_1, 7_2; their logs are in {out / 'logs'}.\n"
    assert exit_code(*asked) == 0
    assert capsys.readouterr().out == f"{there}\nSlurm still has 7_0, 7_1, 7_2.\n"
    assert json.loads((out / "slurm_jobs.json").read_text()) == ["7_0", "7_1", "7_2"]


@pytest.mark.skipif(not slurm_answers(), reason="no Slurm here (sbatch on PATH and an answering sinfo)")
def test_a_real_slurm_predicts_a_folder_in_two_jobs(model_folder, images, tmp_path):
    def submit():
        return submit_predictions(images, tmp_path / "out", model_folder, n_jobs=2, device="cpu")

    first, second = submit().submitted
    assert first.split("_")[0] == second.split("_")[0]
    deadline = time.monotonic() + 300
    while submit().in_slurm and time.monotonic() < deadline:
        time.sleep(2)
    assert submit().n_there == len(SHAPES), subprocess.run(
        ["tail", "-n", "30", *(tmp_path / "out" / "logs").glob("*.out")], capture_output=True, text=True
    ).stdout
