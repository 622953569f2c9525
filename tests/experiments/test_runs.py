"""A run's state and scores as the files tell them, and the job that trains it."""

import json
import shutil
import signal
from dataclasses import replace

import pytest

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.experiments import runs
from nnunetv2_gsp.experiments.experiment import Experiment
from nnunetv2_gsp.experiments.runs import RunState, SubmittedJob, TrainingJob, TrainingRun, is_locked, locked
from nnunetv2_gsp.experiments.tables import TableRow
from tests.experiments.conftest import DATASET


def experiment_on(planned, table):
    return Experiment(table, planned / "nnUNet_preprocessed" / DATASET, "3d_fullres", "nnUNetPlans")


@pytest.fixture
def run(tmp_path):
    return TrainingRun(TableRow("CSC"), DATASET, "3d_fullres", "nnUNetPlans", "cpu", tmp_path)


@pytest.mark.parametrize(
    "left",
    [
        "",
        '{"mean": {"1": {"Dice": 0.',
        "[]",
        "{}",
        '{"mean": []}',
        '{"mean": {}}',
        '{"mean": {"1": {}}}',
        '{"mean": {"1": {"Dice": null}}}',
    ],
)
def test_an_incomplete_summary_is_written_anew(left, planned, monkeypatch):
    """A kill or a full disk: such a run is none of the finished ones, and goes on from its checkpoint."""
    experiment = experiment_on(planned, "brats-location")
    [brats, *_] = experiment.runs
    brats.summary.parent.mkdir(parents=True)
    brats.summary.write_text(left)
    (brats.fold_folder / "checkpoint_final.pth").touch()
    brats.remember(SubmittedJob("local", "7", "log", "outcome"))
    assert experiment.states()[0] is RunState.INTERRUPTED
    assert brats.command()[-1] == "--c"
    assert "| interrupted" in experiment.collect()
    trained = []
    monkeypatch.setattr(TrainingJob, "_train", lambda training, _: trained.append(training.run))
    TrainingJob(brats, {})()
    assert trained == [brats]
    shutil.rmtree(planned / "nnUNet_results" / DATASET)


def test_dice_of_regions_is_found_by_their_names(planned):
    """The mean of all foreground regions, each called as in the dataset.json."""
    [brats, *_] = experiment_on(planned, "brats-location").runs
    brats.summary.parent.mkdir(parents=True)
    brats.summary.write_text(
        json.dumps({"mean": {"(1, 2, 3)": {"Dice": 0.9}, "(1, 3)": {"Dice": 0.8}, "3": {"Dice": 0.4}}})
    )
    labels = {"background": 0, "whole_tumor": [1, 2, 3], "tumor_core": [1, 3], "enhancing_tumor": 3}
    assert brats.dice_percent(labels) == pytest.approx(
        {"mDice": 70, "whole_tumor": 90, "tumor_core": 80, "enhancing_tumor": 40}
    )
    with pytest.raises(InputError, match=r"summary.json: expected the Dice of .*prostate, got that of .*\(1, 3\), 3;"):
        brats.dice_percent({"background": 0, "prostate": 1})
    shutil.rmtree(planned / "nnUNet_results" / DATASET)


def test_on_a_gpu_nnunet_s_own_command_trains(run):
    assert replace(run, device="cuda").command()[:2] == ["nnUNetv2_train", DATASET]
    assert replace(run, device="cuda").command()[-2:] == ["-device", "cuda"]


def test_a_job_of_its_own_shows_the_command(run, monkeypatch, capsys):
    """Nothing else shows the package's log there: a log without the command can not be repeated by hand."""
    monkeypatch.setattr(TrainingRun, "command", lambda _: ["python", "-c", "pass"])
    TrainingJob(run, {})()
    assert "$ python -c pass\n" in capsys.readouterr().out


def test_a_job_whose_command_fails_ends_with_an_error(run, monkeypatch):
    monkeypatch.setattr(TrainingRun, "command", lambda _: ["python", "-c", "raise SystemExit(3)"])
    with pytest.raises(RuntimeError, match="training stopped with exit code 3"):
        TrainingJob(run, {})()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR2])
def test_a_job_that_is_stopped_from_outside_waits_for_submitit_and_is_no_failure(sent, run, monkeypatch):
    """Submitit writes down an error of any Exception, and within the wait its handler requeues the job."""
    waited_s = []
    monkeypatch.setattr(TrainingRun, "command", lambda _: ["sh", "-c", f"kill -{sent:d} $$"])
    monkeypatch.setattr(runs.time, "sleep", waited_s.append)
    with pytest.raises(SystemExit, match="the training was stopped from outside"):
        TrainingJob(run, {})()
    assert sum(waited_s) > 0


def test_a_job_that_slurm_requeues_trains_the_same_run(run):
    pytest.importorskip("submitit")
    job = TrainingJob(run, {"OMP_NUM_THREADS": "2"})
    assert job.checkpoint().function is job


def test_a_job_holds_its_lock_and_its_variables_while_it_trains(run, monkeypatch):
    seen = []

    def run_command(line, environment, pass_fds):
        seen.append((is_locked(run.lock), environment, len(pass_fds)))
        return 0

    monkeypatch.setattr(runs, "run_command", run_command)
    TrainingJob(run, {"OMP_NUM_THREADS": "2"})()
    assert seen == [(True, {"OMP_NUM_THREADS": "2"}, 1)]
    assert not is_locked(run.lock)


def test_who_does_not_wait_for_a_lock_is_told(tmp_path):
    with (
        locked(tmp_path / "lock"),
        pytest.raises(InputError, match="lock: expected one call at a time, got another"),
        locked(tmp_path / "lock", wait=False),
    ):
        pass
