"""The example predicts what nnU-Net predicts: nnU-Net's predictor on the same files is the oracle."""

import os
import pickle
import subprocess
import venv
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
import pytest
from nnunetv2.postprocessing.remove_connected_components import (
    apply_postprocessing,
    remove_all_but_largest_component_from_segmentation,
)

from nnunetv2_gsp.runtimes.exporting import export_network
from tests.examples.modules import ONNX_PREDICT, loaded
from tests.runtimes.cases import CASES, assert_alike, of_nnunet, write_case

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

KEEP = remove_all_but_largest_component_from_segmentation


class Exported(NamedTuple):
    """Files of a model and an image."""

    model_folder: Path
    pipeline: Path
    images: Path
    folds: tuple


@pytest.fixture(scope="module")
def exported(nnunet_folders, tmp_path_factory):
    """Export a model by the name of its case, once."""
    made = {}

    def export(name):
        if name not in made:
            folder = tmp_path_factory.mktemp("results")
            written = write_case(name, nnunet_folders, folder)
            output = folder / "exported" / "model.onnx"
            export_network(written.model_folder, output, separate_folds=len(written.folds) > 1)
            made[name] = Exported(
                written.model_folder, output.with_name("pipeline.json"), written.images, written.folds
            )
        return made[name]

    return export


@pytest.fixture(scope="module")
def example():
    return loaded(ONNX_PREDICT)


def predict(example, exported, output, monkeypatch):
    line = ["onnx_predict.py", exported.pipeline, "-i", exported.images, "-o", output]
    monkeypatch.setattr("sys.argv", [*map(str, line)])
    example.main()


@pytest.mark.parametrize("name", CASES)
def test_labels_are_nnunets(name, exported, example, tmp_path, monkeypatch):
    predict(example, exported(name), tmp_path, monkeypatch)
    assert_alike(nibabel.load(tmp_path / "case.nii.gz"), of_nnunet(exported(name), tmp_path))


def test_components_are_removed_as_nnunet_does_it(example):
    labels = (np.random.default_rng(0).random((12, 12, 12)) > 0.9) * np.random.default_rng(1).integers(0, 4, (12,) * 3)
    for kept in ([1, 2, 3], [2, 3], [1], [7]):
        expected = apply_postprocessing(labels, [KEEP], [{"labels_or_regions": kept}])
        got = labels.copy()
        example.keep_largest_component(got, kept, background_label=0)
        assert (got == expected).all()
    assert (expected == labels).all()  # there is no 7


@pytest.mark.parametrize("image", [np.zeros((1, 5, 6, 7), np.float32), np.full((1, 5, 6, 7), 3, np.float32)])
def test_an_image_of_one_value_is_predicted(image, exported, example):
    made = exported("smaller than the patch")
    pipeline = example.json.loads(made.pipeline.read_text())
    networks = [example.onnxruntime.InferenceSession(made.pipeline.with_name("model.onnx"))]
    assert example.predict_labels(image, np.ones(3), pipeline, networks).shape == (5, 6, 7)


def test_a_missing_channel_is_one_sentence(exported, example, tmp_path, monkeypatch):
    made = exported("phantom, regions")
    images = tmp_path / "images"
    images.mkdir()
    with pytest.raises(SystemExit, match="got no case"):
        predict(example, made._replace(images=images), tmp_path / "out", monkeypatch)
    (images / "case_0000.nii.gz").touch()
    with pytest.raises(SystemExit, match=r"got no \['case_0001.nii.gz', 'case_0002"):
        predict(example, made._replace(images=images), tmp_path / "out", monkeypatch)
    assert not (tmp_path / "out").exists()


def test_it_is_short():
    assert len(ONNX_PREDICT.read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.contract
def test_it_runs_without_torch_and_nnunet(exported, tmp_path):
    """In a fresh environment, for which pip gets four packages."""
    made = exported("phantom, regions")
    folder = made.model_folder / "crossval_results_folds_0"
    folder.mkdir()
    postprocessing = [KEEP], [{"labels_or_regions": [(1, 2, 3)]}]
    (folder / "postprocessing.pkl").write_bytes(pickle.dumps(postprocessing))
    export_network(made.model_folder, tmp_path / "model.onnx")

    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("nnUNet", "PYTHON"))}
    packages = ["onnxruntime", "numpy", "scipy", "nibabel"]
    subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True, env=clean)
    code = "from importlib.util import find_spec as f; print(f('torch'), f('nnunetv2'), f('nnunetv2_gsp'))"
    found = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True, env=clean, cwd=tmp_path)
    assert found.stdout == "None None None\n"
    line = [python, ONNX_PREDICT, tmp_path / "pipeline.json", "-i", made.images, "-o", tmp_path / "out"]
    subprocess.run([*map(str, line)], check=True, env=clean, cwd=tmp_path)
    image = of_nnunet(made, tmp_path)
    expected = apply_postprocessing(np.asarray(image.dataobj), *postprocessing)
    assert_alike(nibabel.load(tmp_path / "out" / "case.nii.gz"), nibabel.Nifti1Image(expected, image.affine))
