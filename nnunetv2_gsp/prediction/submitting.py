"""Predicts the cases of a folder in a job array of Slurm; finished cases stay, the same call goes on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.files import write_json
from nnunetv2_gsp.messages import show_messages
from nnunetv2_gsp.nnunet import FINAL_CHECKPOINT, environment_with
from nnunetv2_gsp.prediction.cases import cases_in, is_predicted
from nnunetv2_gsp.prediction.model import load_predictor
from nnunetv2_gsp.prediction.predicting import check_stage, predict_folder
from nnunetv2_gsp.slurm import SlurmResources, check_executor, job_variables, jobs_in_slurm, submit_array

_JOBS, LOGS = "slurm_jobs.json", "logs"  # in the folder of predictions


@dataclass(frozen=True)
class Submission:
    """Where the cases of a folder are.

    Attributes:
        n_cases: number of cases.
        n_there: number of cases that are predicted.
        submitted: ids of the jobs that were submitted now.
        in_slurm: ids of jobs of an earlier call that Slurm still has; while it has any, no others are submitted.
        left: names of cases that are missing although Slurm has ended the jobs of an earlier call.
    """

    n_cases: int
    n_there: int
    submitted: tuple[str, ...]
    in_slurm: tuple[str, ...]
    left: tuple[str, ...] = ()


@dataclass(frozen=True)
class PredictionJob:
    """Predicts a part of the cases; submitit pickles it.

    Attributes:
        settings: arguments of `predict_folder` by their names.
        environment: environment variables besides those of the job.
    """

    settings: Mapping[str, Any]
    environment: Mapping[str, str]

    def __call__(self) -> None:
        """Predict the cases that are not there, with the package's messages in the job's log.

        Raises:
            InputError: a case could not be predicted.
        """
        with show_messages(), environment_with(self.environment):
            predictions = predict_folder(**self.settings)
        if predictions.problems:
            raise InputError("each case to be predicted", "\n".join(["problems:", *predictions.problems]))

    def checkpoint(self) -> Any:
        """Return the job that submitit requeues when Slurm's time is up: the same, which leaves what is there."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit_predictions(
    image_folder: Path,
    output: Path,
    model: Path,
    folds: Sequence[str | int] | None = None,
    checkpoint_name: str = FINAL_CHECKPOINT,
    *,
    n_jobs: int = 1,
    slurm: SlurmResources | None = None,
    device: str = "cuda",
    previous_stage: Path | None = None,
    save_probabilities: bool = False,
    **settings: Any,
) -> Submission:
    """Submit the cases that are not predicted, in jobs that take an equal part of the folder each.

    The jobs are recorded in the folder of predictions, and their logs stand there in `logs`. While Slurm still has one
    of them, the same call only tells how many cases are there.

    Args:
        image_folder: images named CASE_0000 and so on, with the ending of the training images.
        output: folder for the segmentations, which all machines see; it is made where it is missing.
        model: model folder TRAINER__PLANS__CONFIGURATION, or the zip of an exported model.
        folds: numbers of folds, or "all"; None takes all that are trained.
        checkpoint_name: name of the checkpoint's file in each fold's folder.
        n_jobs: number of jobs, from 1 on.
        slurm: resources of each job; None takes Slurm's own, and a GPU where the device is cuda.
        device: "cpu", "cuda" or "mps", in the jobs.
        previous_stage: folder of segmentations by the previous stage, for the last stage of a cascade.
        save_probabilities: True writes probabilities, too.
        settings: further arguments of `predict_folder`.

    Raises:
        UnavailableError: submitit or Slurm is not available.
        InputError: Slurm refused the jobs; or as `predict_folder` raises it.
    """
    check_executor("slurm")
    predictor = load_predictor(model, folds, checkpoint_name)
    check_stage(predictor, previous_stage)
    file_ending = predictor.dataset_json["file_ending"]
    cases = cases_in(image_folder, file_ending, previous_stage)
    is_there = [is_predicted(case, output, file_ending, with_probabilities=save_probabilities) for case in cases]
    due = [part for part in range(n_jobs) if not all(is_there[part::n_jobs])]
    had_jobs, in_slurm = (output / _JOBS).is_file(), _in_slurm(output / _JOBS)
    left = [case.name for case, there in zip(cases, is_there, strict=True) if not there and had_jobs and not in_slurm]
    ids: list[str] = []
    if due and not in_slurm:
        asked = {
            **settings,
            "image_folder": image_folder.absolute(),
            "output": output.absolute(),
            "model": model.absolute(),
            "folds": folds,
            "checkpoint_name": checkpoint_name,
            "device": device,
            "previous_stage": previous_stage and previous_stage.absolute(),
            "save_probabilities": save_probabilities,
            "continue_prediction": True,
            "n_parts": n_jobs,
        }
        jobs = [PredictionJob({**asked, "part": part}, job_variables()) for part in due]
        submitted = submit_array(jobs, output / LOGS, slurm or SlurmResources(), on_gpu=device == "cuda")
        ids = [job.job_id for job in submitted]
        write_json(ids, output / _JOBS)
    return Submission(len(is_there), sum(is_there), tuple(ids), in_slurm, tuple(left))


def _in_slurm(record: Path) -> tuple[str, ...]:
    if not record.is_file():
        return ()
    return tuple(jobs_in_slurm(json.loads(record.read_text(encoding="utf-8"))))
