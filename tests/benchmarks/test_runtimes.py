"""The bench of runtimes on a small model: each way computes the network, and a broken one is no figure."""

import numpy as np
import pytest
import torch

pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")
from benchmarks import runtimes
from benchmarks.measuring import WrongError
from nnunetv2_gsp.prediction.model import load_predictor
from tests.datasets.sources import voxels
from tests.prediction.models import PATCH, write_images, write_model


@pytest.fixture
def model_folder(nnunet_folders):
    torch.manual_seed(0)
    return write_model(nnunet_folders)


@pytest.fixture
def images(tmp_path):
    return write_images(tmp_path / "images")


def test_a_row_for_each_way(model_folder, images, monkeypatch):
    monkeypatch.setattr(runtimes, "LEAST_SAME_LABELS", {"fp32": 0.9999, "bf16": 0.9, "int8": 0.8})  # of random weights
    table = runtimes.runtimes_table(model_folder, 0, images, number=3, rounds=1)
    assert [row[""] for row in table.rows][:2] == [runtimes.BASELINE, runtimes.FUSED]
    assert len(table.rows) == 6
    assert all(row["ms"].median_ms > 0 for row in table.rows)
    assert table.rows[1]["same labels, %"] == "100.000"


def test_a_wrong_way_is_no_figure(model_folder, images, monkeypatch):
    monkeypatch.setattr(runtimes, "_in_onnx_runtime", lambda file: lambda patch: np.zeros((1, 2, *PATCH)))
    monkeypatch.setattr(runtimes, "interleaved", lambda *_: pytest.fail("it was timed"))
    with pytest.raises(WrongError, match="ONNX Runtime, fp32 gives only"):
        runtimes.runtimes_table(model_folder, 0, images, number=3, rounds=1)


def test_the_halves_are_of_the_images_that_there_are(model_folder, images, monkeypatch):
    monkeypatch.setattr(runtimes, "LEAST_SAME_LABELS", {"fp32": 0.9999, "bf16": 0.9, "int8": 0.8})
    table = runtimes.runtimes_table(model_folder, 0, images, number=20, rounds=1)
    assert "Labels on 2 images" in table.note
    assert "calibrated on 1 other" in table.note
    with pytest.raises(WrongError, match="Two images at least are needed"):
        runtimes.runtimes_table(model_folder, 0, images, number=1, rounds=1)


def test_of_regions_the_last_one_counts():
    logits = np.array([[[1, 1, -1, -1], [-1, 1, 1, -1]]])  # (1, regions, voxels)
    assert runtimes._labels_of(logits, has_regions=True).tolist() == [[1, 2, 2, 0]]
    assert runtimes._labels_of(logits, has_regions=False).tolist() == [[0, 0, 1, 0]]


def test_patches_are_the_middle_of_images_and_small_ones_are_padded(model_folder, images):
    patches = runtimes.central_patches(load_predictor(model_folder), images, 2)
    assert [patch.shape for patch in patches] == [(1, 1, *PATCH)] * 2
    assert voxels(images / "b_0000.nii.gz").shape == (7, 5, 9)
    assert not patches[1][0, 0, 7:].any()
    assert not patches[1][0, 0, :, 5:].any()
    assert patches[1].any()
