"""A model goes out and in again by the two verbs, and out in other formats."""

import json
import shlex
import sys
from pathlib import Path

import pytest

from nnunetv2_gsp import sharing
from nnunetv2_gsp.architectures.from_plans import gsp_architecture
from nnunetv2_gsp.runtimes import exporting
from nnunetv2_gsp.web import writing
from tests.architectures.networks import isotropic, stock_architecture
from tests.cli.commands import calls_of, exit_code
from tests.sharing.models import parameters_of, plans_of, write_model_folder
from tests.web.pages import FILES


@pytest.fixture(scope="module")
def model_folder(nnunet_folders):
    architecture = gsp_architecture(stock_architecture((8, 12), isotropic(2)), (8, 8, 8))
    return write_model_folder(nnunet_folders, plans_of(architecture, (8, 8, 8)))


def test_out_and_in_again(model_folder, tmp_path, capsys, monkeypatch):
    bundle = tmp_path / "shared" / "model.zip"
    assert exit_code("export", model_folder, "-o", bundle) == 0
    assert capsys.readouterr().out == f"Wrote {bundle}\n"

    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    assert exit_code("import", bundle) == 0
    imported = tmp_path / model_folder.relative_to(model_folder.parents[1])
    printed = capsys.readouterr().out
    assert printed.startswith(f"Wrote {imported}. Predict: nnUNetv2_predict_from_modelfolder ")
    assert str(imported) in shlex.split(printed)
    trained = parameters_of(model_folder)
    assert all((weights == trained[name]).all() for name, weights in parameters_of(imported).items())


def test_a_bundle_is_replaced_with_overwrite_alone(model_folder, tmp_path):
    bundle = tmp_path / "model.zip"
    bundle.write_text("mine")
    assert exit_code("export", model_folder, "-o", bundle).endswith(
        "model.zip exists and is not replaced; choose another with -o, or replace it with --overwrite."
    )
    assert bundle.read_text() == "mine"
    assert exit_code("export", model_folder, "-o", bundle, "--overwrite") == 0


def test_a_fold_without_a_checkpoint_names_the_flags(model_folder, tmp_path):
    assert exit_code("export", model_folder, "-o", tmp_path / "model.zip", "-f", "4").endswith(
        "expected checkpoint_final.pth in fold 4, got none (folds that have one: 0); train it to its end, or choose "
        "folds with -f, or name another checkpoint with -chk."
    )


def test_the_format_follows_the_ending_or_is_named(model_folder, tmp_path, capsys):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    file = tmp_path / "model.onnx"
    assert exit_code("export", model_folder, "-o", file, "-f", "0") == 0
    printed = capsys.readouterr().out
    assert "model.onnx: logits differ from PyTorch's by" in printed
    assert printed.endswith(f"Wrote {file}, {tmp_path / 'pipeline.json'}\n")
    assert json.loads((tmp_path / "pipeline.json").read_text())["networks"] == [{"file": "model.onnx", "folds": ["0"]}]
    assert exit_code("export", model_folder, "-o", file, "--format", "onnx").endswith(
        "model.onnx exists and is not replaced; choose another with -o, or replace it with --overwrite."
    )
    assert exit_code("export", model_folder, "-o", file, "--format", "bundle", "--overwrite") == 0
    assert file.read_bytes().startswith(b"PK")
    assert exit_code("export", model_folder, "-o", tmp_path / "model.zip", "--format", "openvino").endswith(
        "Expected a file that ends with .xml, got model.zip; choose another with -o, or choose another with --format."
    )


def test_every_flag_is_passed_on(monkeypatch):
    networks = calls_of(monkeypatch, exporting, "export_network", [])
    bundles, pages = calls_of(monkeypatch, sharing, "export_model"), calls_of(monkeypatch, writing, "write_page")
    for line in (
        "-o a.xml --separate-folds",
        "-o a.onnx --overwrite",
        "-o a.zip --overwrite",
        "-o a --format web --libraries npm --overwrite",
    ):
        assert exit_code("export", "model", "-chk", "best.pth", "-f", "0", "all", *line.split()) == 0
    wishes = {"model_folder": Path("model"), "folds": ["0", "all"], "checkpoint_name": "best.pth"}
    assert networks == [
        {**wishes, "output": Path("a.xml"), "format": "openvino", "separate_folds": True, "overwrite": False},
        {**wishes, "output": Path("a.onnx"), "format": "onnx", "separate_folds": False, "overwrite": True},
    ]
    assert bundles == [{**wishes, "output": Path("a.zip"), "overwrite": True}]
    assert pages == [{**wishes, "output": Path("a"), "libraries": Path("npm"), "overwrite": True}]


def test_what_is_not_installed_is_named(model_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    said = exit_code("export", model_folder, "-o", tmp_path / "model.onnx")
    assert said.endswith("got no onnxruntime; run: pip install 'nnunetv2_gsp[onnx]'.")
    assert list(tmp_path.iterdir()) == []


def test_a_page_is_written_with_libraries_of_a_folder(model_folder, tmp_path, capsys, monkeypatch):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    asked = []
    monkeypatch.setattr(writing, "library_files", lambda folder: asked.append(folder) or FILES)
    output = tmp_path / "page"
    line = ["export", model_folder, "-o", output, "--format", "web"]
    assert exit_code(*line, "--libraries", tmp_path / "npm") == 0
    assert asked == [tmp_path / "npm"]
    assert f"Wrote {output / 'index.html'}. Open it in a browser" in capsys.readouterr().out
    assert exit_code(*line).endswith("page exists and is not replaced; choose another with -o, or replace it with "
                                     "--overwrite.")  # fmt: skip
    assert exit_code(*line, "--overwrite", "--separate-folds").endswith("got --separate-folds.")
    assert "index.html" in [file.name for file in output.iterdir()]
