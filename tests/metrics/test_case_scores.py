"""Scores of cases: files in, a row for each case and region out."""

import os
import signal

import numpy as np
import pytest

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.metrics.case_scores import score_cases
from nnunetv2_gsp.metrics.cases import find_segmentations, pair
from nnunetv2_gsp.metrics.definitions import DEFINITIONS
from nnunetv2_gsp.metrics.region_labels import RegionLabels
from nnunetv2_gsp.metrics.scoring import score_masks
from tests.metrics.drawings import write
from tests.metrics.folders import CASES, SPACING_MM, tumour

LABELS = RegionLabels({"whole_tumor": (1, 2, 3), "tumor_core": (1, 3), "enhancing_tumor": (3,)})


def scored(folders, name="directed", labels=LABELS, processes=1):
    return score_cases(pair(*map(find_segmentations, folders)), labels, DEFINITIONS[name], processes=processes)


def test_every_case_and_region_is_scored_by_the_definition(folders):
    scores = scored(folders)
    assert [(entry["case"], entry["region"]) for entry in scores] == [
        (case, region) for case in CASES for region in LABELS.regions
    ]
    expected = score_masks(np.isin(tumour(2), (1, 3)), np.isin(tumour(5), (1, 3)), SPACING_MM, DEFINITIONS["directed"])
    assert scores[4] == {"case": "BraTS_002", "region": "tumor_core", **expected}


def test_several_processes_find_the_same(folders):
    assert scored(folders, "brats2023", processes=2) == scored(folders, "brats2023")


def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_is_one_sentence(folders, monkeypatch):
    monkeypatch.setattr("nnunetv2_gsp.metrics.case_scores._score_case", kill)
    with pytest.raises(InputError, match="one that was killed"):
        scored(folders, processes=2)


def test_no_label_in_any_file_is_refused(tmp_path):
    for folder in ("gt", "pred"):
        write(0 * tumour(1), tmp_path / folder / "a.nii.gz")
    with pytest.raises(InputError, match=r"labels to evaluate, got none in any file; change dataset_json\.$"):
        scored((tmp_path / "gt", tmp_path / "pred"), labels=RegionLabels(chosen_by=("dataset_json",)))


def test_nnunets_dice_is_nnunets(folders):
    nnunet = pytest.importorskip("nnunetv2.evaluation.evaluate_predictions")
    expected = nnunet.compute_metrics(
        str(folders[0] / "BraTS_001.nii.gz"),
        str(folders[1] / "BraTS_001.nii.gz"),
        nnunet.SimpleITKIO(),
        [(1, 2, 3), (1, 3), (3,)],
    )["metrics"]
    assert [entry["Dice"] for entry in scored(folders, "nnunet")[:3]] == [
        metrics["Dice"] for metrics in expected.values()
    ]


def test_an_ignored_label_counts_for_nothing(folders):
    reference, prediction = tumour(1), tumour(4)
    reference[:9] = 7
    write(reference, folders[0] / "BraTS_001.nii.gz", SPACING_MM)
    prediction[:9] = reference[:9] = 0
    expected = score_masks(reference > 0, prediction > 0, SPACING_MM, DEFINITIONS["directed"])
    entry = scored(folders, labels=RegionLabels(LABELS.regions, ignore_label=7))[0]
    assert {name: entry[name] for name in expected} == expected


def test_without_regions_each_label_found_is_one_and_an_empty_one_where_a_case_lacks_it(folders):
    scores = scored(folders, "captk", RegionLabels())
    assert [entry["region"] for entry in scores] == ["1", "2", "3"] * 3
    assert [entry["empty"] for entry in scores if entry["region"] == "3"] == ["", "", "both"]


def test_promise12_scores_the_thirds(tmp_path):
    for folder in ("gt", "pred"):
        write(tumour(2) > 0, tmp_path / folder / "Case00.mhd", (2.0, 0.5, 0.5))
    scores = scored((tmp_path / "gt", tmp_path / "pred"), "promise12", RegionLabels())
    assert [entry["region"] for entry in scores] == ["1", "1, apex", "1, mid", "1, base"]
    assert [entry["aRVD"] for entry in scores] == [0] * 4
    assert sum(entry["reference_mm3"] for entry in scores[1:]) == scores[0]["reference_mm3"]


@pytest.mark.parametrize(("name", "edges"), [("promise12", SPACING_MM), ("brats2024-men-rt", (1, 1, 1))])
def test_an_empty_prediction_costs_the_diagonal_of_the_whole_image(name, edges, tmp_path):
    reference = tumour(2) > 0
    for folder, labels in (("gt", reference), ("pred", 0 * reference)):
        write(labels, tmp_path / folder / "case.nii.gz", SPACING_MM)
    scores = scored((tmp_path / "gt", tmp_path / "pred"), name, RegionLabels())
    diagonal = np.linalg.norm(np.multiply(reference.shape, edges))
    assert [entry["HD95"] for entry in scores] == pytest.approx([diagonal] * len(scores))


def test_2d_images(tmp_path):
    for folder in ("gt", "pred"):
        write(tumour(1)[8], tmp_path / folder / "slice.png", (1.0, 1.0))
    assert {entry["HD95"] for entry in scored((tmp_path / "gt", tmp_path / "pred"), labels=RegionLabels())} == {0}
