"""The verb on a real Slurm, with two tiny trainings in one job array; skipped where there is none."""

import shutil
import subprocess
import time
from functools import partial

import pytest

from nnunetv2_gsp.experiments.experiment import Experiment
from nnunetv2_gsp.experiments.runs import RunState
from nnunetv2_gsp.slurm import SlurmResources
from tests.experiments.conftest import DATASET, TINY

TRAINER = "nnUNetTrainerGSPPaperFewIterations"


def slurm_answers():
    return shutil.which("sbatch") is not None and subprocess.run(["sinfo"], capture_output=True).returncode == 0


@pytest.mark.skipif(not slurm_answers(), reason="no Slurm here (sbatch on PATH and an answering sinfo)")
def test_two_trainings_as_a_job_array(run, planned):
    experiment = Experiment(
        "ratio", planned / "nnUNet_preprocessed" / DATASET, "3d_fullres", "nnUNetPlans", [TRAINER], TINY, "cpu"
    )
    run = partial(run, "ratio", trainers=[TRAINER], executor="slurm", slurm=SlurmResources(time_min=30))
    submitted = run()
    assert submitted.is_good
    [array, first], [same_array, second] = (each.job().id.split("_") for each in experiment.runs)
    assert array == same_array
    assert (first, second) == ("0", "1")
    assert f"Slurm job {array}_0" in submitted.text
    assert run().is_good  # submits nothing
    assert [each.job().id for each in experiment.runs] == [f"{array}_0", f"{array}_1"]

    deadline = time.monotonic() + 300
    while experiment.states() != [RunState.FINISHED] * 2 and time.monotonic() < deadline:
        assert RunState.FAILED not in experiment.states()
        time.sleep(2)
    finished = run()
    assert finished.is_good
    assert finished.text.count("| finished |") == 2
