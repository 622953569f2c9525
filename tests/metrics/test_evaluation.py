"""Evaluations of folders: means, notes, files, and what is refused before anything is scored."""

import csv
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from nnunetv2_gsp.errors import InputError, TargetExistsError
from nnunetv2_gsp.metrics import case_scores
from nnunetv2_gsp.metrics.definitions import DEFINITIONS
from nnunetv2_gsp.metrics.evaluation import Evaluation, evaluate_folders, output_files
from nnunetv2_gsp.metrics.region_labels import RegionLabels
from tests.metrics.drawings import write_dataset_json
from tests.metrics.folders import CASES, REGIONS


def evaluated(folders, name="directed", **choices):
    return evaluate_folders(*folders, DEFINITIONS[name], processes=1, **choices)


def test_regions_come_from_the_dataset_json_nearby(folders):
    evaluation = evaluated(folders)
    assert evaluation.regions == ["whole_tumor", "tumor_core", "enhancing_tumor"]
    assert evaluation.labels.source == f"labels of {folders[1] / 'dataset.json'}"


def test_means_leave_out_what_the_definition_leaves_out(folders):
    evaluation = evaluated(folders, "panoptica")
    summary = evaluation.summary()["enhancing_tumor"]
    there = [entry["Dice"] for entry in evaluation.cases if entry["region"] == "enhancing_tumor"][:2]
    assert summary["Dice"]["left_out"] == summary["empty"]["both"] == 1
    assert summary["Dice"]["n"] == 2
    assert summary["Dice"]["mean"] == sum(there) / 2


def test_means_deviations_and_medians_are_numpys():
    names, n_cases, random = ("Dice", "HD95", "NSD at 1 mm", "ABD"), 3, np.random.default_rng(0)
    scores = {region: random.random((n_cases, len(names))) for region in ("core", "edema")}
    empty = {"core": ("reference", "prediction", "both"), "edema": ("", "both", "prediction")}
    cases = [
        {"case": str(case), "region": region, "empty": empty[region][case]}
        | dict(zip(names, of_region[case], strict=True))
        for case in range(n_cases)
        for region, of_region in scores.items()
    ]
    evaluation = Evaluation(DEFINITIONS["captk"], RegionLabels(), Path("gt"), Path("pred"), cases)
    header, *rows = (re.split("  +", line) for line in evaluation.text().splitlines()[2:5])
    assert header == ["region", "Dice", "HD95 (mm)", "NSD at 1 mm", "ABD (mm)", "one empty"]
    for row, (region, of_region), one_empty in zip(rows, scores.items(), ("2", "1"), strict=True):
        pairs = zip(of_region.mean(0), of_region.std(0, ddof=1), strict=True)
        assert row == [region, *(f"{mean:.3f} ± {deviation:.3f}" for mean, deviation in pairs), one_empty]
        medians = [evaluation.summary()[region][name]["median"] for name in names]
        assert medians == pytest.approx(np.median(of_region, 0).tolist())


def test_notes_say_what_is_scored(folders):
    assert any("thirds" in note for note in evaluated(folders, "promise12").to_dict()["notes"])
    evaluation = evaluated(folders, "brats2023")
    assert evaluation.notes[1].startswith("Lesion-wise")
    assert {"lesion-wise Dice", "lesion-wise HD95", "false lesions"} <= set(evaluation.cases[0])
    assert "lesion-wise Dice" in evaluation.text()


def test_a_definition_without_lesions_is_refused_where_they_are_asked_for(folders):
    with pytest.raises(
        InputError,
        match=r"definition that scores lesions \(brats2023, .*brats2025-met\), got directed; change "
        r"definition or lesion_wise\.",
    ):
        evaluated(folders, lesion_wise=True)
    assert len(evaluated(folders, "brats2025", lesion_wise=True).cases) == 9


def test_a_resection_cavity_under_2023s_rules_is_noted(folders):
    write_dataset_json(folders[1], {**REGIONS, "resection_cavity": 4})
    notes = {name: " ".join(evaluated(folders, name).notes) for name in ("brats2023", "brats2024")}
    assert "definitions brats2024 and brats2025" in notes["brats2023"]
    assert "by rules of their own" not in notes["brats2024"]


def stopped(monkeypatch, after):
    """Let scoring be interrupted after so many cases; returns the list of cases that are scored."""
    scored, score = [], case_scores._score_case

    def scores(files, **rules):
        if len(scored) == after:
            raise KeyboardInterrupt
        scored.append(files[1].name)
        return score(files, **rules)

    monkeypatch.setattr(case_scores, "_score_case", scores)
    return scored


def test_an_evaluation_that_was_stopped_goes_on(folders, tmp_path, monkeypatch):
    uninterrupted = evaluated(folders, output=tmp_path / "at_once")
    with monkeypatch.context() as context:
        stopped(context, after=2)
        with pytest.raises(KeyboardInterrupt):
            evaluated(folders, output=tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["unfinished_evaluation_directed.jsonl"]
    scored = stopped(monkeypatch, after=9)
    resumed = evaluated(folders, output=tmp_path / "out")
    assert scored == ["BraTS_003.nii.gz"]
    assert resumed.csv() == uninterrupted.csv()
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "evaluation_directed.csv",
        "evaluation_directed.json",
    ]


def test_a_missing_case_is_refused_and_left_out_with_chill(folders):
    (folders[1] / "BraTS_002.nii.gz").unlink()
    with pytest.raises(InputError, match=r"pred: expected the same cases .* got none of BraTS_002; .*change chill"):
        evaluated(folders)
    evaluation = evaluated(folders, chill=True)
    assert len(evaluation.cases) == 6
    assert any("only one of the folders has are left out: 1." in note for note in evaluation.notes)


def test_folders_are_named_by_the_parameter_that_was_wrong(folders, tmp_path):
    with pytest.raises(InputError, match=r"nowhere: expected a folder .*; change references\."):
        evaluated((tmp_path / "nowhere", folders[1]))
    with pytest.raises(InputError, match=r"nowhere: expected a folder .*; change predictions\."):
        evaluated((folders[0], tmp_path / "nowhere"))


def test_the_text_has_a_line_for_each_region(folders):
    lines = evaluated(folders).text().splitlines()
    assert lines[0] == f"{len(CASES)} cases, mean ± SD; labels of {folders[1] / 'dataset.json'}"
    assert lines[2].split("  ")[0] == "region"
    assert [line.split()[0] for line in lines[3:6]] == ["whole_tumor", "tumor_core", "enhancing_tumor"]


def test_json_and_csv_hold_every_score(folders, tmp_path):
    output = tmp_path / "new" / "out"
    evaluation = evaluated(folders, "panoptica", output=output)
    json_file, csv_file = output_files(output, evaluation.definition)
    assert sorted(output.iterdir()) == [csv_file, json_file]
    content, lines = json.loads(json_file.read_text()), list(csv.DictReader(csv_file.open()))
    assert content["definition"] == "panoptica"
    assert content["cases"][-1]["Dice"] is None  # JSON knows no NaN
    assert content["summary"]["enhancing_tumor"]["empty"]["both"] == 1
    assert len(lines) == 9
    assert {line["definition"] for line in lines} == {"panoptica"}
    assert lines[-1]["Dice"] == ""
    assert float(lines[0]["HD95"]) == content["cases"][0]["HD95"] == evaluation.cases[0]["HD95"]


def test_files_are_replaced_only_when_asked(folders, tmp_path):
    evaluated(folders, output=tmp_path / "out")
    before = output_files(tmp_path / "out", DEFINITIONS["directed"])[1].read_bytes()
    with pytest.raises(TargetExistsError):
        evaluated(folders, output=tmp_path / "out")
    evaluated(folders, output=tmp_path / "out", overwrite=True)
    assert output_files(tmp_path / "out", DEFINITIONS["directed"])[1].read_bytes() == before


@pytest.mark.parametrize(
    "place",
    [
        "file",
        "file/below",
        "link",  # that leads nowhere
        pytest.param(
            "/proc/self/below",  # refuses even a superuser
            marks=pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no /proc here"),
        ),
    ],
)
def test_a_folder_that_can_not_be_is_refused_before_anything_is_scored(place, folders, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (folders[1] / "BraTS_001.nii.gz").write_text("no image, as whoever reads it will find")
    with pytest.raises(InputError, match=r"expected a place that can be written to, .*; change output\."):
        evaluated(folders, output=tmp_path / place)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "gt", "link", "pred"]
    assert (tmp_path / "file").read_text() == "mine"


def test_a_second_evaluation_in_the_predictions_folder_finds_the_same_cases(folders):
    for name in ("captk", "directed"):
        assert len(evaluated(folders, name, output=folders[1]).cases) == 9
    assert (folders[1] / "evaluation_captk.json").is_file()
