"""Folders in, figures out, and one sentence for whatever is wrong with a folder."""
import csv
import json
import os
import signal

import numpy as np
import pytest

from nnunetv2_gsp import cli
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.evaluation.cases import labels_in
from nnunetv2_gsp.evaluation.definitions import DEFINITIONS
from nnunetv2_gsp.evaluation.evaluate import check_outputs, evaluate_folders
from tests.evaluation.drawings import blob, write, write_dataset_json

REGIONS = {"background": 0, "whole_tumor": [1, 2, 3], "tumor_core": [1, 3], "enhancing_tumor": 3}
CASES = ("BraTS_001", "BraTS_002", "BraTS_003")


def tumour(seed):
    """Label 2 around label 1; the third case has no label 3."""
    labels = np.zeros((17, 19, 15), np.uint8)
    labels[blob(seed)] = 2
    labels[blob(seed, radius=(2, 3))] = 1
    if seed % 3:
        labels[8, 8:10, 7] = 3
    return labels


@pytest.fixture
def folders(tmp_path):
    """Three cases with regions, as nnU-Net's prediction leaves them."""
    for number, case in enumerate(CASES):
        write(tumour(number + 1), tmp_path / "gt" / f"{case}.nii.gz", (1.0, 1.0, 2.0))
        write(tumour(number + 4), tmp_path / "pred" / f"{case}.nii.gz", (1.0, 1.0, 2.0))
    write_dataset_json(tmp_path / "pred", REGIONS)
    return tmp_path / "gt", tmp_path / "pred"


def evaluated(folders, name="directed", **wishes):
    return evaluate_folders(*folders, DEFINITIONS[name], processes=1, **wishes)


def refused(folders, match, **wishes):
    with pytest.raises(InputError, match=match) as raised:
        evaluated(folders, **wishes)
    assert str(raised.value).count("\n") == 0


def test_every_case_and_region_is_scored_by_the_definition(folders):
    evaluation = evaluated(folders)
    assert [(row["case"], row["region"]) for row in evaluation.rows] == [
        (case, region) for case in CASES for region in ("whole_tumor", "tumor_core", "enhancing_tumor")]
    expected = DEFINITIONS["directed"].score(np.isin(tumour(2), (1, 3)), np.isin(tumour(5), (1, 3)), (1, 1, 2))
    assert evaluation.rows[4] == {"case": "BraTS_002", "region": "tumor_core", **expected}


def test_several_processes_find_the_same(folders):
    rows = evaluate_folders(*folders, DEFINITIONS["brats2023"], processes=2).rows
    assert rows == evaluated(folders, "brats2023").rows


def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_is_one_sentence(folders, monkeypatch):
    monkeypatch.setattr("nnunetv2_gsp.evaluation.evaluate._score_case", kill)
    with pytest.raises(InputError, match="one that was killed"):
        evaluate_folders(*folders, DEFINITIONS["directed"], processes=2)


def test_no_label_in_any_file_is_refused(tmp_path):
    for folder in ("gt", "pred"):
        write(0 * tumour(1), tmp_path / folder / "a.nii.gz")
    refused((tmp_path / "gt", tmp_path / "pred"), "found no label in any file; name a dataset.json with -djfile")


def test_means_leave_out_what_the_definition_leaves_out(folders):
    summary = evaluated(folders, "panoptica").summary()["enhancing_tumor"]
    assert summary["Dice"]["left_out"] == summary["empty"]["both"] == 1
    assert summary["Dice"]["n"] == 2


def test_nnunets_dice_is_nnunets(folders):
    evaluation = pytest.importorskip("nnunetv2.evaluation.evaluate_predictions")
    theirs = evaluation.compute_metrics(str(folders[0] / "BraTS_001.nii.gz"), str(folders[1] / "BraTS_001.nii.gz"),
                                        evaluation.SimpleITKIO(), [(1, 2, 3), (1, 3), (3,)])["metrics"]
    ours = evaluated(folders, "nnunet").rows[:3]
    assert [row["Dice"] for row in ours] == [figures["Dice"] for figures in theirs.values()]


def test_an_ignored_label_counts_for_nothing(folders):
    gt, pred = folders
    reference, prediction = tumour(1), tumour(4)
    reference[:9] = 7
    write(reference, gt / "BraTS_001.nii.gz", (1.0, 1.0, 2.0))
    write_dataset_json(pred, {**REGIONS, "ignore": 7})
    prediction[:9] = reference[:9] = 0
    expected = DEFINITIONS["directed"].score(reference > 0, prediction > 0, (1, 1, 2))
    row = evaluated(folders).rows[0]
    assert {name: row[name] for name in expected} == expected


def test_without_dataset_json_each_label_found_is_scored(folders):
    _, pred = folders
    (pred / "dataset.json").unlink()
    evaluation = evaluated(folders, "captk")
    assert evaluation.regions == ["1", "2", "3"]
    assert [row["empty"] for row in evaluation.rows if row["region"] == "3"] == ["", "", "both"]
    assert len(evaluation.rows) == 9


@pytest.mark.parametrize("place", ["pred", "model", "raw"])
def test_dataset_json_is_found_where_nnunet_leaves_it(place, tmp_path):
    gt, pred = tmp_path / "raw" / "labelsTr", tmp_path / "model" / "fold_0" / "validation"
    for folder in (gt, pred):
        write(tumour(1), folder / "a.nii.gz")
    write_dataset_json({"pred": pred, "model": tmp_path / "model", "raw": tmp_path / "raw"}[place], REGIONS)
    assert evaluated((gt, pred)).regions == ["whole_tumor", "tumor_core", "enhancing_tumor"]


def test_promise12_scores_the_thirds(tmp_path):
    for folder in ("gt", "pred"):
        write(tumour(2) > 0, tmp_path / folder / "Case00.mhd", (2.0, 0.5, 0.5))
    evaluation = evaluated((tmp_path / "gt", tmp_path / "pred"), "promise12")
    assert evaluation.regions == ["1", "1, apex", "1, mid", "1, base"]
    assert [row["aRVD"] for row in evaluation.rows] == [0] * 4
    assert sum(row["reference_mm3"] for row in evaluation.rows[1:]) == evaluation.rows[0]["reference_mm3"]
    assert any("thirds" in note for note in evaluation.to_dict()["notes"])


def test_lesions_go_with_brats2023(folders):
    evaluation = evaluated(folders, "brats2023", lesion_wise=True)
    assert {"lesion-wise Dice", "lesion-wise HD95", "false lesions"} <= set(evaluation.rows[0])
    assert "lesion-wise Dice" in evaluation.table()
    refused(folders, "--definition brats2023 with --lesion-wise, got directed", lesion_wise=True)


def test_2d_images(tmp_path):
    for folder in ("gt", "pred"):
        write(tumour(1)[8], tmp_path / folder / "slice.png", (1.0, 1.0))
    assert {row["HD95"] for row in evaluated((tmp_path / "gt", tmp_path / "pred")).rows} == {0}


def test_a_missing_case_is_refused_and_left_out_with_chill(folders):
    _, pred = folders
    (pred / "BraTS_002.nii.gz").unlink()
    refused(folders, r"found no BraTS_002 in .*pred; .*evaluate: with --chill; compare: move it away")
    evaluation = evaluated(folders, chill=True)
    assert len(evaluation.rows) == 6
    assert any("1 cases that only one" in note for note in evaluation.notes)


def test_predictions_of_another_dataset_are_refused(folders):
    _, pred = folders
    for case in CASES:
        (pred / f"{case}.nii.gz").rename(pred / f"prostate_{case}.nii.gz")
    refused(folders, "such as BraTS_001.nii.gz.*found none of them", chill=True)


@pytest.mark.parametrize(("change", "what"), [
    ({"spacing_mm": (1.0, 1.0, 1.0)}, "spacing"), ({"origin_mm": (0.0, 5.0, 0.0)}, "origin"),
    ({"direction": (-1, 0, 0, 0, 1, 0, 0, 0, 1)}, "direction")])
def test_another_geometry_is_refused(change, what, folders):
    write(tumour(5), folders[1] / "BraTS_002.nii.gz", **{"spacing_mm": (1.0, 1.0, 2.0), **change})
    refused(folders, f"BraTS_002.nii.gz: expected the {what} .* of .*got")


def test_another_size_is_refused(folders):
    write(tumour(5)[1:], folders[1] / "BraTS_002.nii.gz", (1.0, 1.0, 2.0))
    refused(folders, r"the size \(15, 19, 17\) of .*gt.*, got \(15, 19, 16\); resample")


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".mha"])
def test_a_truncated_file_is_refused(ending, folders):
    """Of NIfTI, ITK would read what is missing as zeros."""
    (folders[1] / "BraTS_003.nii.gz").unlink()
    file = folders[1] / f"BraTS_003{ending}"
    write(tumour(5), file, (1.0, 1.0, 2.0))
    file.write_bytes(file.read_bytes()[:-100])
    refused(folders, f"BraTS_003{ending}: expected a whole image, got one that")


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.5])
def test_what_is_no_label_is_refused(value, folders):
    nibabel = pytest.importorskip("nibabel")
    labels = tumour(5).astype(np.float32)
    labels[0, 0, 0] = value
    nibabel.Nifti1Image(labels.T, np.diag([-2.0, -1, 1, 1])).to_filename(folders[1] / "BraTS_002.nii.gz")
    refused(folders, "whole numbers for labels, found others in .*pred/BraTS_002.nii.gz")


def test_labels_stored_as_floats_are_labels(folders):
    import SimpleITK as sitk

    before = evaluated(folders).rows
    file = str(folders[1] / "BraTS_002.nii.gz")
    sitk.WriteImage(sitk.Cast(sitk.ReadImage(file), sitk.sitkFloat32), file)
    assert evaluated(folders).rows == before


def test_other_than_2d_and_3d_is_refused(folders):
    import SimpleITK as sitk

    sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(tumour(5))] * 2), str(folders[1] / "BraTS_002.nii.gz"))
    refused(folders, "a 2D or 3D segmentation of one channel in .*, found 4D with 1 channels")
    write(tumour(5)[0], folders[1] / "BraTS_002.nii.gz", (1.0, 1.0))
    refused(folders, r"the size \(15, 19, 17\) of .*, got \(15, 19\)")


@pytest.mark.parametrize("kind", [np.uint8, np.uint64, np.int16, np.int64])
def test_labels_are_found_in_any_kind_of_integer(kind):
    assert labels_in(np.array([[0, 3], [3, 7]], kind)) == {0, 3, 7}


def test_an_unknown_label_is_refused(folders):
    labels = tumour(5)
    labels[0, 0, 0] = 4
    write(labels, folders[1] / "BraTS_002.nii.gz", (1.0, 1.0, 2.0))
    refused(folders, r"labels among \[0, 1, 2, 3\] .*found \[4\] in .*BraTS_002.*-djfile, beside -pred")


def test_folders_that_are_empty_or_not_there_are_refused(folders, tmp_path):
    (tmp_path / "empty").mkdir()
    refused((folders[0], tmp_path / "empty"), "in .*empty, found none")
    refused((folders[0], tmp_path / "nowhere"), "found none at .*nowhere")


def test_two_files_of_one_case_are_refused(folders):
    write(tumour(1), folders[0] / "BraTS_001.nii")
    refused(folders, "BraTS_001.nii and BraTS_001.nii.gz")


@pytest.mark.parametrize("content", [
    "no json", "{}", '{"labels": [1, 2]}',
    *(f'{{"labels": {{"tumour": {labels}}}}}' for labels in ('"one"', "[]", "1.7", "[1, 1.7]", "1e400")),
    *(f'{{"labels": {{"tumour": 1, "ignore": {label}}}}}' for label in ("[]", "[2, 3]"))])
def test_what_is_no_dataset_json_is_refused(content, folders, tmp_path):
    file = tmp_path / "dataset.json"
    file.write_text(content)
    refused(folders, "nnU-Net's dataset.json.*with -djfile, beside -pred", dataset_json=file)
    refused(folders, "Expected a dataset.json.*with -djfile, beside -pred", dataset_json=tmp_path / "other.json")


def run(*arguments):
    with pytest.raises(SystemExit) as exited:
        cli.main(["evaluate", *map(str, arguments)])
    return exited.value.code


def test_the_command_writes_json_and_csv_and_replaces_nothing(folders, tmp_path, capsys):
    arguments = ("-gt", folders[0], "-pred", folders[1], "--definition", "panoptica", "-np", 1, "-o", tmp_path / "out")
    assert run(*arguments) == 0
    printed = capsys.readouterr().out
    assert "panoptica, BraTS from 2025" in printed
    assert "whole_tumor" in printed
    content = json.loads((tmp_path / "out" / "evaluation_panoptica.json").read_text())
    assert content["definition"] == "panoptica"
    assert content["cases"][-1]["Dice"] is None  # JSON knows no NaN
    assert content["summary"]["enhancing_tumor"]["empty"]["both"] == 1
    lines = list(csv.DictReader((tmp_path / "out" / "evaluation_panoptica.csv").open()))
    assert len(lines) == 9
    assert {line["definition"] for line in lines} == {"panoptica"}
    assert lines[-1]["Dice"] == ""
    assert float(lines[0]["HD95"]) == content["cases"][0]["HD95"]

    before = (tmp_path / "out" / "evaluation_panoptica.csv").read_bytes()
    assert "exists and is not replaced; add --overwrite" in run(*arguments)
    assert run(*arguments, "--overwrite") == 0
    assert (tmp_path / "out" / "evaluation_panoptica.csv").read_bytes() == before
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["evaluation_panoptica.csv",
                                                                          "evaluation_panoptica.json"]


@pytest.mark.parametrize("place", [
    "file", "file/below", "link",  # that leads nowhere
    pytest.param("/proc/self/below",  # refuses even a superuser
                 marks=pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no /proc here"))])
def test_a_folder_that_can_not_be_is_refused_before_anything_is_scored(place, folders, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (folders[1] / "BraTS_001.nii.gz").write_text("no image, as whoever reads it will find")
    assert run("-gt", folders[0], "-pred", folders[1], "-o", tmp_path / place).startswith(
        f"nnUNetv2_gsp evaluate: Expected {tmp_path / place} to be a folder that can be written to, or made; ")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "gt", "link", "pred"]
    assert (tmp_path / "file").read_text() == "mine"


def test_looking_whether_a_folder_can_be_made_makes_none(tmp_path):
    check_outputs([tmp_path / "new" / "below" / "evaluation.json"], overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_a_second_evaluation_in_the_predictions_folder_finds_the_same_cases(folders):
    arguments = ("-gt", folders[0], "-pred", folders[1], "-np", 1)
    assert run(*arguments, "--definition", "captk") == 0
    assert run(*arguments, "--definition", "directed") == 0
    assert (folders[1] / "evaluation_captk.json").is_file()


def test_the_command_says_what_is_wrong_in_one_sentence(folders):
    assert run("-gt", folders[0], "-pred", folders[1], "--definition", "hd").startswith(
        "nnUNetv2_gsp evaluate: Expected a definition among")
