"""Out as a bundle and in again through real nnU-Net: the same bits; and whatever a stranger may put into one."""
import hashlib
import json
import os
import pickletools
import shlex
import shutil
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nnunetv2.inference import predict_from_raw_data
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.file_path_utilities import get_output_folder
from safetensors.torch import load, save

from nnunetv2_gsp.architectures.from_plans import GSP_NETWORK, gsp_architecture
from nnunetv2_gsp.architectures.request import ShiftRequest
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.plans_templates import load_template
from nnunetv2_gsp.sharing import export_model, import_model, prediction_command
from nnunetv2_gsp.trainers import nnUNetTrainerGSP
from tests.architectures.networks import isotropic, stock_architecture
from tests.conftest import torch_threads

DATASET = "Dataset902_Shared"
CPU = torch.device("cpu")
WEIGHTS = "fold_0/checkpoint.safetensors"
MB = 1_000_000


def dataset_json():
    return {"channel_names": {"0": "MR"}, "labels": {"background": 0, "inner": 1, "outer": 2}, "numTraining": 1,
            "file_ending": ".nii.gz", "licence": "CC-BY",
            "dataset": {"case": {"images": ["/home/somebody/case_0000.nii.gz"], "label": "/home/somebody/case.nii.gz"}}}


def plans_of(architecture, patch_size):
    """Return plans as nnU-Net's planner writes them."""
    resampling = {f"resampling_fn_{data}{kwargs}": {} if kwargs else "resample_data_or_seg_to_shape"
                  for data in ("data", "seg", "probabilities") for kwargs in ("", "_kwargs")}
    n_axes = len(patch_size)
    basis = {"data_identifier": "nnUNetPlans_3d_fullres", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2,
             "patch_size": list(patch_size), "median_image_size_in_voxels": [1.0] * n_axes, "spacing": [1.0] * n_axes,
             "normalization_schemes": ["ZScoreNormalization"], "use_mask_for_norm": [False], "batch_dice": False,
             **resampling, "architecture": architecture}
    return {"dataset_name": DATASET, "plans_name": "nnUNetPlans", "image_reader_writer": "SimpleITKIO",
            "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2], "label_manager": "LabelManager",
            "experiment_planner_used": "ExperimentPlanner", "foreground_intensity_properties_per_channel": {},
            "configurations": {"2d": {"not": "shared"}, "basis": basis, "3d_fullres": {"inherits_from": "basis"}}}


def write_model_folder(nnunet_folders, plans, folds=(0,), trainer_class=nnUNetTrainerGSP):
    """Let nnU-Net write all that it writes when training ends, with fresh weights."""
    preprocessed = nnunet_folders / "nnUNet_preprocessed" / DATASET / "nnUNetPlans_3d_fullres"
    preprocessed.mkdir(parents=True, exist_ok=True)
    (preprocessed / "case.b2nd").touch()
    for seed, fold in enumerate(folds):
        torch.manual_seed(seed)
        trainer = trainer_class({**plans, "continue_training": False}, "3d_fullres", fold, dataset_json(), CPU)
        trainer.initialize()
        trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        trainer.logger.log("train_losses", np.float32(0.5), 0)
        trainer._best_ema = np.float64(0.5)
        trainer.save_checkpoint(str(Path(trainer.output_folder, "checkpoint_final.pth")))
    folder = Path(trainer.output_folder_base)
    (folder / "plans.json").write_text(json.dumps(trainer.plans_manager.plans))
    (folder / "dataset.json").write_text(json.dumps(trainer.dataset_json))
    (folder / "dataset_fingerprint.json").write_text(json.dumps({"spacings": [[1.0, 1.0, 1.0]]}))
    return folder


@pytest.fixture(scope="module")
def model_folder(nnunet_folders):
    architecture = stock_architecture((8, 12, 16), isotropic(3))
    return write_model_folder(nnunet_folders, plans_of(architecture, (16, 16, 8)), (0, 1, "all"))


@pytest.fixture(scope="module")
def bundle(model_folder, tmp_path_factory):
    return export_model(model_folder, tmp_path_factory.mktemp("bundle") / "model.zip", [0])


@pytest.fixture
def results(tmp_path, monkeypatch):
    """The nnUNet_results of someone else."""
    folder = tmp_path / "results"
    folder.mkdir()
    monkeypatch.setenv("nnUNet_results", str(folder))
    return folder


def logits(model_folder, folds, shape=(16, 16, 8)):
    """Return what nnU-Net's prediction makes of an image of noise, mirroring included."""
    predictor = nnUNetPredictor(device=CPU, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model_folder), folds)
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32))
    return predictor.predict_logits_from_preprocessed_data(image)


def contents_of(bundle):
    with zipfile.ZipFile(bundle) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def parameters_of(model_folder, fold=0):
    return torch.load(model_folder / f"fold_{fold}" / "checkpoint_final.pth", weights_only=False)["network_weights"]


# --- out and in again


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
    assert seen == [(str(imported), [1, "all"], "checkpoint_final.pth")]


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
    architecture = gsp_architecture(stock_architecture((16, 24), isotropic(2, dim=2)), (16, 16),
                                    ShiftRequest(local_shift_ratio=0.5))
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


@pytest.mark.parametrize(("name", "n_parameters", "max_bytes"),
                         [("tiny", 245_256, 2 * MB), ("default", 1_332_084, 6 * MB)])
def test_a_fold_is_small(name, n_parameters, max_bytes, nnunet_folders, tmp_path, monkeypatch):
    tiny = load_template("promise12_prosgv1").settings
    features, strides, patch_size = {
        "tiny": (tiny["features_per_stage"], tiny["strides"], tiny["patch_size"]),
        "default": ((32, 64, 128, 256, 320, 320), isotropic(6), (32, 32, 32)),  # the patch changes no weight
    }[name]
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    folder = write_model_folder(nnunet_folders, plans_of(stock_architecture(features, strides), patch_size))
    unique = {tensor.data_ptr(): tensor.numel() for key, tensor in parameters_of(folder).items()
              if key != "gsp_settings"}
    assert sum(unique.values()) == pytest.approx(n_parameters, rel=0.01)  # channels and classes differ
    assert export_model(folder, tmp_path / "model.zip").stat().st_size <= max_bytes


def test_the_bundle_holds_no_pickle_no_path_and_no_case(model_folder, bundle, nnunet_folders):
    contents = contents_of(bundle)
    assert sorted(contents) == ["dataset.json", "dataset_fingerprint.json", WEIGHTS, "manifest.json", "plans.json"]
    for content in contents.values():
        assert not pickle_opcodes(content)
        assert b"/home/" not in content
        assert str(nnunet_folders).encode() not in content
    [pickled] = [content for name, content in contents_of(model_folder / "fold_0" / "checkpoint_final.pth").items()
                 if name.endswith("data.pkl")]
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


# --- what is not exported


def copied(model_folder, tmp_path):
    copy = tmp_path / model_folder.name
    shutil.copytree(model_folder, copy)
    return copy


def change_checkpoint(folder, change):
    file = folder / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(file, weights_only=False)
    change(checkpoint)
    torch.save(checkpoint, file)


def change_json(file, *path_and_value):
    content = json.loads(file.read_text())
    put(content, *path_and_value)
    file.write_text(json.dumps(content))


def put(content, *path_and_value):
    *path, last, value = path_and_value
    for key in path:
        content = content[key]
    content[last] = value


class Payload:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


ARCHITECTURE = ("configurations", "3d_fullres", "architecture")


@pytest.mark.parametrize(("change", "folds", "said"), [
    (lambda folder: shutil.rmtree(folder), None, "found no plans.json"),
    (lambda folder: None, [0, 3], "fold 3 has no checkpoint_final.pth"),
    (lambda folder: (folder / "fold_1" / "checkpoint_final.pth").rename(folder / "fold_1" / "checkpoint_best.pth"),
     [0, 1], "fold 1 has no checkpoint_final.pth"),
    (lambda folder: [file.unlink() for file in folder.glob("fold_*/*.pth")], None, "no fold has a checkpoint_final"),
    (lambda folder: change_json(folder / "plans.json", *ARCHITECTURE, "network_class_name", "a.PlainConvUNet"), None,
     "PlainConvUNet, expected a GSP network"),
    (lambda folder: change_json(folder / "plans.json", *ARCHITECTURE, "arch_kwargs", "shift_position", "CCS"), None,
     "other GSP settings"),
    (lambda folder: change_json(folder / "plans.json", "plans_name", "../plans"), None, "plans_name"),
    (lambda folder: (folder / "plans.json").write_text("{"), None, "plans.json is not there or not JSON"),
    (lambda folder: (folder / "dataset.json").unlink(), None, "dataset.json is not there"),
    *((lambda folder, name=name: (folder / name).write_text("[]"), None, f"{name} holds no JSON object")
      for name in ("plans.json", "dataset.json", "dataset_fingerprint.json")),
    (lambda folder: (folder / "fold_0" / "checkpoint_final.pth").write_bytes(b"weights"), None, "damaged"),
    (lambda folder: change_checkpoint(folder, lambda checkpoint: checkpoint.pop("init_args")), None, "damaged"),
    (lambda folder: change_checkpoint(folder, lambda checkpoint: checkpoint.update(trainer_name="nnUNetTrainerElse")),
     None, "several trainers"),
    (lambda folder: change_checkpoint(folder, lambda checkpoint: checkpoint.update(trainer_name=["a"])), None,
     "names of a trainer and a configuration in fold_0/checkpoint_final.pth"),
    (lambda folder: change_checkpoint(folder, lambda checkpoint: checkpoint["init_args"].update(configuration=[])),
     None, "names of a trainer and a configuration in fold_0/checkpoint_final.pth"),
    (lambda folder: change_checkpoint(folder, lambda checkpoint: checkpoint["network_weights"].update(
        {"encoder.stages.0.convs.0.all_modules.0.weight": torch.zeros(8, 1, 1, 1, 1)})), None, "one tensor"),
    (lambda folder: change_checkpoint(folder, lambda checkpoint: checkpoint["network_weights"].popitem()), None,
     "is missing"),
])
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
    assert_not_exported(copy, tmp_path / "model.zip", "more than the tensors, texts and numbers")
    torch.load(copy / "fold_0" / "checkpoint_final.pth", weights_only=False)
    assert (tmp_path / "run").is_dir()  # the payload works


def test_checkpoints_written_with_another_numpy(model_folder, tmp_path):
    """numpy 2 moved what it pickles a number by."""
    copy = copied(model_folder, tmp_path)
    file = copy / "fold_0" / "checkpoint_final.pth"
    contents = contents_of(file)
    [(name, pickled)] = [(name, content) for name, content in contents.items() if name.endswith("data.pkl")]
    here, there = sorted((b"numpy.core.multiarray\n", b"numpy._core.multiarray\n"),
                         key=lambda module: module not in pickled)
    assert here in pickled
    write_zip(file, {**contents, name: pickled.replace(here, there)})
    assert export_model(copy, tmp_path / "model.zip", [0]).is_file()


def test_an_existing_file_is_not_replaced(model_folder, tmp_path):
    (tmp_path / "model.zip").write_text("mine")
    assert_not_exported(model_folder, tmp_path / "model.zip", "exists and is not replaced")
    assert (tmp_path / "model.zip").read_text() == "mine"
    with pytest.raises(InputError, match="Expected a folder"):
        export_model(model_folder, tmp_path / "nowhere" / "model.zip")


# --- what is not imported


def write_zip(file, contents, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in contents.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            entry.compress_type = compression
            archive.writestr(entry, content)
    return file


def sealed(contents):
    """Return the contents with a manifest that has their checksums, as a stranger can make one."""
    manifest = json.loads(contents["manifest.json"])
    manifest["sha256"] = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()
                          if name != "manifest.json"}
    return {**contents, "manifest.json": json.dumps(manifest).encode()}


def assert_refused(file, results, said):
    with pytest.raises(InputError, match=said) as refusal:
        import_model(file)
    assert str(refusal.value).isprintable()
    assert list(results.rglob("*")) == []


def in_json(name, *path_and_value):
    def change(contents):
        content = json.loads(contents[name])
        put(content, *path_and_value)
        contents[name] = json.dumps(content).encode()
    return change


def in_weights(change_tensors):
    def change(contents):
        tensors = load(contents[WEIGHTS])
        change_tensors(tensors)
        contents[WEIGHTS] = save(tensors)
    return change


def in_manifest(*path_and_value):
    return in_json("manifest.json", *path_and_value)


def of_dataset(name):
    def change(contents):
        in_manifest("dataset", name)(contents)
        in_json("plans.json", "dataset_name", name)(contents)
    return change


def in_network(*path_and_value):
    return in_json("plans.json", *ARCHITECTURE, "arch_kwargs", *path_and_value)


def in_configuration(*path_and_value):
    return in_json("plans.json", "configurations", "3d_fullres", *path_and_value)


FIRST = "encoder.stages.0.convs.0.conv.weight"
UNSOUND = {
    "dataset is a path": (of_dataset("Dataset902_x/../../y"), "manifest.json: dataset"),
    "dataset without an id": (of_dataset("Shared"), "manifest.json: dataset"),
    "dataset and a line break": (of_dataset(f"{DATASET}\n"), "manifest.json: dataset"),
    "dataset of other plans": (in_manifest("dataset", "Dataset902_Other"), "its plans say"),
    "trainer is dotted": (in_manifest("trainer", "os.system"), "trainer"),
    "trainer is unknown": (in_manifest("trainer", "nnUNetTrainerOfNobody"), "install the package that has it"),
    "trainer is a function": (in_manifest("trainer", "join"), "finds no trainer"),
    "trainer is another class": (in_manifest("trainer", "PlansManager"), "finds no trainer"),
    "trainer of another network": (in_manifest("trainer", "nnUNetTrainerBN"), "num_batches_tracked is missing"),
    "trainer of no GSP network": (in_manifest("trainer", "nnUNet_Primus_S_Trainer"), "Primus"),
    "plans name is a path": (in_manifest("plans", "../plans"), "plans"),
    "configuration is a path": (in_manifest("configuration", "../3d"), "configuration"),
    "configuration is not there": (in_manifest("configuration", "3d_lowres"), "3d_lowres"),
    "checkpoint is a path": (in_manifest("checkpoint", "../checkpoint.pth"), "checkpoint"),
    "checkpoint is no checkpoint": (in_manifest("checkpoint", "sitecustomize.py"), "checkpoint"),
    "fold is a path": (in_manifest("folds", "../0", {"inference_allowed_mirroring_axes": None}), "folds"),
    "fold is no number": (in_manifest("folds", "00", {"inference_allowed_mirroring_axes": None}), "folds"),
    "no fold": (in_manifest("folds", {}), "folds"),
    "axes are none": (in_manifest("folds", "0", "inference_allowed_mirroring_axes", [3]), "axes"),
    "manifest says more": (in_manifest("script", "x"), "script"),
    "a later format": (in_manifest("format", 2), "format 2.*--upgrade"),
    "no format": (in_manifest("format", "one"), "format"),
    "manifest is a list": (lambda contents: contents.update({"manifest.json": b"[1]"}), "manifest.json"),
    "another network": (in_json("plans.json", *ARCHITECTURE, "network_class_name", "os.system"), "os.system"),
    "a network of this name": (in_json("plans.json", *ARCHITECTURE, "network_class_name", "evil.GSPUNet"), "evil"),
    "imports more": (in_json("plans.json", *ARCHITECTURE, "_kw_requires_import", ["kernel"]), "kernel"),
    "imports a module": (in_network("nonlin", "antigravity.fly"), "antigravity"),
    "imports a function": (in_network("conv_op", "os.system"), "os.system"),
    "imports another layer": (in_network("norm_op", "torch.nn.Linear"), "torch.nn.Linear"),
    "layer gets an object": (in_network("nonlin_kwargs", {"inplace": ["x"]}), "nonlin_kwargs"),
    "layer gets unknown": (in_network("norm_op_kwargs", {"nonsense": 1}), "nonsense"),
    "network gets unknown": (in_network("nonsense", 1), "nonsense"),
    "endless stages": (in_network("n_stages", 10**9), "n_stages"),
    "endless convolutions": (in_network("n_conv_per_stage", [10**9, 2, 2]), "n_conv_per_stage"),
    "endless decoder": (in_network("n_conv_per_stage_decoder", 10**9), "n_conv_per_stage_decoder"),
    "endless channels": (in_network("features_per_stage", [10**15] * 3), "network|weights"),
    "other groups": (in_network("spatial_groups", [[1, 2, 2], [2, 2, 2], [2, 2, 1]]), "network|other GSP settings"),
    "other position": (in_network("shift_position", "CCS"), "other GSP settings"),
    "inherits": (in_configuration("inherits_from", "3d_fullres"), "inherits_from"),
    "folder of data is a path": (in_configuration("data_identifier", "../x"), "data_identifier"),
    "folder of data is absolute": (in_configuration("data_identifier", "/x"), "data_identifier"),
    "stage is a path": (in_configuration("previous_stage", "../x"), "previous_stage"),
    "two configurations": (in_json("plans.json", "configurations", "2d", {}), "2d"),
    "reader is a module": (in_json("plans.json", "image_reader_writer", "os"), "BaseReaderWriter"),
    "reader is not there": (in_json("plans.json", "image_reader_writer", "ReaderOfNobody"), "ReaderOfNobody"),
    "labels by a module": (in_json("plans.json", "label_manager", "np"), "LabelManager"),
    "preprocessor is a function": (in_configuration("preprocessor_name", "join"), "DefaultPreprocessor"),
    "preprocessor is no name": (in_configuration("preprocessor_name", 7), "network"),
    "normalization is a module": (in_configuration("normalization_schemes", ["np"]), "ImageNormalization"),
    "resampling is a module": (in_configuration("resampling_fn_seg", "np"), "resamples"),
    "resampling is a class": (in_configuration("resampling_fn_data", "OrderedDict"), "resamples"),
    "plans are a list": (lambda contents: contents.update({"plans.json": b"[]"}), "plans.json"),
    "plans are no JSON": (lambda contents: contents.update({"plans.json": b"\x80\x04."}), "plans.json"),
    "plans of a terminal": (in_json("plans.json", "dataset_name", "\x1b[2J"), "its plans say"),
    "ending is a path": (in_json("dataset.json", "file_ending", "/../../x"), "file_ending"),
    "dataset's reader is a module": (in_json("dataset.json", "overwrite_image_reader_writer", "traceback"),
                                     "BaseReaderWriter"),
    "other labels": (in_json("dataset.json", "labels", {"background": 0, "one": 1}), "seg_layers"),
    "no background": (in_json("dataset.json", "labels", {}), "[Bb]ackground"),
    "deep nesting": (lambda contents: contents.update(
        {"dataset.json": contents["dataset.json"][:-1] + b', "deep": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"}),
                     "JSON"),
    "a tensor is missing": (in_weights(lambda tensors: tensors.pop(FIRST)), "is missing"),
    "a tensor too many": (in_weights(lambda tensors: tensors.update(more=torch.zeros(1))), "more is no tensor"),
    "an alias is stored": (in_weights(lambda tensors: tensors.update(
        {FIRST.replace("conv.weight", "all_modules.0.weight"): tensors[FIRST].clone()})), "no tensor of the network"),
    "no settings": (in_weights(lambda tensors: tensors.pop("gsp_settings")), "gsp_settings"),
    "other settings": (in_weights(lambda tensors: tensors["gsp_settings"].__setitem__(1, 2)), "other GSP settings"),
    "another shape": (in_weights(lambda tensors: tensors.update({FIRST: tensors[FIRST][:4]})), "network of the plans"),
    "another type": (in_weights(lambda tensors: tensors.update({FIRST: tensors[FIRST].half()})), "torch.float16"),
    "not a number": (in_weights(lambda tensors: tensors[FIRST].view(-1)[:1].fill_(torch.nan)), "not finite"),
    "infinite": (in_weights(lambda tensors: tensors[FIRST].view(-1)[:1].fill_(torch.inf)), "not finite"),
    "weights are a pickle": (lambda contents: contents.update({WEIGHTS: b"\x80\x02}q\x00."}), "weights of fold 0"),
    "much too many weights": (lambda contents: contents.update({WEIGHTS: bytes(3 * MB)}), "bytes, where at most"),
    "weights are missing": (lambda contents: contents.pop(WEIGHTS), "missing"),
    "plans are missing": (lambda contents: contents.pop("plans.json"), "missing"),
    "another file": (lambda contents: contents.update({"fold_0/sitecustomize.py": b"x"}), "sitecustomize"),
    "a fold too many": (lambda contents: contents.update({"fold_1/checkpoint.safetensors": b"x"}), "fold_1"),
    "a path upwards": (lambda contents: contents.update({"../evil.json": b"{}"}), "evil"),
    "an absolute path": (lambda contents: contents.update({"/tmp/evil.json": b"{}"}), "evil"),
    "a backslash": (lambda contents: contents.update({"fold_0\\..\\evil.json": b"{}"}), "evil"),
    "a long JSON": (lambda contents: contents.update({"dataset_fingerprint.json": b"{}" + b" " * 16 * MB}), "bytes"),
}


@pytest.mark.parametrize("case", UNSOUND)
def test_unsound_bundles_with_right_checksums(case, bundle, results, tmp_path):
    change, said = UNSOUND[case]
    contents = contents_of(bundle)
    change(contents)
    if "sha256" in json.loads(contents["manifest.json"]):
        contents = sealed(contents)
    assert_refused(write_zip(tmp_path / "model.zip", contents), results, said)


def test_a_bundle_sealed_by_hand_is_taken(bundle, results, tmp_path):
    """So that the cases above are refused for what they change."""
    assert import_model(write_zip(tmp_path / "model.zip", sealed(contents_of(bundle)))).is_dir()


@pytest.mark.parametrize("name", ["plans.json", "dataset.json", "dataset_fingerprint.json", WEIGHTS])
def test_wrong_checksums(name, bundle, results, tmp_path):
    contents = contents_of(bundle)
    contents[name] += b" "
    assert_refused(write_zip(tmp_path / "model.zip", contents), results, "another checksum")


@pytest.mark.parametrize("name", ["plans.json", WEIGHTS])
def test_files_that_are_only_in_the_zip_or_only_in_the_manifest(name, bundle, results, tmp_path):
    contents = contents_of(bundle)
    manifest = json.loads(contents["manifest.json"])
    del manifest["sha256"][name]
    unlisted = {**contents, "manifest.json": json.dumps(manifest).encode()}
    assert_refused(write_zip(tmp_path / "unlisted.zip", unlisted), results, "alone, found")
    del contents[name]
    assert_refused(write_zip(tmp_path / "lacking.zip", contents), results, "missing")


def linked(archive):
    archive.filelist[1].external_attr = (stat.S_IFLNK | 0o777) << 16


def encrypted(archive):
    archive.filelist[1].flag_bits |= 1


def counted_twice(archive):
    """Let two entries lie on the same bytes."""
    twin = zipfile.ZipInfo("fold_1/checkpoint.safetensors")
    original = archive.getinfo(WEIGHTS)
    for name in ("header_offset", "file_size", "compress_size", "CRC", "external_attr"):
        setattr(twin, name, getattr(original, name))
    archive.filelist.append(twin)


def inflated(archive):
    archive.getinfo("plans.json").file_size = 10**12


def inflated_stored(archive):
    archive.getinfo("plans.json").file_size = archive.getinfo("plans.json").compress_size = 10**12


def cut_by_nul(archive):
    archive.getinfo("plans.json").filename = "plans.json\0.py"


def a_folder(archive):
    archive.mkdir("fold_1") if hasattr(archive, "mkdir") else archive.writestr("fold_1/", b"")


@pytest.mark.parametrize(("trick", "said"), [
    (linked, "a link"), (encrypted, "encrypted"), (inflated, "compressed"), (a_folder, "a folder"),
    (counted_twice, "more bytes"), (inflated_stored, "more bytes"),
    (cut_by_nul, r"plans.json\\x00.py"),
])
def test_tricks_with_the_zip(trick, said, bundle, results, tmp_path):
    file = shutil.copy(bundle, tmp_path / "model.zip")
    with zipfile.ZipFile(file, "a") as archive:
        trick(archive)
        archive._didModify = True
    assert_refused(file, results, said)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name(bundle, results, tmp_path):
    file = shutil.copy(bundle, tmp_path / "model.zip")
    with zipfile.ZipFile(file, "a") as archive:
        entry = zipfile.ZipInfo("plans.json")
        entry.external_attr = (stat.S_IFREG | 0o644) << 16
        archive.writestr(entry, b"{}")
    assert_refused(file, results, "two files of one name")


def test_compressed_files_are_not_even_opened(bundle, results, tmp_path):
    assert_refused(write_zip(tmp_path / "model.zip", contents_of(bundle), zipfile.ZIP_DEFLATED), results, "compressed")


@pytest.mark.parametrize("content", [None, b"", b"weights", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_bundle(content, results, tmp_path):
    if content is not None:
        (tmp_path / "model.zip").write_bytes(content)
    assert_refused(tmp_path / "model.zip", results, "no such file|not a zip|no manifest.json")
    assert_refused(tmp_path, results, "no such file")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_refused_or_harmless(data, bundle, model_folder, results, tmp_path):
    """Cut off anywhere, or with any byte changed: one sentence, or the very model."""
    whole = bundle.read_bytes()
    # a zip is read by the directory at its end, and that by the last 22 bytes; most of the rest is weights
    place = data.draw(st.one_of(*(st.integers(len(whole) - last, len(whole) - 1) for last in (22, 900, len(whole)))))
    rest = data.draw(st.one_of(st.just(b""), st.integers(1, 255).map(
        lambda change: bytes([whole[place] ^ change]) + whole[place + 1:])))
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
    with pytest.raises(InputError, match="exists and is not replaced"):
        import_model(bundle)
    assert (folder / "plans.json").read_text() == "mine"
    assert os.listdir(results) == [DATASET]


@pytest.mark.parametrize("variable", ["nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"])
def test_another_dataset_of_the_same_id(variable, bundle, results, tmp_path, monkeypatch):
    monkeypatch.setenv(variable, str(tmp_path / "in_use"))
    (tmp_path / "in_use" / "Dataset902_Mine").mkdir(parents=True)
    with pytest.raises(InputError, match="share its id with Dataset902_Mine"):
        import_model(bundle)
    assert list(results.iterdir()) == []


@pytest.mark.parametrize("value", [None, "", "/nowhere/at/all"])
def test_without_a_results_folder(value, bundle, monkeypatch):
    monkeypatch.delenv("nnUNet_results")
    if value is not None:
        monkeypatch.setenv("nnUNet_results", value)
    with pytest.raises(InputError, match="nnUNet_results"):
        import_model(bundle)
