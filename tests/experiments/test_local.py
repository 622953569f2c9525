"""The verb on this machine: real trainings of nnU-Net, small, interrupted, failing and retried."""

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from nnunetv2_gsp.experiments.experiment import Experiment
from nnunetv2_gsp.experiments.runs import RunState
from tests.experiments.conftest import DATASET, ID, TINY

TRAINER = "nnUNetTrainerGSPPaperFailing"
CALL = f"""
from nnunetv2_gsp.experiments.experiment import run_experiments
run_experiments("ratio", "{ID}", trainers=["{TRAINER}"], settings={TINY}, device="cpu")
"""


@pytest.fixture
def experiment(planned):
    preprocessed = planned / "nnUNet_preprocessed" / DATASET
    return Experiment("ratio", preprocessed, "3d_fullres", "nnUNetPlans", [TRAINER], TINY, "cpu")


def printed_by(run):
    return Path(run.job().log).read_text()


def interrupt_in_epoch_1_of(run):
    """Press Ctrl-C in another process that runs the table, as soon as the run is in its second epoch."""
    with subprocess.Popen(
        [sys.executable, "-c", CALL],
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        while run.job() is None or not Path(run.job().log).is_file() or "Epoch 1" not in printed_by(run):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.2)
        assert run.state({}) is RunState.RUNNING
        os.killpg(process.pid, signal.SIGINT)
        assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]
    assert process.returncode != 0


def test_interrupted_goes_on_failed_waits_for_retry_finished_stays(run, experiment, monkeypatch):
    half, whole = experiment.runs
    command = half.command()
    interrupt_in_epoch_1_of(half)
    assert experiment.states() == [RunState.INTERRUPTED, RunState.NOT_STARTED]
    assert f"$ {shlex.join(command)}\n" in printed_by(half)
    assert "threads: 1" in printed_by(half)  # its share, where nnU-Net's command takes all cores
    assert [*half.fold_folder.glob("checkpoint_*.pth")]
    preprocessed = {file: file.stat().st_mtime_ns for file in experiment.preprocessed.glob("*masked_norm/*")}
    assert len(preprocessed) == 15  # five cases of three files

    run = partial(run, "ratio", trainers=[TRAINER])
    monkeypatch.setenv("FAULT_IN_PLANS", whole.plans)
    assert not run().is_good
    assert "Epoch 0" not in printed_by(half)  # it went on
    assert experiment.states() == [RunState.FINISHED, RunState.FAILED]
    assert "the fault that was switched on" in printed_by(whole)
    before = {file: file.stat().st_mtime_ns for file in experiment.folder.parent.rglob("checkpoint_*.pth")}

    monkeypatch.delenv("FAULT_IN_PLANS")
    outcome = run()
    assert not outcome.is_good
    assert outcome.failed == [f"C_s = C failed: {whole.job().log}"]
    assert before == {file: file.stat().st_mtime_ns for file in before}

    assert run(retry=True).is_good
    assert experiment.states() == [RunState.FINISHED, RunState.FINISHED]
    assert "Epoch 0" not in printed_by(whole)
    trained_again = {file for file in before if file.stat().st_mtime_ns != before[file]}
    assert {file.parent for file in trained_again} <= {whole.fold_folder}
    assert preprocessed == {file: file.stat().st_mtime_ns for file in preprocessed}
    check_table(experiment, half, whole)


def check_table(experiment, *runs):
    """The table has nnU-Net's own figures beside the paper's."""
    name = f"ratio__{TRAINER}__{experiment.runs[0].plans.rpartition('_')[2]}"
    rows = list(csv.DictReader((experiment.folder / f"{name}.csv").open()))
    for run, row, paper in zip(runs, rows, ("85.6", "81.4"), strict=True):
        dice = json.loads(run.summary.read_text())["foreground_mean"]["Dice"]
        assert float(row["mDice"]) == float(row["ellipsoid"]) == pytest.approx(100 * dice)
        assert (row["mDice, paper"], row["state"]) == (paper, "finished")
        assert f" {100 * dice:.1f} |" in (experiment.folder / f"{name}.md").read_text()
