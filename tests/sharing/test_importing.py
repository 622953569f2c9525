"""Out as a bundle and in again through real nnU-Net: the same bits, or nothing."""

import json
import os
import shlex
import shutil
import stat
from pathlib import Path
from unittest import mock

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nnunetv2.inference import predict_from_raw_data
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.file_path_utilities import get_output_folder

from nnunetv2_gsp.architectures.from_plans import gsp_architecture
from nnunetv2_gsp.architectures.request import ShiftRequest
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.sharing import export_model, import_model, prediction_command
from nnunetv2_gsp.trainers import nnUNetTrainerGSP
from tests.architectures.networks import isotropic, stock_architecture
from tests.conftest import torch_threads
from tests.sharing.models import CPU, DATASET, dataset_json, logits, parameters_of, plans_of, write_model_folder


def test_the_command_that_is_printed_predicts_with_what_was_imported(model_folder, results, tmp_path, monkeypatch):
    file = export_model(model_folder, tmp_path / "model.zip", [1, "all"])
    imported = import_model(file).rename(results / "my models")
    seen = []

    class Predictor:
        def __init__(self, **_):
            pass

        def initialize_from_trained_model_folder(self, *arguments):
            seen.append(arguments)

        def predict_from_files(self, *_, **__):
            pass

    monkeypatch.setattr(predict_from_raw_data, "nnUNetPredictor", Predictor)
    monkeypatch.setattr("sys.argv", [*shlex.split(prediction_command(imported)), "-device", "cpu"])
    with torch_threads(torch.get_num_threads()):  # which nnU-Net's command changes
        predict_from_raw_data.predict_entry_point_modelfolder()
    assert seen == [(str(imported), [1], "checkpoint_final.pth")]


def test_imported_model_predicts_the_same_bits(model_folder, results, tmp_path):
    file = tmp_path / "model.zip"
    assert export_model(model_folder, file) == file
    imported = import_model(file)
    assert imported == Path(get_output_folder(DATASET, "nnUNetTrainerGSP", "nnUNetPlans", "3d_fullres"))
    assert results in imported.parents
    for folds in ((0,), (0, 1), ("all",), None):
        assert torch.equal(logits(imported, folds), logits(model_folder, folds))
    assert not torch.equal(logits(imported, (0,)), logits(imported, (1,)))
    for fold in (0, 1, "all"):
        ours, theirs = parameters_of(imported, fold), parameters_of(model_folder, fold)
        assert list(ours) == list(theirs)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert os.listdir(results) == [DATASET]
    assert stat.S_IMODE(imported.stat().st_mode) == stat.S_IMODE(imported.parent.stat().st_mode)


@pytest.mark.parametrize("trainer_class", [nnUNetTrainerGSP, nnUNetTrainer])
def test_other_kinds_of_models(trainer_class, nnunet_folders, tmp_path, monkeypatch):
    """2D, local shifts, GSP plans under a stock trainer, and no mirroring."""
    monkeypatch.setattr(trainer_class, "configure_rotation_dummyDA_mirroring_and_inital_patch_size", lambda self: None)
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "trained"))
    architecture = gsp_architecture(
        stock_architecture((16, 24), isotropic(2, dim=2)), (16, 16), ShiftRequest(local_shift_ratio=0.5)
    )
    folder = write_model_folder(nnunet_folders, plans_of(architecture, (16, 16)), trainer_class=trainer_class)
    file = export_model(folder, tmp_path / "model.zip")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "elsewhere"))
    imported = import_model(file)
    assert folder.relative_to(tmp_path / "trained") == imported.relative_to(tmp_path / "elsewhere")
    assert parameters_of(imported)["gsp_settings"][0] == 2  # the format with local shifts
    checkpoint = torch.load(imported / "fold_0" / "checkpoint_final.pth", weights_only=True)
    assert checkpoint["inference_allowed_mirroring_axes"] is None
    shape = (3, 16, 16)  # nnU-Net moves a 2D network over slices
    assert torch.equal(logits(imported, (0,), shape), logits(folder, (0,), shape))


def test_imported_weights_are_pretrained_weights_but_no_training_to_continue(model_folder, bundle, results):
    checkpoint = import_model(bundle) / "fold_0" / "checkpoint_final.pth"
    plans = json.loads((model_folder / "plans.json").read_text())
    trainer = nnUNetTrainerGSP({**plans, "continue_training": False}, "3d_fullres", 2, dataset_json(), CPU)
    trainer.initialize()
    load_pretrained_weights(trainer.network, str(checkpoint))
    name = "encoder.stages.0.convs.0.conv.weight"
    assert torch.equal(trainer.network.state_dict()[name], parameters_of(model_folder)[name])
    with pytest.raises(KeyError, match="current_epoch"):
        trainer.load_checkpoint(str(checkpoint))


def test_a_full_disk_is_an_error_of_the_system(bundle, results, monkeypatch):
    monkeypatch.setattr(torch, "save", mock.Mock(side_effect=RuntimeError("PytorchStreamWriter failed writing file")))
    with pytest.raises(OSError, match=r"checkpoint_final\.pth: expected to write weights, .* for want of space"):
        import_model(bundle)
    assert list(results.rglob("*")) == []


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_refused_or_harmless(data, bundle, model_folder, results, tmp_path):
    """Cut off anywhere, or with any byte changed: one sentence, or the very model."""
    whole = bundle.read_bytes()
    # a zip is read by the directory at its end, and that by the last 22 bytes; most of the rest is weights
    place = data.draw(st.one_of(*(st.integers(len(whole) - last, len(whole) - 1) for last in (22, 900, len(whole)))))
    rest = data.draw(
        st.one_of(
            st.just(b""), st.integers(1, 255).map(lambda change: bytes([whole[place] ^ change]) + whole[place + 1 :])
        )
    )
    (tmp_path / "model.zip").write_bytes(whole[:place] + rest)
    try:
        imported = import_model(tmp_path / "model.zip")
    except InputError:
        assert list(results.rglob("*")) == []
    else:
        ours, theirs = parameters_of(imported), parameters_of(model_folder)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
        shutil.rmtree(imported.parent)


def test_an_existing_model_is_not_replaced(bundle, results):
    folder = import_model(bundle)
    (folder / "plans.json").write_text("mine")
    with pytest.raises(InputError, match="exists and is not replaced; move it away"):
        import_model(bundle)
    assert (folder / "plans.json").read_text() == "mine"
    assert os.listdir(results) == [DATASET]


@pytest.mark.parametrize("variable", ["nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"])
def test_another_dataset_of_the_same_id(variable, bundle, results, tmp_path, monkeypatch):
    monkeypatch.setenv(variable, str(tmp_path / "in_use"))
    (tmp_path / "in_use" / "Dataset902_Mine").mkdir(parents=True)
    with pytest.raises(InputError, match="an id that no other dataset has for Dataset902_Shared, got Dataset902_Mine"):
        import_model(bundle)
    assert list(results.iterdir()) == []


@pytest.mark.parametrize("value", [None, "", "/nowhere/at/all"])
def test_without_a_results_folder(value, bundle, monkeypatch):
    monkeypatch.delenv("nnUNet_results")
    if value is not None:
        monkeypatch.setenv("nnUNet_results", value)
    with pytest.raises(InputError, match="nnUNet_results"):
        import_model(bundle)
