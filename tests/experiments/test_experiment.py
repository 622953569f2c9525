"""What the verb says before it trains: the listing, and one sentence for what a user can mend."""

import json
import shutil
import sys
from functools import partial

import pytest

from nnunetv2_gsp import slurm
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.experiments.experiment import Experiment, run_experiments
from nnunetv2_gsp.experiments.runs import locked
from nnunetv2_gsp.plans import write_gsp_plans
from nnunetv2_gsp.slurm import SlurmResources
from tests.experiments.conftest import DATASET, ID

PLANNED_FILES = {"dataset.json", "dataset_fingerprint.json", "nnUNetPlans.json"}
run = partial(run_experiments, dataset=str(ID), device="cpu")


@pytest.fixture
def folders(planned):
    """Check that nothing was written; gives the dataset's preprocessed folder."""
    preprocessed = planned / "nnUNet_preprocessed" / DATASET
    yield preprocessed
    assert {file.name for file in preprocessed.iterdir()} == PLANNED_FILES
    assert not list((planned / "nnUNet_results").iterdir())


@pytest.mark.parametrize(
    ("table", "n_runs"),
    [
        ("table1", 2),
        ("table2", 16),
        ("ratio", 2),
        ("brats-positions", 4),
        ("brats-location", 3),
        ("cross-validation", 10),
        ("networks", 65),
    ],
)
def test_dry_run_lists_every_run_and_writes_nothing(table, n_runs, folders, capfd):
    listing = run(table, dry_run=True).text
    assert listing.count(": not started") == listing.count("cpu_training Dataset904_Ellipsoid 3d_fullres") == n_runs
    assert listing.count("nnUNetv2_preprocess") == 1
    assert capfd.readouterr().out == ""


def test_a_gsp_trainer_has_no_row_of_the_planned_network(folders):
    listing = run("networks", trainers=["nnUNetTrainerGSP"], folds=[0], dry_run=True).text
    assert listing.count(": not started") == 12
    assert "plans nnUNetPlans," not in listing
    assert "plans nnUNetPlans," in run("cross-validation", trainers=["nnUNetTrainerGSP"], dry_run=True).text


def test_dry_run_names_plans_trainer_fold_and_command(folders):
    plans = "nnUNetGSPPlans_promise12_prosgv3_ratio1"
    assert (
        f"C_s = C: not started\n    plans {plans}, trainer nnUNetTrainerGSPPaper, fold 0\n"
        f"    {sys.executable} -m nnunetv2_gsp.experiments.cpu_training "
        f"{DATASET} 3d_fullres 0 -p {plans} -tr nnUNetTrainerGSPPaper\n"
    ) in run("ratio", dry_run=True).text


def test_settings_given_show_in_the_plans_name(folders):
    def names(**options):
        return [
            each.plans
            for each in Experiment(
                "ratio", folders, **{"configuration": "3d_fullres", "plans_name": "nnUNetPlans", **options}
            ).runs
        ]

    usual = ["nnUNetGSPPlans_promise12_prosgv3", "nnUNetGSPPlans_promise12_prosgv3_ratio1"]
    assert names() == usual
    [one, _], [same, _], [other, _] = (
        names(settings=settings)
        for settings in ({"batch_size": 2, "kernel": 3}, {"kernel": 3, "batch_size": 2}, {"batch_size": 3})
    )
    assert one == same != other
    assert one.startswith(usual[0] + "_set-")
    assert names(configuration="3d_lowres")[0] == usual[0] + "_3d_lowres"
    assert names(plans_name="nnUNetResEncUNetMPlans")[0] == usual[0] + "_nnUNetResEncUNetMPlans"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"dataset": "321"}, "id of a dataset"),
        ({"plans_name": "nnUNetOtherPlans"}, "nnUNetOtherPlans.json: expected plans"),
        ({"configuration": "3d_lowres"}, "got 3d_lowres"),
        (
            {"trainers": ["nnUNetTrainerOfNobody"]},
            "Expected a trainer that nnU-Net finds here, got nnUNetTrainerOfNobody",
        ),
        *(
            (
                {"trainers": [trainer]},
                f"Expected a trainer that nnU-Net finds here, got {trainer}",
            )  # a module, and no trainer
            for trainer in ("np", "nnUNetDataLoader")
        ),
        ({"settings": {"shift_ratio": 0.25}}, "in all runs of ratio, got shift_ratio, which the table varies"),
        ({"settings": {"patch_sise": [16, 32, 32]}}, r"got 'patch_sise' \(nearest: patch_size\)"),
        (
            {"table": "cross-validation", "settings": {"batch_size": 2}},
            "Expected no settings for cross-validation, .* got batch_size",
        ),
        (
            {"table": "cross-validation", "configuration": "3d_lowres"},
            "nnUNetPlans.json: expected plans with 3d_lowres, got none",
        ),
        ({"table": "networks", "folds": [0, 9]}, "folds that networks has: 0, 1, 2, 3, 4, got 0, 9"),
        ({"table": "rations"}, "Expected a table among .*, ratio, .*, got rations"),
        ({"executor": "Slurm"}, "Expected an executor among local, slurm, got Slurm"),
        (
            {"slurm": SlurmResources(partition="gpu")},
            "partition, GPUs, CPUs and time with Slurm alone, got them with the executor local",
        ),
    ],
)
def test_bad_input_is_one_sentence(arguments, sentence, folders):
    with pytest.raises(InputError, match=sentence) as refusal:
        run(**{"table": "ratio", **arguments}, dry_run=True)
    assert "\n" not in str(refusal.value)


def test_what_is_not_there_is_named(folders, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match="Expected Slurm's sbatch on PATH"):
        run("ratio", executor="slurm", dry_run=True)
    monkeypatch.setattr(slurm, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'nnunetv2_gsp\[experiments\]'"):
        run("ratio", dry_run=True)


def test_folders_that_are_not_set_are_named(folders, monkeypatch):
    monkeypatch.setenv("nnUNet_results", "")
    with pytest.raises(InputError, match="Expected nnUNet_results to name a folder"):
        run("ratio", dry_run=True)
    monkeypatch.delenv("nnUNet_results")
    with pytest.raises(InputError, match="Expected nnUNet_results to name a folder"):
        run("ratio", dry_run=True)


def test_plans_with_other_settings_are_not_trained(folders):
    file = write_gsp_plans(str(ID), output_name="nnUNetGSPPlans_promise12_prosgv3", template="promise12_prosgv4")
    before = file.read_bytes()
    try:
        with pytest.raises(InputError, match="got plans with other settings"):
            run("ratio", dry_run=True)
        assert file.read_bytes() == before
    finally:
        file.unlink()


def test_plans_that_only_word_their_origin_otherwise_are_kept(folders):
    file = write_gsp_plans(str(ID), output_name="nnUNetGSPPlans_promise12_prosgv3", template="promise12_prosgv3")
    plans = json.loads(file.read_text())
    plans["gsp_template"]["name"] = "as it was once called"
    file.write_text(json.dumps(plans))
    try:
        assert run("ratio", dry_run=True)
    finally:
        file.unlink()


def test_plans_that_hold_more_configurations_are_the_same(folders):
    file = write_gsp_plans(str(ID), template="promise12_prosgv3")
    plans = json.loads(file.read_text())
    plans["configurations"]["3d_lowres"] = plans["configurations"]["3d_fullres"]
    file.write_text(json.dumps({**plans, "gsp_template": {"name": "in other words", "settings": {}}}))
    try:
        assert run("ratio", dry_run=True)
    finally:
        file.unlink()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "dataset.json: expected .* in JSON, got"),
        ("[]", "dataset.json: expected labels by name, got none"),
        ({"numTraining": None}, "dataset.json: expected numTraining, the number of cases, got None"),
        ({"numTraining": 4}, "at least 5 training cases for nnU-Net's split, got 4"),
    ],
)
def test_an_unfit_dataset_json_is_one_sentence(content, sentence, folders):
    dataset_json = folders / "dataset.json"
    before = dataset_json.read_text()
    dataset_json.write_text(content if isinstance(content, str) else json.dumps({**json.loads(before), **content}))
    try:
        with pytest.raises(InputError, match=sentence):
            run("ratio")
    finally:
        dataset_json.write_text(before)


def test_one_call_at_a_time(planned, monkeypatch):
    monkeypatch.setattr(Experiment, "prepare", lambda *_: [])
    results = planned / "nnUNet_results"
    with (
        locked(results / DATASET / "experiments" / "lock"),
        pytest.raises(InputError, match="one call at a time, got another one at work"),
    ):
        run("ratio")
    shutil.rmtree(results / DATASET)


@pytest.mark.parametrize(
    ("table", "model", "name"),
    [
        ("cross-validation", "nnUNetTrainerGSP__nnUNetPlans__3d_fullres", "nnUNetTrainerGSP"),
        ("networks", "nnUNetTrainer__nnUNetGSPPlans_default_CCS__3d_fullres", "CCS"),
    ],
)
def test_one_of_several_folds_gives_mean_and_sd(table, model, name, planned, monkeypatch):
    """Hand-made: Dice 0.8 and 0.9 in two folds, so 85.0 ± 7.1."""
    results = planned / "nnUNet_results"
    for fold, dice in ((0, 0.8), (3, 0.9)):
        folder = results / DATASET / model / f"fold_{fold}" / "validation"
        folder.mkdir(parents=True)
        (folder / "summary.json").write_text(json.dumps({"mean": {"1": {"Dice": dice}}}))
    monkeypatch.setattr(Experiment, "prepare", lambda *_: [])
    outcome = run(table, folds=[0, 2, 3])
    assert not outcome.is_good
    row = [cell.strip() for line in outcome.text.splitlines() if "mean ± SD" in line for cell in line.split("|")]
    assert row == ["", f"{name}, mean ± SD of 2 folds", "85.0 ± 7.1", "85.0 ± 7.1", "", ""]
    assert outcome.text.count("finished") == 2
    assert (results / DATASET / "experiments" / f"{table}__fold_0__fold_2__fold_3.md").is_file()
    shutil.rmtree(results / DATASET)
