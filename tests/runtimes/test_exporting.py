"""What is exported, run by ONNX Runtime and OpenVINO; the oracle is nnU-Net's network with the same weights."""

import json
import shutil

import numpy as np
import pytest
import torch

from nnunetv2_gsp.errors import InputError, TargetExistsError, UnavailableError
from nnunetv2_gsp.runtimes import exporting
from nnunetv2_gsp.runtimes.exporting import export_network
from tests.contract.conftest import predictor_of

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def patches(n):
    return np.random.default_rng(n).normal(size=(n, 1, 8, 8, 8)).astype(np.float32)


def logits(model_folder, folds, image):
    predictor = predictor_of(model_folder, folds)
    predicted = []
    for weights in predictor.list_of_parameters:
        predictor.network.load_state_dict(weights)
        with torch.inference_mode():
            predicted.append(predictor.network.eval()(torch.from_numpy(image)))
    return torch.stack(predicted).mean(0).numpy()


def run(file, image):
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, {"image": image})[0]


def run_openvino(file, image):
    import openvino

    core = openvino.Core()
    return core.compile_model(core.read_model(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(image)[0]


def assert_close(got, expected):
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


@pytest.fixture(scope="module")
def exported(model_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "new"
    assert export_network(model_folder, folder / "model.onnx") == [folder / "model.onnx", folder / "pipeline.json"]
    return folder


def test_folds_are_one_network_for_any_batch(exported, model_folder):
    assert sorted(file.name for file in exported.iterdir()) == ["model.onnx", "pipeline.json"]
    for batch in (1, 3):
        expected = logits(model_folder, (0, 1), patches(batch))
        assert_close(run(exported / "model.onnx", patches(batch)), expected)
    pipeline = json.loads((exported / "pipeline.json").read_text())
    assert pipeline["networks"] == [{"file": "model.onnx", "folds": ["0", "1"]}]


def test_the_file_says_how_far_it_differs_and_holds_no_path(exported, nnunet_folders):
    model = onnx.load(exported / "model.onnx")
    notes = {prop.key: prop.value for prop in model.metadata_props}
    assert notes["folds"] == "0 1"
    assert 0 <= float(notes["largest_logit_difference"]) <= 1e-3
    assert 0 <= float(notes["different_labels"]) <= 1e-4
    assert [opset.version for opset in model.opset_import if not opset.domain] == [18]
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    content = (exported / "model.onnx").read_bytes() + (exported / "pipeline.json").read_bytes()
    assert b"site-packages" not in content
    assert b".py" not in content
    assert str(nnunet_folders).encode() not in content


def test_a_network_for_each_fold(model_folder, tmp_path):
    export_network(model_folder, tmp_path / "model.onnx", separate_folds=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "model_fold_0.onnx",
        "model_fold_1.onnx",
        "pipeline.json",
    ]
    assert_close(run(tmp_path / "model_fold_1.onnx", patches(1)), logits(model_folder, (1,), patches(1)))
    networks = json.loads((tmp_path / "pipeline.json").read_text())["networks"]
    assert networks == [{"file": f"model_fold_{fold}.onnx", "folds": [str(fold)]} for fold in (0, 1)]


def test_openvino(model_folder, tmp_path):
    openvino = pytest.importorskip("openvino")
    export_network(model_folder, tmp_path / "model.xml", "openvino", folds=[1])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.bin", "model.xml", "pipeline.json"]
    for batch in (1, 3):
        assert_close(run_openvino(tmp_path / "model.xml", patches(batch)), logits(model_folder, (1,), patches(batch)))
    model = openvino.Core().read_model(tmp_path / "model.xml")
    noted = model.get_rt_info(["nnunetv2_gsp", "largest_logit_difference"])
    assert 0 <= float(noted.astype(str)) <= 1e-3


@pytest.mark.parametrize(
    ("format", "file", "run"), [("onnx", "model.onnx", run), ("openvino", "model.xml", run_openvino)]
)
def test_files_of_those_names_are_replaced_when_asked(format, file, run, model_folder, tmp_path):
    pytest.importorskip(format)
    for name in (file, "model.bin", "pipeline.json"):
        (tmp_path / name).write_text("of another fold")
    export_network(model_folder, tmp_path / file, format, folds=[1], overwrite=True)
    assert_close(run(tmp_path / file, patches(1)), logits(model_folder, (1,), patches(1)))
    networks = json.loads((tmp_path / "pipeline.json").read_text())["networks"]
    assert networks == [{"file": file, "folds": ["1"]}]


def assert_refused(folder, error, said, *arguments, **settings):
    before = {file: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(error, match=said) as refusal:
        export_network(*arguments, **settings)
    assert "\n" not in str(refusal.value)
    assert {file: file.read_bytes() for file in folder.iterdir()} == before


def test_a_network_that_differs_is_not_written(model_folder, tmp_path, monkeypatch):
    load = exporting.onnx_runtime.load
    monkeypatch.setattr(exporting.onnx_runtime, "load", lambda file: lambda patch: load(file)(patch) * 1.01)
    assert_refused(tmp_path, InputError, "differ by 0.01", model_folder, tmp_path / "model.onnx")


@pytest.mark.parametrize("existing", ["model.onnx", "pipeline.json"])
def test_an_existing_file_is_not_replaced(existing, model_folder, tmp_path):
    (tmp_path / existing).write_text("mine")
    assert_refused(tmp_path, TargetExistsError, existing, model_folder, tmp_path / "model.onnx")


def test_openvinos_weights_are_not_replaced(model_folder, tmp_path):
    pytest.importorskip("openvino")
    (tmp_path / "model.bin").write_text("mine")
    assert_refused(tmp_path, TargetExistsError, "model.bin", model_folder, tmp_path / "model.xml", "openvino")


def test_the_fold_of_all_cases_is_taken_alone_or_when_asked(model_folder, tmp_path):
    copy = tmp_path / model_folder.name
    shutil.copytree(model_folder, copy)
    shutil.copytree(copy / "fold_0", copy / "fold_all")

    def folds(name, asked=None):
        export_network(copy, tmp_path / name / "model.onnx", folds=asked)
        return json.loads((tmp_path / name / "pipeline.json").read_text())["networks"][0]["folds"]

    assert folds("among others") == ["0", "1"]
    assert folds("asked", ["all"]) == ["all"]
    shutil.rmtree(copy / "fold_0")
    shutil.rmtree(copy / "fold_1")
    assert folds("alone") == ["all"]


def test_another_ending_is_refused(model_folder, tmp_path):
    for format in ("tflite", "bundle"):
        sentence = f"Expected a format for other runtimes among onnx, openvino, got {format}; change format"
        assert_refused(tmp_path, InputError, sentence, model_folder, tmp_path / "model.zip", format)
    assert_refused(tmp_path, InputError, r"ends with \.onnx, got model\.zip", model_folder, tmp_path / "model.zip")


@pytest.mark.parametrize(("format", "file"), [("onnx", "model.onnx"), ("openvino", "model.xml")])
def test_a_package_that_is_missing_is_named(format, file, model_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    assert_refused(
        tmp_path,
        UnavailableError,
        rf"Expected onnx and .*, which write and run {format} files, got no onnx .*'nnunetv2_gsp\[{format}\]'",
        model_folder,
        tmp_path / file,
        format,
    )
