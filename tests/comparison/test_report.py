"""Reports: four files, which agree with each other."""

import csv
import json
import math

import numpy as np
import pytest

from nnunetv2_gsp.comparison.comparison import compare
from nnunetv2_gsp.comparison.pairing import pair_folders
from nnunetv2_gsp.comparison.report import (
    as_markdown,
    compare_folders,
    compare_trained_models,
    output_files,
    write_report,
)
from nnunetv2_gsp.comparison.verdict import verdict
from nnunetv2_gsp.errors import InputError, TargetExistsError
from nnunetv2_gsp.metrics.definitions import DEFINITIONS
from tests.comparison.contenders import DATASET, LABELS, N_CASES, tumour
from tests.metrics.drawings import write, write_dataset_json


def test_markdown_has_the_verdict_and_a_row_a_comparison(comparison):
    text = as_markdown(comparison)
    assert f"**{verdict(comparison)}**" in text
    tested = text.partition("## Ranks over cases")[0]
    assert tested.count("| whole <tumor> |") == 2 * 4
    rows = [line for line in tested.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {11, 12}  # of the primary endpoint, and by region
    for heading in ("Mean, SD and quartiles", "Agreement of volumes", "Results by volume of the reference"):
        assert f"## {heading}" in text


def test_a_report_of_left_out_scores_only_is_written(tmp_path):
    for name in ("gt", "a", "b"):
        write(0 * tumour(0), tmp_path / name / "c.nii.gz")
    write_dataset_json(tmp_path, LABELS)
    result = compare(pair_folders([tmp_path / "a", tmp_path / "b"], tmp_path / "gt"), DEFINITIONS["nnunet"], 1)
    write_report(result, tmp_path / "out")
    assert all(math.isnan(each.p_holm) for each in result.paired)
    assert verdict(result) == "The predictions of b and a are identical in 1 case."


def test_the_files_agree(comparison, tmp_path):
    write_report(comparison, tmp_path / "new" / "out")
    files = output_files(tmp_path / "new" / "out")
    assert sorted((tmp_path / "new" / "out").iterdir()) == sorted(files.values())
    content, lines = json.loads(files["json"].read_text()), list(csv.DictReader(files["csv"].open()))
    assert len(lines) == 2 * N_CASES
    assert {line["definition"] for line in lines} == {content["definition"]} == {"directed"}
    assert [line["case"] for line in lines[:3]] == ["case_00", "case_00", "case_01"]
    volumes = {float(lines[0][name]) for name in ("reference_mm3", "poor: prediction_mm3")}
    assert volumes == {2.0 * (tumour(0, noise) > 0).sum() for noise in (0, 0.5)}
    dice = [float(line["good: Dice"]) - float(line["poor: Dice"]) for line in lines if line["region"] == "core"]
    [stored] = [
        each
        for each in content["comparisons"]
        if (each["contender"], each["region"], each["metric"]) == ("good", "core", "Dice")
    ]
    assert stored["mean_difference"] == pytest.approx(np.mean(dice))
    assert [stored[name] for name in ("family", "without_penalties")] == ["Dice by region", None]
    assert stored["typical_interval"][0] <= stored["typical_difference"] <= stored["typical_interval"][1]
    of_good = content["contenders"]["good"]
    core = [line for line in lines if line["region"] == "core"]
    assert of_good["summary"]["core"]["Dice"]["q1"] == pytest.approx(
        np.quantile([float(line["good: Dice"]) for line in core], 0.25)
    )
    assert of_good["summary"]["core"]["volume_agreement_ml"]["n"] == N_CASES
    assert of_good["ranks"]["primary"] < content["contenders"]["poor"]["ranks"]["primary"]
    assert content["primary"]["endpoint"] == "mean Dice over regions"
    assert [each["contender"] for each in content["primary"]["comparisons"]] == ["good", "equal", "equal"]
    assert content["primary"]["identical_cases"][1] == {"contenders": ["poor", "equal"], "n": N_CASES}


def test_files_are_replaced_only_when_asked(comparison, tmp_path):
    write_report(comparison, tmp_path)
    before = {file: file.read_bytes() for file in output_files(tmp_path).values()}
    with pytest.raises(TargetExistsError):
        write_report(comparison, tmp_path)
    write_report(comparison, tmp_path, overwrite=True)
    assert {file: file.read_bytes() for file in output_files(tmp_path).values()} == before


def test_where_nothing_can_be_written_nothing_is_read(tmp_path):
    (tmp_path / "file").touch()
    nowhere = [tmp_path / "a", tmp_path / "b"]
    with pytest.raises(InputError, match="place that can be written to"):
        compare_folders(nowhere, tmp_path / "gt", DEFINITIONS["directed"], tmp_path / "file")
    with pytest.raises(InputError, match="place that can be written to"):
        compare_trained_models("1", ["a", "b"], DEFINITIONS["directed"], tmp_path / "file")


def test_both_ways_end_in_a_report(folders, trained, tmp_path):
    of_folders = compare_folders(
        [folders / "poor", folders / "good"],
        folders / "gt",
        DEFINITIONS["directed"],
        tmp_path / "folders",
        images=folders / "images",
        processes=1,
    )
    of_models = compare_trained_models(
        DATASET,
        ["nnUNetTrainer", "nnUNetTrainerGSP"],
        DEFINITIONS["directed"],
        tmp_path / "models",
        folds=["0", "1"],
        processes=1,
    )
    for comparison, folder in ((of_folders, "folders"), (of_models, "models")):
        content = json.loads((tmp_path / folder / "comparison.json").read_text())
        assert content["verdict"] == verdict(comparison)
    assert of_folders.pairing.images == folders / "images"
