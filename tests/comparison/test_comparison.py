"""Comparisons of generated folders and models: what is paired, what is refused, and what the verdict dares to say."""
import csv
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from nnunetv2_gsp import cli
from nnunetv2_gsp.comparison import pictures as figures
from nnunetv2_gsp.comparison.comparison import Comparison, compare, prediction_folders, trained_models
from nnunetv2_gsp.comparison.costs import Cost, Protocol, differences, read_checkpoint, read_model
from nnunetv2_gsp.comparison.report import _scaled, as_html, as_markdown, write_report
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.metrics.definitions import DEFINITIONS
from nnunetv2_gsp.profiling import count_architecture
from tests.metrics.drawings import blob, write, write_dataset_json

LABELS = {"background": 0, "whole <tumor>": [1, 2], "core": 2}
N_CASES = 16
EPOCH_S, N_EPOCHS = 2.5, 4
DATASET, CONFIGURATION = "Dataset777_Compared", "3d_fullres"


def tumour(seed, noise=0.0):
    labels = np.zeros((17, 19, 15), np.uint8)
    labels[blob(seed)] = 1
    labels[blob(seed, radius=(2, 3))] = 2
    flipped = np.random.default_rng(seed + 1000).random(labels.shape) < noise
    return np.where(flipped & (labels > 0), 0, labels)


def write_predictions(folder, noise, cases=range(N_CASES)):
    for case in cases:
        write(tumour(case, noise), folder / f"case_{case:02d}.nii.gz", (2.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """References, three folders of predictions of growing quality, and images."""
    base = tmp_path_factory.mktemp("folders")
    for name, noise in (("gt", 0.0), ("poor", 0.5), ("good", 0.05), ("equal", 0.5)):
        write_predictions(base / name, noise)
    for case in range(N_CASES):
        write(50 * tumour(case) + 40, base / "images" / f"case_{case:02d}_0000.nii.gz", (2.0, 1.0, 1.0))
    write_dataset_json(base, LABELS)
    return base


@pytest.fixture(scope="module")
def comparison(folders):
    task = prediction_folders([folders / name for name in ("poor", "good", "equal")], folders / "gt",
                              images=folders / "images")
    return compare(task, DEFINITIONS["directed"], processes=1)


def test_each_contender_is_tested_against_the_first(comparison):
    assert [(each.contender, each.region, each.metric) for each in comparison.paired[:5]] == [
        ("good", "whole <tumor>", "Dice"), ("good", "whole <tumor>", "HD95"), ("good", "whole <tumor>", "NSD at 1 mm"),
        ("good", "whole <tumor>", "ABD"), ("good", "core", "Dice")]
    assert len(comparison.paired) == 2 * 2 * 4
    assert {each.baseline for each in comparison.paired} == {"poor"}
    assert all(each.n == N_CASES for each in comparison.paired)


def test_the_verdict_names_what_is_significant_and_claims_no_equality(comparison):
    about_good, about_equal = re.split(r"(?<=\.) (?=On)", comparison.verdict())
    assert "good is significantly better in" in about_good
    assert "Dice of core (+0." in about_good
    assert "worse" not in about_good
    assert about_equal == (f"On {N_CASES} cases no difference between equal and poor is significant in any of 8 "
                           f"comparisons (Wilcoxon's test, Holm's correction, p < 0.05), which does not show that they "
                           f"are equal.")


def test_few_cases_cannot_show_anything_and_the_verdict_says_so(folders, tmp_path):
    for name, noise in (("gt", 0), ("poor", 0.5), ("good", 0.05)):
        write_predictions(tmp_path / name, noise, range(4))
    verdict = compare(prediction_folders([tmp_path / "poor", tmp_path / "good"], tmp_path / "gt"),
                      DEFINITIONS["directed"], 1).verdict()
    assert "no difference" in verdict
    assert "with so few cases these tests could not show any" in verdict


def test_penalty_cases_are_counted(folders, tmp_path):
    write_predictions(tmp_path / "empty", 0.5)
    for case in (3, 5):
        write(0 * tumour(case), tmp_path / "empty" / f"case_{case:02d}.nii.gz", (2.0, 1.0, 1.0))
    task = prediction_folders([folders / "good", tmp_path / "empty"], folders / "gt")
    by_definition = {name: compare(task, DEFINITIONS[name], 1).paired[1] for name in ("directed", "nnunet")}
    assert (by_definition["directed"].baseline_penalties, by_definition["directed"].contender_penalties) == (0, 2)
    assert by_definition["directed"].contender_mean > 2 * 374 / N_CASES
    # left out, so the pairs are dropped, and counted
    assert (by_definition["nnunet"].n, by_definition["nnunet"].dropped) == (N_CASES - 2, 2)


def test_cases_are_ranked_from_the_worst_on(comparison):
    dice = {case: np.mean([row["Dice"] for rows in comparison.rows.values() for row in rows if row["case"] == case])
            for case in comparison.cases}
    assert comparison.ranked_cases() == sorted(dice, key=dice.get)


def test_a_label_that_one_contender_invents_is_empty_in_the_others(tmp_path):
    for name in ("gt", "a", "b"):
        for case in range(2):
            labels = tumour(case)
            if name == "b":
                labels[0, 0, 0] = 5
            write(labels, tmp_path / name / f"c{case}.nii.gz")
    result = compare(prediction_folders([tmp_path / "a", tmp_path / "b"], tmp_path / "gt"), DEFINITIONS["directed"], 1)
    assert result.regions == ["1", "2", "5"]
    assert result.figures("a", "5", "empty") == ["both"] * 2
    assert result.figures("b", "5", "empty") == ["reference"] * 2
    assert result.figures("a", "5", "Dice") == [1, 1]


def test_other_cases_are_refused(folders, tmp_path):
    write_predictions(tmp_path / "fewer", 0, range(N_CASES - 1))
    with pytest.raises(InputError, match=rf"found no case_{N_CASES - 1} in .*fewer"):
        prediction_folders([folders / "good", tmp_path / "fewer"], folders / "gt")
    with pytest.raises(InputError, match="two or more"):
        prediction_folders([folders / "good"], folders / "gt")
    with pytest.raises(InputError, match="two or more"):
        prediction_folders([folders / "good", folders / "good"], folders / "gt")


def test_other_regions_or_another_ignore_label_are_refused(folders, tmp_path):
    for name in ("a", "b", "without"):
        write_predictions(tmp_path / name, 0)
    write_dataset_json(tmp_path / "a", LABELS)
    for labels, found in (({**LABELS, "core": 1}, "core 1"), ({**LABELS, "ignore": 3}, "ignore 3")):
        write_dataset_json(tmp_path / "b", labels)
        with pytest.raises(InputError, match=rf"core 2 in the .*/a/dataset.json, but .*{found} in the .*/b/dataset"):
            prediction_folders([tmp_path / "a", tmp_path / "b"], folders / "gt")
        # whoever names a dataset.json decides
        prediction_folders([tmp_path / "a", tmp_path / "b"], folders / "gt", tmp_path / "a" / "dataset.json")
    write_dataset_json(tmp_path / "b", {"core": 2, "whole <tumor>": [2, 1], "background": 0})
    task = prediction_folders([tmp_path / "without", tmp_path / "a", tmp_path / "b"], folders / "gt")
    assert list(task.labels.regions) == ["whole <tumor>", "core"]


def test_folders_of_one_name_are_told_apart_by_their_paths(tmp_path):
    for name in ("a", "b"):
        write_predictions(tmp_path / name / "predictions", 0, range(1))
    task = prediction_folders([tmp_path / "a/predictions", tmp_path / "b/predictions"], tmp_path / "a/predictions")
    assert [contender.name for contender in task.contenders] == ["a/predictions", "b/predictions"]


class Page(HTMLParser):
    """What a page holds, and whether its elements close."""

    VOID = ("meta", "img", "br", "wbr")

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.images, self.references, self.text = [], [], [], [], ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        attributes = dict(attrs)
        self.references += [attributes[name] for name in ("src", "href", "srcset", "action") if name in attributes]
        if tag == "img":
            self.images.append(attributes)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_is_whole_and_needs_nothing_else(comparison):
    html = as_html(comparison)
    page = Page(html)
    assert page.open == []
    assert all(reference.startswith("data:image/") for reference in page.references)
    assert not re.search(r"url\(|@import|<script|<link|https?://", html)
    assert all(len(image["alt"]) > 20 for image in page.images)
    alts = [image["alt"] for image in page.images]
    # two contenders × two regions × Dice and HD95
    assert sum(alt.startswith("Scatter of") for alt in alts) == 8
    assert sum(alt.startswith("Sorted differences of") for alt in alts) == 8
    # five worst and five median cases, an image and two regions each
    assert sum("outlines of" in alt for alt in alts) == 20
    assert sum("without outlines" in alt for alt in alts) == 10
    assert page.tags.count("figcaption") == 2 * 2 + 10
    assert comparison.verdict() in page.text
    assert "whole <tumor>" in page.text
    for note in comparison.notes:
        assert note in page.text


def test_svgs_inside_name_no_other_file(comparison):
    import base64

    for image in Page(as_html(comparison)).images:
        kind, content = image["src"].split(";base64,")
        content = base64.b64decode(content, validate=True)
        if kind == "data:image/png":
            assert content.startswith(b"\x89PNG")
        else:
            assert not re.search(rb'href="(?!#)|url\((?!#)', content)


def test_the_page_is_the_same_at_every_run(comparison):
    assert as_html(comparison) == as_html(comparison)


def test_pictures_show_the_slice_where_most_is_wrong(comparison):
    [image, whole, core] = figures.slices(comparison, "case_03")
    wrong = sum((tumour(3) != tumour(3, noise)).sum(axis=(1, 2)) * times for noise, times in ((0.5, 2), (0.05, 1)))
    assert f"slice {np.argmax(wrong) + 1} of 17" in image.alt
    n_voxels = (tumour(3)[np.argmax(wrong)] > 0).sum()
    assert f"voxels inside: reference {n_voxels}, poor" in whole.alt
    assert core.title == "core"


@pytest.mark.parametrize("shape", [(3, 1, 6), (3, 6, 1), (1, 1, 1)])
def test_images_one_voxel_wide_are_drawn(shape, tmp_path):
    for name in ("gt", "a", "b"):
        write(np.ones(shape), tmp_path / name / "c.nii.gz")
    task = prediction_folders([tmp_path / "a", tmp_path / "b"], tmp_path / "gt")
    [picture] = figures.slices(compare(task, DEFINITIONS["directed"], 1), "c")
    assert picture.uri.startswith("data:image/png")


def test_a_contender_called_reference_is_not_the_truth(folders, tmp_path):
    for case in range(N_CASES):
        write(0 * tumour(case), tmp_path / "reference" / f"case_{case:02d}.nii.gz", (2.0, 1.0, 1.0))
    task = prediction_folders([tmp_path / "reference", folders / "good"], folders / "gt")
    whole = figures.slices(compare(task, DEFINITIONS["directed"], 1), "case_00")[0]
    first, second, good = re.findall(r"(?:reference|good) (\d+)", whole.alt)
    assert int(first) > int(good) > int(second) == 0


def test_without_images_outlines_are_drawn_all_the_same(folders):
    task = prediction_folders([folders / "poor", folders / "good"], folders / "gt")
    assert [picture.title for picture in figures.slices(compare(task, DEFINITIONS["captk"], 1), "case_00")] == [
        "whole <tumor>", "core"]


def test_where_no_image_fits_the_picture_says_so(folders, tmp_path):
    write(tumour(0), tmp_path / "case_00_0000.nii.gz")
    write(tumour(1)[1:], tmp_path / "case_01_0000.nii.gz")
    task = prediction_folders([folders / "poor", folders / "good"], folders / "gt", images=tmp_path)
    result = compare(task, DEFINITIONS["captk"], 1)
    assert [figures.slices(result, f"case_0{case}")[0].title for case in range(3)] == [
        "image", "no image that fits", "no image that fits"]


@pytest.mark.parametrize("images", ["nowhere", "gt"])
def test_images_of_no_case_are_refused(images, folders):
    with pytest.raises(InputError, match=rf"such as case_00_0000.nii.gz\) in .*{images}, found none; name another"):
        prediction_folders([folders / "poor", folders / "good"], folders / "gt", images=folders / images)


def test_markdown_has_the_verdict_and_a_row_a_comparison(comparison):
    text = as_markdown(comparison)
    assert f"**{comparison.verdict()}**" in text
    assert text.count("| whole <tumor> |") == 2 * 4
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {13}


def run(*arguments):
    with pytest.raises(SystemExit) as exited:
        cli.main(["compare", *map(str, arguments)])
    return exited.value.code


def test_the_command_writes_four_files_and_replaces_none(folders, tmp_path, capsys):
    arguments = ("-pred", folders / "poor", folders / "good", "-gt", folders / "gt", "-o", tmp_path / "out",
                 "--definition", "panoptica", "-np", 1)
    assert run(*arguments) == 0
    assert "good is significantly better" in capsys.readouterr().out
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        f"comparison.{kind}" for kind in ("csv", "html", "json", "md")]
    content = json.loads((tmp_path / "out" / "comparison.json").read_text())
    lines = list(csv.DictReader((tmp_path / "out" / "comparison.csv").open()))
    assert len(lines) == 2 * N_CASES
    assert {line["definition"] for line in lines} == {content["definition"]} == {"panoptica"}
    dice = [float(line["good: Dice"]) - float(line["poor: Dice"]) for line in lines if line["region"] == "core"]
    [stored] = [each for each in content["comparisons"] if (each["region"], each["metric"]) == ("core", "Dice")]
    assert stored["mean_difference"] == pytest.approx(np.mean(dice))
    assert "exists and is not replaced; add --overwrite" in run(*arguments)
    assert run(*arguments, "--overwrite") == 0
    assert "html to be a folder that can be written to" in run(*arguments, "-o", tmp_path / "out" / "comparison.html")


@pytest.mark.parametrize("arguments", [
    (), ("-d", "1"), ("-pred", "a", "b"), ("-gt", "a"), ("-d", "1", "-tr", "a", "b", "-pred", "a"),
    ("-pred", "a", "b", "-gt", "c", "-f", "0"), ("-d", "1", "-tr", "a", "b", "-i", "images")])
def test_the_command_takes_models_or_folders_not_both(arguments, tmp_path):
    assert "Expected either -d and -tr" in run(*arguments, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


ARCHITECTURE = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {"n_stages": 2, "features_per_stage": [4, 8], "conv_op": "torch.nn.modules.conv.Conv3d",
                    "kernel_sizes": [[3] * 3] * 2, "strides": [[1] * 3, [2] * 3], "n_conv_per_stage": [1, 1],
                    "n_conv_per_stage_decoder": [1], "conv_bias": True,
                    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                    "norm_op_kwargs": {"eps": 1e-5, "affine": True}, "dropout_op": None, "dropout_op_kwargs": None,
                    "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True}},
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"]}
PLANS = {"plans_name": "nnUNetPlans", "configurations": {CONFIGURATION: {
    "patch_size": [8, 16, 16], "batch_size": 2, "architecture": ARCHITECTURE}}}


def write_model(results, trainer, noise, folds, batch_size=2, n_epochs=N_EPOCHS):
    """Write what nnU-Net leaves of a trained model; `folds` gives each one's validation cases."""
    model = results / DATASET / f"{trainer}__nnUNetPlans__{CONFIGURATION}"
    model.mkdir(parents=True)
    (model / "dataset.json").write_text(json.dumps({"labels": LABELS, "channel_names": {"0": "MR"},
                                                    "regions_class_order": [1, 2], "file_ending": ".nii.gz"}))
    plans = json.loads(json.dumps(PLANS))
    plans["configurations"][CONFIGURATION]["batch_size"] = batch_size
    (model / "plans.json").write_text(json.dumps(plans))
    n_parameters, _ = count_architecture(ARCHITECTURE, [8, 16, 16], 1, 2)
    for fold, cases in enumerate(folds):
        folder = model / f"fold_{fold}"
        write_predictions(folder / "validation", noise, cases)
        starts = [10.0 * epoch for epoch in range(n_epochs)]
        log = {"train_losses": [1 / (epoch + 1) for epoch in range(n_epochs)], "val_losses": [0.5] * n_epochs,
               "ema_fg_dice": [np.float64(0.1 * epoch) for epoch in range(n_epochs)], "epoch_start_timestamps": starts,
               "epoch_end_timestamps": [start + EPOCH_S for start in starts]}
        weight = torch.zeros(n_parameters)
        torch.save({"network_weights": {"a": weight, "again": weight.detach(), "settings": torch.ones(3, dtype=int)},
                    "logging": log}, folder / "checkpoint_final.pth")
        (folder / "training_log_2026_1_1_00_00_00.txt").write_text("".join(
            f"2026-01-01 00:00:{3 * number:02d}.500000: predicting case_{case:02d} \n"
            for number, case in enumerate(cases)))
        (folder / "debug.json").write_text(json.dumps({"device": "cpu"}))
    return model


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Two models of two folds in nnU-Net's folders."""
    import nnunetv2.paths

    folds = [range(0, 7), range(7, N_CASES)]
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
        (tmp_path / name / DATASET).mkdir(parents=True)
    assert nnunetv2.paths.nnUNet_results.is_set()
    write_predictions(tmp_path / "preprocessed" / DATASET / "gt_segmentations", 0)
    splits = [{"train": [], "val": [f"case_{case:02d}" for case in fold]} for fold in folds]
    (tmp_path / "preprocessed" / DATASET / "splits_final.json").write_text(json.dumps(splits))
    write_model(tmp_path / "results", "nnUNetTrainer", 0.5, folds)
    write_model(tmp_path / "results", "nnUNetTrainerGSP", 0.05, folds)
    return tmp_path


def models(trainers=("nnUNetTrainer", "nnUNetTrainerGSP"), **wishes):
    return trained_models(DATASET, CONFIGURATION, trainers, **{"folds": ("0", "1"), **wishes})


def test_models_are_compared_on_their_validation(trained):
    task = models()
    assert [contender.name for contender in task.contenders] == ["nnUNetTrainer", "nnUNetTrainerGSP"]
    assert task.folds["case_03"] == "0"
    assert task.folds["case_09"] == "1"
    result = compare(task, DEFINITIONS["directed"], 1)
    assert result.caveats == []
    assert "nnUNetTrainerGSP is significantly better" in result.verdict()
    page = Page(as_html(result))
    assert sum(image["alt"].startswith("Learning curves") for image in page.images) == 3
    assert "What it cost" in page.text
    assert "fold 1" in page.text


def test_costs_are_what_nnunets_files_say(trained):
    model = trained / "results" / DATASET / f"nnUNetTrainer__nnUNetPlans__{CONFIGURATION}"
    cost, protocol, curves = read_model(model, CONFIGURATION, ["0", "1"])
    assert cost == Cost(*count_architecture(ARCHITECTURE, [8, 16, 16], 1, 2), EPOCH_S, 3.0, None,
                        (model / "fold_0" / "checkpoint_final.pth").stat().st_size)
    assert protocol == Protocol((8, 16, 16), 2, (N_EPOCHS, N_EPOCHS), ("cpu",))
    assert [each.fold for each in curves] == ["0", "1"]
    assert curves[0].pseudo_dice == pytest.approx([0, 0.1, 0.2, 0.3])


def test_macs_are_blank_where_the_checkpoint_holds_another_network(trained):
    model = write_model(trained / "results", "nnUNetTrainerOwnNetwork", 0, [range(1)])
    checkpoint = torch.load(model / "fold_0" / "checkpoint_final.pth", weights_only=False)
    checkpoint["network_weights"]["more"] = torch.ones(5)
    torch.save(checkpoint, model / "fold_0" / "checkpoint_final.pth")
    cost, _, _ = read_model(model, CONFIGURATION, ["0"])
    assert cost.macs is None
    assert cost.parameters == count_architecture(ARCHITECTURE, [8, 16, 16], 1, 2)[0] + 5


def test_what_nobody_logged_is_blank(trained):
    model = trained / "results" / DATASET / f"nnUNetTrainer__nnUNetPlans__{CONFIGURATION}"
    for fold in ("fold_0", "fold_1"):
        for file in ("checkpoint_final.pth", "training_log_2026_1_1_00_00_00.txt", "debug.json"):
            (model / fold / file).unlink()
    cost, protocol, curves = read_model(model, CONFIGURATION, ["0", "1"])
    assert cost == Cost()
    assert protocol == Protocol((8, 16, 16), 2, None, None)
    assert curves == []


@pytest.mark.parametrize("logging", [None, {}, {"train_losses": None, "val_losses": ["?"]}])
def test_odd_files_leave_blanks(logging, trained):
    model = trained / "results" / DATASET / f"nnUNetTrainer__nnUNetPlans__{CONFIGURATION}"
    folder = model / "fold_0"
    checkpoint = torch.load(folder / "checkpoint_final.pth", weights_only=False)
    torch.save({**checkpoint, "logging": logging}, folder / "checkpoint_final.pth")
    (folder / "debug.json").write_text("[]")
    (folder / "training_log_2026_1_1_00_00_00.txt").write_text(
        "2026-99-01 00:00:00: predicting a\n2026-99-01 00:00:01: predicting b\nGPU memory: ... GB, 1.2.3 GB\n")
    (model / "dataset.json").write_text("{no json")
    plans = json.loads((model / "plans.json").read_text())
    plans["configurations"][CONFIGURATION] = {"architecture": ARCHITECTURE}
    (model / "plans.json").write_text(json.dumps(plans))
    cost, protocol, curves = read_model(model, CONFIGURATION, ["0"])
    assert (cost.macs, cost.epoch_s, cost.prediction_s) == (None, None, None)
    assert cost.parameters > 0
    assert protocol == Protocol()
    assert curves == []


@pytest.mark.parametrize("content", ["[]", "{no json", "{}"])
def test_what_are_no_plans_is_refused(content, trained):
    model = trained / "results" / DATASET / f"nnUNetTrainer__nnUNetPlans__{CONFIGURATION}"
    (model / "plans.json").write_text(content)
    with pytest.raises(InputError, match=r"plans\.json with 3d_fullres"):
        read_model(model, CONFIGURATION, ["0"])


def test_gpu_memory_is_the_largest_that_a_log_names(trained):
    model = trained / "results" / DATASET / f"nnUNetTrainer__nnUNetPlans__{CONFIGURATION}"
    (model / "fold_1" / "training_log_2026_1_2_00_00_00.txt").write_text(
        "peak GPU memory: 512 MiB\nmax CUDA memory allocated 7.25 GiB\n")
    assert read_model(model, CONFIGURATION, ["0", "1"])[0].gpu_memory_gib == 7.25


def test_other_training_is_stated_above_the_verdict(trained):
    write_model(trained / "results", "nnUNetTrainer_long", 0.05, [range(0, 7), range(7, N_CASES)], 4, 8)
    result = compare(models(("nnUNetTrainer", "nnUNetTrainer_long")), DEFINITIONS["directed"], 1)
    assert result.caveats == ["Trained with another batch: nnUNetTrainer 2, nnUNetTrainer_long 4.",
                              "Trained with another number of epochs: nnUNetTrainer 4, nnUNetTrainer_long 8.",
                              "So a difference is not the network's alone."]
    text = Page(as_html(result)).text
    assert text.index(result.caveats[0]) < text.index("Verdict.")
    markdown = as_markdown(result)
    assert markdown.index(result.caveats[0]) < markdown.index(result.verdict())


def test_models_of_other_regions_are_refused(trained):
    model = trained / "results" / DATASET / f"nnUNetTrainerGSP__nnUNetPlans__{CONFIGURATION}"
    write_dataset_json(model, {**LABELS, "ignore": 3})
    with pytest.raises(InputError, match=r"nnUNetTrainer__.*, but .*ignore 3 in the .*nnUNetTrainerGSP__"):
        models()


def test_an_unknown_length_of_training_is_stated(comparison, trained):
    for fold in ("fold_0", "fold_1"):
        (trained / "results" / DATASET / f"nnUNetTrainerGSP__nnUNetPlans__{CONFIGURATION}" / fold
         / "checkpoint_final.pth").unlink()
    task = models(folds=("0", "0", "1"))
    assert task.title.endswith("folds 0, 1")
    assert Comparison(task, comparison.definition, {}, []).caveats == [
        "How long nnUNetTrainerGSP was trained is not known."]
    assert comparison.caveats == []  # of folders nothing is known


def test_trained_on_the_cases_they_are_compared_on(comparison, trained):
    for trainer in ("nnUNetTrainer", "nnUNetTrainerGSP"):
        model = trained / "results" / DATASET / f"{trainer}__nnUNetPlans__{CONFIGURATION}"
        (model / "fold_0").rename(model / "fold_all")
        write_predictions(model / "fold_all" / "validation", 0)
    [caveat] = Comparison(models(folds=("all",)), comparison.definition, {}, []).caveats
    assert caveat == "All were trained on these very cases (fold all), so this says nothing of new ones."


@pytest.mark.parametrize(("count", "shown"), [
    (None, ""), (0, "0"), (999, "999"), (1000, "1 k"), (999_499, "999 k"), (999_600, "1 M"), (10 ** 9, "1 G"),
    (31_195_784, "31.2 M")])
def test_counts_are_rounded_to_three_digits(count, shown):
    assert _scaled(count) == shown


def test_protocols_that_are_not_known_are_not_compared():
    assert differences({"a": Protocol(), "b": Protocol((8, 8, 8), 2, (5,), None)}) == []
    assert differences({"a": Protocol((8, 8, 8)), "b": Protocol((8, 8, 16))}) == [
        "Trained with another patch: a 8×8×8, b 8×8×16."]


def test_validation_of_other_cases_is_refused(trained):
    folder = trained / "results" / DATASET / f"nnUNetTrainerGSP__nnUNetPlans__{CONFIGURATION}" / "fold_1" / "validation"
    (folder / "case_07.nii.gz").rename(folder / "case_00.nii.gz")
    with pytest.raises(InputError, match=r"nnUNetTrainerGSP.*lacks case_07 and has besides case_00"):
        models()


def test_a_missing_reference_is_refused(trained):
    (trained / "preprocessed" / DATASET / "gt_segmentations" / "case_07.nii.gz").unlink()
    with pytest.raises(InputError, match=r"in .*gt_segmentations, found no case_07; copy what is missing"):
        models()


@pytest.mark.parametrize("content", ["{no json", None])
def test_a_model_without_labels_is_refused(content, trained):
    file = trained / "results" / DATASET / f"nnUNetTrainer__nnUNetPlans__{CONFIGURATION}" / "dataset.json"
    file.unlink()
    if content is not None:
        file.write_text(content)
    with pytest.raises(InputError, match=r"(mend it|put it there), or name .* with -djfile, beside -pred"):
        models()


def test_folder_variables_that_are_empty_are_not_set(trained, monkeypatch, tmp_path):
    (tmp_path / DATASET / "imagesTr").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("nnUNet_raw", "")
    assert models().images is None
    monkeypatch.setenv("nnUNet_results", "")
    with pytest.raises(InputError, match="nnUNet_results to name a folder, got none"):
        models()


@pytest.mark.parametrize(("wishes", "match"), [
    ({"trainers": ("nnUNetTrainer", "nnUNetTrainerNone")}, "trained model .*nnUNetTrainerNone"),
    ({"folds": ("0", "2")}, r"folds 0, 2 in .*splits_final.json"), ({"folds": ("all", "0")}, "-f all alone"),
    ({"folds": ("all",)}, "validation of fold all"), ({"plans": ("a", "b", "c")}, "one for each of 2, got 3"),
    ({"plans": ("nnUNetPlans", "nnUNetOther")}, "trained model .*nnUNetOther"),
    ({"trainers": ("nnUNetTrainer",)}, "two or more")])
def test_what_was_not_trained_is_refused(wishes, match, trained):
    with pytest.raises(InputError, match=match):
        models(**wishes)


def test_a_broken_checkpoint_is_refused(trained):
    file = trained / "results" / DATASET / f"nnUNetTrainer__nnUNetPlans__{CONFIGURATION}" / "fold_0"
    (file / "checkpoint_final.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match=r"nnU-Net's checkpoint at .*fold_0"):
        read_checkpoint(file / "checkpoint_final.pth")


def test_a_report_of_left_out_figures_only_is_written(tmp_path):
    for name in ("gt", "a", "b"):
        write(0 * tumour(0), tmp_path / name / "c.nii.gz")
    write_dataset_json(tmp_path, LABELS)
    result = compare(prediction_folders([tmp_path / "a", tmp_path / "b"], tmp_path / "gt"), DEFINITIONS["nnunet"], 1)
    write_report(result, tmp_path / "out", overwrite=False)
    assert all(math.isnan(each.p_holm) for each in result.paired)
    assert result.verdict() == "On 1 cases nothing could be tested between b and a: no case has figures of both."


def test_what_could_not_be_tested_is_no_comparison(comparison):
    untested = [replace(each, p=math.nan, p_holm=math.nan) if each.region == "core" else each
                for each in comparison.paired]
    about_good, about_equal = re.split(r"(?<=\.) (?=On)", replace(comparison, paired=untested).verdict())
    assert "of 4 comparisons with poor" in about_good
    assert "in any of 4 comparisons" in about_equal
    for sentence in (about_good, about_equal):
        assert sentence.endswith("; 4 more could not be tested, as no case has figures of both.")
