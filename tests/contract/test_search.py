"""A search trains real networks with nnU-Net, and says of them what nnU-Net says."""

import csv
import json

import pytest

from nnunetv2_gsp.plans import write_gsp_plans
from nnunetv2_gsp.search.search import search_networks
from tests.contract.conftest import DATASET, ID

pytestmark = pytest.mark.contract
TRAINER = "nnUNetTrainerFewIterations"


def test_a_search_trains_and_its_winner_is_a_template(preprocessed, nnunet_folders):
    results = nnunet_folders / "nnUNet_results" / DATASET
    assert search_networks(str(ID), trainers=[TRAINER], n_trials=2, device="cpu").failed == []
    rows = list(csv.DictReader((results / "search" / "search.csv").open()))
    for row in rows:
        summary = results / f"{TRAINER}__{row['plans']}__3d_fullres" / "fold_0" / "validation" / "summary.json"
        assert float(row[TRAINER]) == pytest.approx(json.loads(summary.read_text())["foreground_mean"]["Dice"])
    best = max(rows, key=lambda row: float(row[TRAINER]))
    winner = write_gsp_plans(str(ID), template=str(results / "search" / "winner.json"), configurations=["3d_fullres"])
    trained = json.loads((preprocessed / f"{best['plans']}.json").read_text())
    assert json.loads(winner.read_text())["configurations"] == trained["configurations"]

    files = {file: file.stat().st_mtime_ns for file in results.rglob("checkpoint_*.pth")}
    search_networks(str(ID), trainers=[TRAINER], n_trials=2, device="cpu")
    assert files == {file: file.stat().st_mtime_ns for file in results.rglob("checkpoint_*.pth")}
