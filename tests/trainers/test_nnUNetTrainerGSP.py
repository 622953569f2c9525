"""Against real nnU-Net: planned, preprocessed, trained and predicted through its own code, on an ellipsoid in noise."""

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import torch
from nnunetv2.evaluation.find_best_configuration import find_best_configuration
from nnunetv2.experiment_planning.plan_and_preprocess_api import plan_experiments, preprocess
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.model_sharing.model_export import export_pretrained_model
from nnunetv2.model_sharing.model_import import install_model_from_zip_file
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.run.run_training import get_trainer_from_args, run_training
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.loss.nnUNetTrainerDiceLoss import nnUNetTrainerDiceLoss
from nnunetv2.training.nnUNetTrainer.variants.optimizer.nnUNetTrainerAdam import nnUNetTrainerAdam3en4
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

import nnunetv2_gsp.trainers
from nnunetv2_gsp import plans
from nnunetv2_gsp.architectures import GSPUNet, from_plans, request
from nnunetv2_gsp.comparison.trained_models import read_trained_model
from nnunetv2_gsp.ops import GroupShift
from tests.conftest import largest_file
from tests.contract.conftest import predictor_of
from tests.host_in_process import extract_fingerprint
from tests.raw_dataset import write_raw_dataset
from tests.test_orphans import descendants, is_alive_after

DATASET, ID = "Dataset901_Ellipsoid", 901
TRAINER = "nnUNetTrainerGSPFewIterations"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def planned(nnunet_folders):
    write_raw_dataset(nnunet_folders / "nnUNet_raw", DATASET)
    extract_fingerprint(ID)
    plans_name = plan_experiments([ID])
    preprocess([ID], plans_name, ["3d_fullres"], [1])
    return nnunet_folders


@pytest.fixture(scope="module")
def model_folder(planned):
    """Train one fold from stock plans and return the model folder."""
    run_training(str(ID), "3d_fullres", 0, TRAINER, export_validation_probabilities=True, device=CPU)
    return planned / "nnUNet_results" / DATASET / f"{TRAINER}__nnUNetPlans__3d_fullres"


@pytest.fixture
def other_rule(monkeypatch):
    """Change the rule for spatial groups, as a later version of this package might."""
    monkeypatch.setattr(request, "spatial_groups_of", lambda map_size, max_groups: (1, 1, 2))


def new_trainer(name=TRAINER, plans="nnUNetPlans", fold=0):
    return get_trainer_from_args(str(ID), "3d_fullres", fold, name, plans, device=CPU)


def predict(model_folder):
    """Return logits of fold 0 for a fixed random image."""
    predictor = nnUNetPredictor(device=CPU, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model_folder), (0,))
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 24, 24, 40)).astype(np.float32))
    return predictor.predict_logits_from_preprocessed_data(image)


def saved_kwargs(model_folder):
    plans = json.loads((model_folder / "plans.json").read_text())
    return plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]


def write_gsp_plans(planned, name, change=lambda arch_kwargs: None):
    """Write plans that name GSPUNet into the preprocessed folder; returns them."""
    folder = planned / "nnUNet_preprocessed" / DATASET
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    configuration = plans["configurations"]["3d_fullres"]
    configuration["architecture"] = from_plans.gsp_architecture(
        configuration["architecture"], configuration["patch_size"]
    )
    change(configuration["architecture"]["arch_kwargs"])
    plans["plans_name"] = name
    (folder / f"{name}.json").write_text(json.dumps(plans))
    return plans


def test_model_folder_spells_the_network_out_and_stock_plans_stay_stock(planned, model_folder):
    plans = json.loads((model_folder / "plans.json").read_text())
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    assert architecture["network_class_name"] == from_plans.GSP_NETWORK
    assert len(architecture["arch_kwargs"]["spatial_groups"]) == architecture["arch_kwargs"]["n_stages"]
    stock = json.loads((planned / "nnUNet_preprocessed" / DATASET / "nnUNetPlans.json").read_text())
    assert stock["configurations"]["3d_fullres"]["architecture"]["network_class_name"].endswith("PlainConvUNet")
    checkpoint = torch.load(model_folder / "fold_0" / "checkpoint_final.pth", weights_only=False)
    assert checkpoint["init_args"]["plans"]["configurations"] == plans["configurations"]


def test_log_has_the_table_of_stages(model_folder):
    log = next((model_folder / "fold_0").glob("training_log_*.txt")).read_text()
    kwargs = saved_kwargs(model_folder)
    table = log[log.index("Group Shift, CSC in encoder and decoder") :].splitlines()
    for stage, groups in enumerate(kwargs["spatial_groups"]):
        assert table[2 + stage].split()[3] == "×".join(map(str, groups))


def test_training_validated_every_case_of_the_fold(planned, model_folder):
    splits = json.loads((planned / "nnUNet_preprocessed" / DATASET / "splits_final.json").read_text())
    summary = json.loads((model_folder / "fold_0" / "validation" / "summary.json").read_text())
    assert len(summary["metric_per_case"]) == len(splits[0]["val"])


def test_compare_reads_what_nnunet_says_of_a_training(model_folder):
    log = min((model_folder / "fold_0").glob("training_log_*.txt")).read_text()

    def said(name):
        return [float(number) for number in re.findall(rf"{name}:? (\S+)", log)]

    read = read_trained_model(model_folder, "3d_fullres", ["0"])
    [curves] = read.curves
    assert curves.training_loss == pytest.approx(said("train_loss"), abs=1e-4)
    assert curves.validation_loss == pytest.approx(said("val_loss"), abs=1e-4)
    assert max(curves.pseudo_dice) == pytest.approx(said("New best EMA pseudo Dice")[-1], abs=1e-4)
    assert read.cost.epoch_s == pytest.approx(median(said("Epoch time")), abs=0.01)
    assert read.cost.parameters == sum(each.numel() for each in predictor_of(model_folder).network.parameters())
    assert read.protocol.epochs == (len(curves.pseudo_dice),) == (len(said("Epoch time")),)
    assert read.protocol.learning_rates == (max(said("Current learning rate")),)
    assert read.protocol.devices == (CPU.type,)


def test_settings_outlive_a_change_of_the_rule(planned, model_folder, other_rule):
    """Prediction is bit-identical; --c, --val and a second fold keep what the first fold was trained with."""
    before = saved_kwargs(model_folder)
    probe = new_trainer("nnUNetTrainerGSPNoDeepSupervision")
    probe.initialize()
    assert probe.network.shift_settings.spatial_groups[0] == (1, 1, 2)  # the rule did change

    with pytest.MonkeyPatch.context() as rule_undone:
        rule_undone.setattr(request, "spatial_groups_of", lambda *_: pytest.fail("the rule was asked"))
        logits = predict(model_folder)
    assert torch.equal(logits, predict(model_folder))
    for arguments in ({"fold": 0, "continue_training": True}, {"fold": 0, "only_run_validation": True}, {"fold": 1}):
        run_training(str(ID), "3d_fullres", trainer_class_name=TRAINER, device=CPU, **arguments)
        assert saved_kwargs(model_folder) == before
    checkpoint = torch.load(model_folder / "fold_1" / "checkpoint_final.pth", weights_only=False)
    groups = [tuple(stage) for stage in before["spatial_groups"]]
    assert checkpoint["network_weights"]["gsp_settings"].tolist()[4:7] == list(groups[0])
    assert torch.equal(logits, predict(model_folder))


def test_a_checkpoint_that_cannot_be_written_whole_leaves_the_one_before(planned, tmp_path):
    trainer = new_trainer("nnUNetTrainerGSPNoDeepSupervision", fold=4)
    trainer.initialize()
    checkpoint = tmp_path / "checkpoint_latest.pth"
    trainer.save_checkpoint(str(checkpoint))
    before = checkpoint.read_bytes()
    with largest_file(len(before) // 2), pytest.raises((OSError, RuntimeError)):
        trainer.save_checkpoint(str(checkpoint))
    assert checkpoint.read_bytes() == before
    assert os.listdir(tmp_path) == [checkpoint.name]


@pytest.mark.parametrize("change", [{"disable_checkpointing": True}, {"local_rank": 1}])
def test_who_is_not_to_write_a_checkpoint_touches_nothing(planned, tmp_path, change):
    trainer = new_trainer("nnUNetTrainerGSPNoDeepSupervision", fold=4)
    trainer.initialize()
    for name, value in change.items():
        setattr(trainer, name, value)
    of_the_first_rank = tmp_path / "unfinished_checkpoint_final.pth"
    of_the_first_rank.write_text("half")
    trainer.save_checkpoint(str(tmp_path / "checkpoint_final.pth"))
    assert os.listdir(tmp_path) == [of_the_first_rank.name]


@pytest.mark.parametrize("phrase", ["Epoch 1", "Training done"])  # amid the training, amid the validation
def test_sigterm_to_the_training_alone_ends_its_workers_too(planned, phrase):
    train = [
        str(Path(sys.executable).with_name("nnUNetv2_train")),
        str(ID),
        "3d_fullres",
        "3",
        "-tr",
        TRAINER,
        "-device",
        "cpu",
    ]
    with subprocess.Popen(
        train,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert any(phrase in line for line in process.stdout)
        if phrase == "Training done":
            assert any("predicting" in line for line in process.stdout)
        workers = set(descendants(process.pid))
        assert workers
        process.terminate()
        assert process.wait(60) == -signal.SIGTERM
        assert not [worker for worker in workers if is_alive_after(worker, 20)]


@pytest.mark.parametrize("n_cases", [1, 4])
def test_too_few_cases_for_folds_are_named_and_all_trains(planned, nnunet_folders, n_cases):
    trainer = new_trainer("nnUNetTrainerGSPNoDeepSupervision")
    cases = sorted(Path(trainer.preprocessed_dataset_folder).glob("case?*"))
    few = nnunet_folders / f"few_{n_cases}" / "data"
    few.mkdir(parents=True)
    for file in cases:
        if file.name[4] < str(n_cases):
            shutil.copy(file, few)
    trainer.preprocessed_dataset_folder, trainer.preprocessed_dataset_folder_base = str(few), str(few.parent)
    with pytest.raises(ValueError, match=f"at least 5 training cases .* has {n_cases}: train with fold all") as refusal:
        trainer.do_split()
    assert "\n" not in str(refusal.value)
    assert not (few.parent / "splits_final.json").exists()
    trainer.fold = "all"
    assert list(map(len, trainer.do_split())) == [n_cases, n_cases]


def test_a_damaged_file_of_folds_is_not_called_too_few_cases(planned, nnunet_folders):
    trainer = new_trainer("nnUNetTrainerGSPNoDeepSupervision")
    case = next(Path(trainer.preprocessed_dataset_folder).glob("case?*.b2nd"))
    base = nnunet_folders / "damaged_folds"
    (base / "data").mkdir(parents=True)
    (base / "splits_final.json").write_text('[{"train": ["a"')
    trainer.preprocessed_dataset_folder, trainer.preprocessed_dataset_folder_base = str(base / "data"), str(base)
    shutil.copy(case, base / "data")
    with pytest.raises(json.JSONDecodeError):
        trainer.do_split()


def test_weights_decide_what_is_predicted(model_folder, tmp_path):
    """The guard holds inside nnU-Net's own loading: a model folder whose plans were edited does not predict."""
    edited = tmp_path / model_folder.name
    shutil.copytree(model_folder, edited)
    plans = json.loads((edited / "plans.json").read_text())
    kwargs = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    kwargs["shift_position"] = "CCS"
    (edited / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(ValueError, match="other GSP settings"):
        predict(edited)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda kwargs: kwargs.update(shift_position="CCS"), "shift_position is CSC"),
        (
            lambda kwargs: kwargs.update(features_per_stage=[2 * c for c in kwargs["features_per_stage"]]),
            "features_per_stage",
        ),
    ],
)
def test_plans_that_contradict_the_model_folder_are_refused(planned, model_folder, change, named):
    before = (model_folder / "plans.json").read_bytes()
    plans = write_gsp_plans(planned, "nnUNetPlans_contradicting", change)
    trainer = recursive_find_trainer_class_by_name(TRAINER)(
        {**plans, "plans_name": "nnUNetPlans", "continue_training": False},
        "3d_fullres",
        2,
        json.loads((planned / "nnUNet_preprocessed" / DATASET / "dataset.json").read_text()),
        CPU,
    )
    with pytest.raises(ValueError, match=named) as refusal:
        trainer.initialize()
    assert "\n" not in str(refusal.value)
    assert (model_folder / "plans.json").read_bytes() == before


def test_a_model_folder_s_plans_that_were_cut_off_are_named(planned, model_folder, monkeypatch):
    trainer = new_trainer(fold=2)
    file = model_folder / "plans.json"
    whole = file.read_text()
    try:
        file.write_text(whole[:100])
        with pytest.raises(ValueError, match=r"Expected whole plans in .*plans\.json, got ") as refusal:
            trainer.initialize()
    finally:
        file.write_text(whole)
    assert "\n" not in str(refusal.value)


def test_find_best_configuration_weighs_and_ensembles_stock_and_gsp(planned, model_folder):
    stock = "nnUNetTrainerFewIterations"
    run_training(str(ID), "3d_fullres", 0, stock, export_validation_probabilities=True, device=CPU)
    models = [{"plans": "nnUNetPlans", "configuration": "3d_fullres", "trainer": name} for name in (stock, TRAINER)]
    find_best_configuration(ID, models, num_processes=1, folds=(0,))
    information = json.loads((model_folder.parent / "inference_information.json").read_text())
    compared = set(information["all_results"])
    assert {f"{stock}__nnUNetPlans__3d_fullres", model_folder.name} < compared
    assert sum(name.startswith("ensemble") for name in compared) == 1


def test_exported_model_predicts_the_same_bits_where_it_is_installed(model_folder, tmp_path, monkeypatch):
    logits = predict(model_folder)
    export_pretrained_model(ID, str(tmp_path / "model.zip"), ("3d_fullres",), TRAINER, folds=(0,))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "elsewhere"))
    install_model_from_zip_file(str(tmp_path / "model.zip"))
    installed = tmp_path / "elsewhere" / DATASET / model_folder.name
    assert torch.equal(predict(installed), logits)


def test_gsp_plans_make_stock_trainers_build_the_same_network(planned, model_folder):
    manager = PlansManager(write_gsp_plans(planned, "nnUNetGSPPlans"))
    configuration = manager.get_configuration("3d_fullres")
    weights = torch.load(model_folder / "fold_0" / "checkpoint_final.pth", weights_only=False)["network_weights"]
    logits = []
    for trainer in (nnUNetTrainer, nnunetv2_gsp.trainers.nnUNetTrainerGSP):
        network = trainer.build_network_architecture(manager, configuration, 1, 2, enable_deep_supervision=False)
        assert type(network) is GSPUNet
        network.load_state_dict(weights)
        logits.append(
            network(
                torch.linspace(-1, 1, int(np.prod(configuration.patch_size))).reshape(1, 1, *configuration.patch_size)
            )
        )
    assert torch.equal(*logits)


@pytest.mark.parametrize(
    ("template", "small"),
    [
        ("default", {}),
        (
            "brats18_csc_dec_local",
            {
                "patch_size": [16, 16, 16],
                "batch_size": 2,
                "features_per_stage": [16, 24, 32],
                "use_mask_for_norm": False,
                "strides": [[1] * 3, [2] * 3, [2] * 3],
                "spatial_groups": [[2, 2, 2], [2, 2, 2], [3, 2, 2]],
            },
        ),
    ],
)
def test_planned_templates_train_under_both_trainers_to_the_same_outputs(planned, template, small):
    """`plan`, then `-p` with the stock trainer and with GSP's: either's weights give the same logits in the other."""
    plans_file = plans.write_gsp_plans(
        str(ID), output_name=f"planned_{template}", template=template, settings=small, configurations=["3d_fullres"]
    )
    logits = []
    for trained_by in (TRAINER, "nnUNetTrainerFewIterations"):
        run_training(str(ID), "3d_fullres", 0, trained_by, plans_file.stem, device=CPU)
        folder = planned / "nnUNet_results" / DATASET / f"{trained_by}__{plans_file.stem}__3d_fullres"
        weights = torch.load(folder / "fold_0" / "checkpoint_final.pth", weights_only=False)["network_weights"]
        manager = PlansManager(json.loads((folder / "plans.json").read_text()))
        for trainer in (nnUNetTrainer, nnunetv2_gsp.trainers.nnUNetTrainerGSP):
            network = trainer.build_network_architecture(manager, manager.get_configuration("3d_fullres"), 1, 2, False)
            network.load_state_dict(weights)
            patch_size = manager.get_configuration("3d_fullres").patch_size
            logits.append(network(torch.linspace(-1, 1, int(np.prod(patch_size))).reshape(1, 1, *patch_size)))
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[2], logits[3])
    assert not torch.equal(logits[0], logits[2])  # two trainings


def test_the_log_says_what_becomes_of_residual_blocks(planned):
    told = "each stage of the GSP network has two convolutions instead"
    for plans_name, is_told in (("nnUNetPlans", False), (plan_experiments([ID], "nnUNetPlannerResEncM"), True)):
        trainer = new_trainer("nnUNetTrainerGSPNoMirroring", plans_name)
        trainer.initialize()
        stages = [*trainer.network.encoder.stages, *trainer.network.decoder.stages]
        assert {len(stage.convs) for stage in stages} == {2}
        assert (told in Path(trainer.log_file).read_text()) is is_told


@pytest.mark.parametrize("is_ddp", [True, False])
def test_on_several_gpus_torch_does_not_split_a_compiled_network(planned, is_ddp, monkeypatch):
    monkeypatch.setattr(nnUNetTrainer, "initialize", lambda _: None)  # which needs the GPUs
    trainer = new_trainer("nnUNetTrainerGSPNoMirroring")
    trainer.is_ddp = is_ddp
    with torch._dynamo.config.patch(optimize_ddp=True):
        trainer.initialize()
        assert torch._dynamo.config.optimize_ddp is not is_ddp


def test_building_does_not_change_the_plans(planned):
    plans = json.loads((planned / "nnUNet_preprocessed" / DATASET / "nnUNetPlans.json").read_text())
    before = deepcopy(plans)
    manager = PlansManager(plans)
    network = nnunetv2_gsp.trainers.nnUNetTrainerGSP.build_network_architecture(
        manager, manager.get_configuration("3d_fullres"), 1, 2, True
    )
    assert any(isinstance(module, GroupShift) for module in network.modules())
    assert plans == before


@pytest.mark.parametrize(
    ("suffix", "num_epochs"), [("1epoch", 1), *((f"{n}epochs", n) for n in (5, 10, 20, 50, 100, 250, 500))]
)
def test_training_length_by_name(planned, suffix, num_epochs):
    trainer = new_trainer(f"nnUNetTrainerGSP_{suffix}")
    trainer.initialize()
    assert (trainer.num_epochs, trainer.lr_scheduler.max_steps) == (num_epochs, num_epochs)
    assert pickle.loads(pickle.dumps(type(trainer))) is type(trainer)
    assert type(trainer) is getattr(nnunetv2_gsp.trainers, f"nnUNetTrainerGSP_{suffix}")


def test_without_deep_supervision(planned):
    trainer = new_trainer("nnUNetTrainerGSPNoDeepSupervision")
    trainer.initialize()
    patch = trainer.configuration_manager.patch_size
    assert trainer.network(torch.zeros(1, 1, *patch)).shape == (1, 2, *patch)
    assert trainer._get_deep_supervision_scales() is None


@pytest.fixture
def paper_trainer(planned):
    trainer = new_trainer("nnUNetTrainerGSPPaper")
    trainer.initialize()
    return trainer


def test_the_papers_protocol(paper_trainer):
    """Sec. 3: SGD, poly learning rate 0.01 with power 0.9, Dice loss alone, at full resolution."""
    optimizer, schedule = paper_trainer.optimizer, paper_trainer.lr_scheduler
    assert type(optimizer) is torch.optim.SGD
    for epoch in (0, 1, 400, 999):
        schedule.step(epoch)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01 * (1 - epoch / paper_trainer.num_epochs) ** 0.9)
    patch = paper_trainer.configuration_manager.patch_size
    logits = torch.randn(2, 2, *patch)
    target = torch.randint(0, 2, (2, 1, *patch))
    assert paper_trainer.network(torch.zeros(1, 1, *patch)).shape == (1, 2, *patch)
    nnunets_dice_loss = nnUNetTrainerDiceLoss._build_loss(paper_trainer)
    assert paper_trainer.loss(logits, target) == nnunets_dice_loss(logits, target)


@pytest.mark.parametrize(("base", "rate"), [(nnUNetTrainer, 0.03), (nnUNetTrainerAdam3en4, 3e-4)])
def test_a_trainer_that_is_mixed_in_keeps_its_learning_rate(planned, base, rate):
    class Mixed(nnunetv2_gsp.trainers.nnUNetTrainerGSP, base):
        pass

    preprocessed = planned / "nnUNet_preprocessed" / DATASET
    plans, dataset = (json.loads((preprocessed / name).read_text()) for name in ("nnUNetPlans.json", "dataset.json"))
    trainer = Mixed({**plans, "continue_training": False}, "3d_fullres", 0, dataset, CPU)
    trainer.initialize()
    assert trainer.optimizer.param_groups[0]["lr"] == trainer.initial_lr == rate


def test_a_training_goes_on_at_the_learning_rate_that_it_began_with(planned, paper_trainer, tmp_path):
    checkpoint = str(tmp_path / "checkpoint_latest.pth")
    paper_trainer.on_train_epoch_start()
    paper_trainer.save_checkpoint(checkpoint)
    trainer = new_trainer("nnUNetTrainerGSPNoDeepSupervision", fold=3)
    trainer.initialize()
    trainer.on_train_epoch_start()
    assert trainer.optimizer.param_groups[0]["lr"] == 0.03
    trainer.load_checkpoint(checkpoint)
    trainer.on_train_epoch_start()
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.01 * (1 - 1 / trainer.num_epochs) ** 0.9)


def test_the_papers_loss_leaves_ignored_voxels_out(planned, paper_trainer):
    dataset_json = {**paper_trainer.dataset_json, "labels": {"background": 0, "ellipsoid": 1, "ignore": 2}}
    trainer = nnunetv2_gsp.trainers.nnUNetTrainerGSPPaper(
        {**paper_trainer.plans_manager.plans, "continue_training": False}, "3d_fullres", 0, dataset_json, CPU
    )
    trainer.initialize()
    target = torch.randint(0, 2, (2, 1, 8, 8, 8))
    target[:, :, :4] = 2
    logits = torch.randn(2, 2, 8, 8, 8)
    loss = trainer.loss(logits, target)
    logits[:, :, :4] += 5 * torch.randn(2, 2, 4, 8, 8)
    assert trainer.loss(logits, target) == loss


def test_the_folds_are_nnunets_and_the_first_is_the_papers_split(paper_trainer):
    training, validation = paper_trainer.do_split()
    assert (training, validation) == new_trainer("nnUNetTrainer").do_split()
    assert (len(training), len(validation)) == (4, 1)  # 8:2 of five cases


@pytest.mark.parametrize(("name", "axes"), [("nnUNetTrainerGSP", (0, 1, 2)), ("nnUNetTrainerGSPNoMirroring", None)])
def test_only_the_variant_without_mirroring_mirrors_no_axis(planned, name, axes):
    trainer = new_trainer(name)
    trainer.initialize()
    *_, in_training = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    assert in_training == trainer.inference_allowed_mirroring_axes == axes
    assert trainer.initial_lr == 0.03


def test_variants_combine(planned):
    """The epochs set before the mixin's turn must not cut it off."""

    class Both(nnunetv2_gsp.trainers.nnUNetTrainerGSP_5epochs, nnunetv2_gsp.trainers.nnUNetTrainerGSPNoDeepSupervision):
        pass

    found = new_trainer("nnUNetTrainerGSP")
    trainer = Both({**found.plans_manager.plans, "continue_training": False}, "3d_fullres", 0, found.dataset_json, CPU)
    trainer.initialize()
    assert trainer.num_epochs == 5
    assert not trainer.enable_deep_supervision


def test_pretrained_weights_of_the_same_and_of_other_settings(planned, model_folder):
    checkpoint = str(model_folder / "fold_0" / "checkpoint_final.pth")
    trainer = new_trainer("nnUNetTrainerGSP")
    trainer.initialize()
    load_pretrained_weights(trainer.network, checkpoint)
    loaded = trainer.network.encoder.stages[0].convs[0].conv.weight
    trained = torch.load(checkpoint, weights_only=False)["network_weights"]["encoder.stages.0.convs.0.conv.weight"]
    assert torch.equal(loaded, trained)

    write_gsp_plans(planned, "nnUNetPlans_ccs", lambda kwargs: kwargs.update(shift_position="CCS"))
    other = new_trainer("nnUNetTrainerGSP", plans="nnUNetPlans_ccs")
    other.initialize()
    with pytest.raises(ValueError, match="other GSP settings"):
        load_pretrained_weights(other.network, checkpoint)
