"""What a bundle holds, and which model folders make none."""

import hashlib
import json
import os
import pickletools
import shutil

import pytest
import torch
from safetensors.torch import load

from nnunetv2_gsp.architectures.from_plans import GSP_NETWORK
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.plans_templates import load_template
from nnunetv2_gsp.sharing import export_model
from tests.architectures.networks import isotropic, stock_architecture
from tests.sharing.bundles import write_zip
from tests.sharing.models import (
    ARCHITECTURE,
    MB,
    WEIGHTS,
    change_checkpoint,
    change_json,
    contents_of,
    copied,
    parameters_of,
    plans_of,
    write_model_folder,
)


@pytest.mark.parametrize(
    ("name", "n_parameters", "max_bytes"), [("tiny", 245_256, 2 * MB), ("default", 1_332_084, 6 * MB)]
)
def test_a_fold_is_small(name, n_parameters, max_bytes, nnunet_folders, tmp_path, monkeypatch):
    tiny = load_template("promise12_prosgv1").settings
    features, strides, patch_size = {
        "tiny": (tiny["features_per_stage"], tiny["strides"], tiny["patch_size"]),
        "default": ((32, 64, 128, 256, 320, 320), isotropic(6), (32, 32, 32)),  # the patch changes no weight
    }[name]
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    folder = write_model_folder(nnunet_folders, plans_of(stock_architecture(features, strides), patch_size))
    unique = {
        tensor.data_ptr(): tensor.numel() for key, tensor in parameters_of(folder).items() if key != "gsp_settings"
    }
    assert sum(unique.values()) == pytest.approx(n_parameters, rel=0.01)  # channels and classes differ
    assert export_model(folder, tmp_path / "model.zip").stat().st_size <= max_bytes


def test_the_bundle_holds_no_pickle_no_path_and_no_case(model_folder, bundle, nnunet_folders):
    contents = contents_of(bundle)
    assert sorted(contents) == ["dataset.json", "dataset_fingerprint.json", WEIGHTS, "manifest.json", "plans.json"]
    for content in contents.values():
        assert not pickle_opcodes(content)
        assert b"/home/" not in content
        assert str(nnunet_folders).encode() not in content
    [pickled] = [
        content
        for name, content in contents_of(model_folder / "fold_0" / "checkpoint_final.pth").items()
        if name.endswith("data.pkl")
    ]
    assert "GLOBAL" in pickle_opcodes(pickled)  # nnU-Net's is one
    assert json.loads(contents["dataset.json"])["licence"] == "CC-BY"
    assert len(load(contents[WEIGHTS])) < len(parameters_of(model_folder)) * 2 / 3  # most layers have two names


def pickle_opcodes(content):
    """Return the names of the opcodes if the content is a pickle from its first byte to its STOP."""
    try:
        return [opcode.name for opcode, _, _ in pickletools.genops(content)]
    except Exception:
        return []


def test_the_bundle_spells_the_network_out_in_one_configuration(bundle):
    contents = contents_of(bundle)
    configurations = json.loads(contents["plans.json"])["configurations"]
    assert list(configurations) == ["3d_fullres"]
    assert configurations["3d_fullres"]["architecture"]["network_class_name"] == GSP_NETWORK
    assert len(configurations["3d_fullres"]["architecture"]["arch_kwargs"]["spatial_groups"]) == 3
    manifest = json.loads(contents["manifest.json"])
    assert manifest["folds"] == {"0": {"inference_allowed_mirroring_axes": [0, 1, 2]}}
    assert {"nnunetv2_gsp", "nnunetv2", "torch"} == set(manifest["versions"])
    for name, content in contents.items():
        assert name == "manifest.json" or manifest["sha256"][name] == hashlib.sha256(content).hexdigest()


def test_the_same_model_gives_the_same_bytes(model_folder, bundle, tmp_path):
    assert export_model(model_folder, tmp_path / "again.zip", ["0"]).read_bytes() == bundle.read_bytes()


def test_gsp_plans_that_leave_defaults_out_are_completed(model_folder, tmp_path):
    copy = copied(model_folder, tmp_path)
    plans = json.loads((copy / "plans.json").read_text())
    kwargs = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    complete = dict(kwargs)
    for name in ("shift_position", "shift_location", "local_shift_channels", "kernel"):
        del kwargs[name]
    (copy / "plans.json").write_text(json.dumps(plans))
    exported = json.loads(contents_of(export_model(copy, tmp_path / "model.zip"))["plans.json"])
    assert exported["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"] == complete


class Payload:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize(
    ("change", "folds", "said"),
    [
        (
            lambda folder: shutil.rmtree(folder),
            None,
            "expected the plans.json of a trained model, got none; name TRAINER__PLANS",
        ),
        (lambda folder: None, [0, 3], r"checkpoint_final.pth in fold 3, got none \(folds that have one: 0, 1, all\)"),
        (
            lambda folder: (folder / "fold_1" / "checkpoint_final.pth").rename(
                folder / "fold_1" / "checkpoint_best.pth"
            ),
            [0, 1],
            r"checkpoint_final.pth in fold 1, got none \(folds that have one: 0, all\)",
        ),
        (
            lambda folder: [file.unlink() for file in folder.glob("fold_*/*.pth")],
            None,
            "checkpoint_final.pth in a fold, got none in any",
        ),
        (
            lambda folder: change_json(folder / "plans.json", *ARCHITECTURE, "network_class_name", "a.PlainConvUNet"),
            None,
            "plans.json: expected a GSP network, got a.PlainConvUNet; export it with nnUNetv2_export_model_to_zip",
        ),
        (
            lambda folder: change_json(folder / "plans.json", *ARCHITECTURE, "arch_kwargs", "shift_position", "CCS"),
            None,
            "other GSP settings",
        ),
        (lambda folder: change_json(folder / "plans.json", "plans_name", "../plans"), None, "plans_name"),
        (lambda folder: (folder / "plans.json").write_text("{"), None, "plans.json: expected JSON"),
        (lambda folder: (folder / "dataset.json").unlink(), None, "dataset.json: expected JSON"),
        *(
            (
                lambda folder, name=name: (folder / name).write_text("[]"),
                None,
                f"{name}: expected a JSON object, got a list",
            )
            for name in ("plans.json", "dataset.json", "dataset_fingerprint.json")
        ),
        (lambda folder: (folder / "fold_0" / "checkpoint_final.pth").write_bytes(b"weights"), None, "damaged"),
        (lambda folder: change_checkpoint(folder, lambda checkpoint: checkpoint.pop("init_args")), None, "damaged"),
        (
            lambda folder: change_checkpoint(
                folder, lambda checkpoint: checkpoint.update(trainer_name="nnUNetTrainerElse")
            ),
            None,
            "folds of one trainer and configuration",
        ),
        (
            lambda folder: change_checkpoint(folder, lambda checkpoint: checkpoint.update(trainer_name=["a"])),
            None,
            "fold_0/checkpoint_final.pth: expected the names of a trainer and a configuration",
        ),
        (
            lambda folder: change_checkpoint(
                folder, lambda checkpoint: checkpoint["init_args"].update(configuration=[])
            ),
            None,
            "fold_0/checkpoint_final.pth: expected the names of a trainer and a configuration",
        ),
        (
            lambda folder: change_checkpoint(
                folder,
                lambda checkpoint: checkpoint["network_weights"].update(
                    {"encoder.stages.0.convs.0.all_modules.0.weight": torch.zeros(8, 1, 1, 1, 1)}
                ),
            ),
            None,
            "one tensor",
        ),
        (
            lambda folder: change_checkpoint(folder, lambda checkpoint: checkpoint["network_weights"].popitem()),
            None,
            "fold_0: expected the tensor .*, got none",
        ),
    ],
)
def test_what_is_not_exported(change, folds, said, model_folder, tmp_path):
    copy = copied(model_folder, tmp_path)
    change(copy)
    assert_not_exported(copy, tmp_path / "model.zip", said, folds)


def assert_not_exported(folder, file, said, folds=None):
    before = set(file.parent.iterdir())
    with pytest.raises(InputError, match=said) as refusal:
        export_model(folder, file, folds)
    assert "\n" not in str(refusal.value)
    assert set(file.parent.iterdir()) == before


def test_exporting_a_strangers_folder_runs_nothing(model_folder, tmp_path):
    copy = copied(model_folder, tmp_path)
    change_checkpoint(copy, lambda checkpoint: checkpoint.update(payload=Payload(tmp_path / "run")))
    assert_not_exported(copy, tmp_path / "model.zip", "the tensors, texts and numbers of nnU-Net's checkpoints alone")
    torch.load(copy / "fold_0" / "checkpoint_final.pth", weights_only=False)
    assert (tmp_path / "run").is_dir()  # the payload works


def test_checkpoints_written_with_another_numpy(model_folder, tmp_path):
    """numpy 2 moved what it pickles a number by."""
    copy = copied(model_folder, tmp_path)
    file = copy / "fold_0" / "checkpoint_final.pth"
    contents = contents_of(file)
    [(name, pickled)] = [(name, content) for name, content in contents.items() if name.endswith("data.pkl")]
    here, there = sorted(
        (b"numpy.core.multiarray\n", b"numpy._core.multiarray\n"), key=lambda module: module not in pickled
    )
    assert here in pickled
    write_zip(file, {**contents, name: pickled.replace(here, there)})
    assert export_model(copy, tmp_path / "model.zip", [0]).is_file()


def test_an_existing_file_is_replaced_on_request_alone(model_folder, bundle, tmp_path):
    file = tmp_path / "model.zip"
    file.write_text("mine")
    assert_not_exported(model_folder, file, "exists and is not replaced")
    assert file.read_text() == "mine"
    export_model(model_folder, file, [0], overwrite=True)
    assert file.read_bytes() == bundle.read_bytes()


def test_folders_above_the_bundle_are_made(model_folder, tmp_path):
    assert export_model(model_folder, tmp_path / "new" / "model.zip", [0]).is_file()


def test_a_folder_is_never_replaced(model_folder, tmp_path):
    (tmp_path / "model.zip").mkdir()
    with pytest.raises(InputError, match="expected a file or nothing, got a folder"):
        export_model(model_folder, tmp_path / "model.zip", overwrite=True)
