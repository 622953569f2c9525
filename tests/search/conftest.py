"""A planned dataset whose trainings are replaced by a known function of the settings."""

import json
import os
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import pytest

from nnunetv2_gsp.counting import count_architecture
from nnunetv2_gsp.experiments.runs import SubmittedJob
from nnunetv2_gsp.search import trainings
from nnunetv2_gsp.search.report import Report
from nnunetv2_gsp.search.search import search_networks
from tests.planned_dataset import DATASET, write_stock_plans
from tests.search.landscape import known_dice

TRAINERS = ("nnUNetTrainer_1epoch", "nnUNetTrainer_5epochs")


@pytest.fixture(autouse=True)
def _quick_journal(monkeypatch):
    """Optuna waits for the disk after each line; what a test writes need not outlive a power cut."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@cache
def _counts(architecture, *shape):
    return count_architecture(json.loads(architecture), *map(json.loads, shape))


def count_once(architecture, *shape):
    """Count the networks that all tests share once."""
    return _counts(json.dumps(architecture, sort_keys=True), *map(json.dumps, shape))


@dataclass
class StandIn:
    """Trains nothing, and writes the summary that nnU-Net would write."""

    preprocessed: Path
    trained: list = field(default_factory=list)
    ends_after: int | None = None
    fails: bool = False

    @property
    def results(self):
        return Path(os.environ["nnUNet_results"]) / DATASET

    def train(self, runs, at_a_time, title):
        for run in runs:
            if len(self.trained) == self.ends_after:
                raise KeyboardInterrupt
            self.trained.append(run)
            if self.fails:
                run.remember(SubmittedJob("local", "1", "the.log", "no outcome"))
                continue
            plans = json.loads((self.preprocessed / f"{run.plans}.json").read_text())
            # by class and fold, so that means are no single value
            dice = known_dice(plans["gsp_template"]["settings"], TRAINERS.index(run.row.trainer)) + run.row.fold / 100
            run.summary.parent.mkdir(parents=True)
            mean = {"1": {"Dice": dice - 0.1}, "2": {"Dice": dice + 0.1}, "3": {"Dice": float("nan")}}
            run.summary.write_text(json.dumps({"mean": mean}))


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    preprocessed = write_stock_plans(tmp_path, monkeypatch)
    labels = {"background": 0, "one": 1, "two": 2, "nowhere": 3}
    dataset_json = {"channel_names": {"0": "T1", "1": "T2"}, "labels": labels, "numTraining": 5}
    (preprocessed / "dataset.json").write_text(json.dumps(dataset_json))
    (preprocessed / "splits_final.json").write_text("[]")
    for data in ("nnUNetPlans_3d_fullres", "nnUNetPlans_3d_lowres"):
        (preprocessed / data).mkdir()
    stand_in = StandIn(preprocessed)
    monkeypatch.setattr(trainings, "train_locally", stand_in.train)
    monkeypatch.setattr(trainings, "count_architecture", count_once)
    monkeypatch.setattr(Report, "html", lambda _: "drawn in other tests" * 10)  # it takes longer than all the rest
    return stand_in


search = partial(search_networks, DATASET, trainers=TRAINERS, n_trials=6, device="cpu")
