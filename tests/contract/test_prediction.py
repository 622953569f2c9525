"""Every way to predict, over images of every size and orientation: the geometry is the image's, the bits repeat."""

import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.inference import predict_from_raw_data

from tests.contract.conftest import DATASET, TRAINER, predictor_of
from tests.datasets.sources import voxels

IDENTITY = (1, 0, 0, 0, 1, 0, 0, 0, 1)
OBLIQUE = (0.96, 0.0, 0.28, 0.0, 1.0, 0.0, -0.28, 0.0, 0.96)
IMAGES = {  # voxels (D, H, W), mm (x, y, z), direction
    "as_trained": ((28, 36, 34), (1.0, 1.0, 1.0), IDENTITY),
    "smaller_than_the_patch": ((5, 7, 9), (1.0, 1.0, 1.0), IDENTITY),
    "single_slice": ((1, 33, 30), (1.0, 1.0, 1.0), IDENTITY),
    "odd_and_flipped": ((23, 29, 31), (1.0, 1.0, 1.0), (-1, 0, 0, 0, -1, 0, 0, 0, 1)),
    "turned": ((20, 25, 30), (0.9, 1.3, 1.7), (0, 1, 0, 0, 0, 1, 1, 0, 0)),
    "oblique": ((20, 25, 30), (1.0, 1.0, 1.2), OBLIQUE),
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for number, (name, (shape, spacing_mm, direction)) in enumerate(IMAGES.items()):
        rng = np.random.default_rng(number)
        for channel in range(2):
            image = sitk.GetImageFromArray(rng.normal(5, 1, shape).astype(np.float32))
            image.SetSpacing(spacing_mm)
            image.SetOrigin((-12.5, 7.25, 30.0))
            image.SetDirection(direction)
            sitk.WriteImage(image, folder / f"{name}_{channel:04d}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def predictions(images, model_folder, tmp_path_factory):
    """Predict all images in Python, with mirroring and probabilities."""
    output = tmp_path_factory.mktemp("predictions")
    predictor = predictor_of(model_folder)
    predictor.predict_from_files(
        str(images),
        str(output),
        save_probabilities=True,
        num_processes_preprocessing=1,
        num_processes_segmentation_export=1,
    )
    return output


@pytest.mark.parametrize("name", IMAGES)
def test_geometry_is_the_images(name, images, predictions):
    image = sitk.ReadImage(images / f"{name}_0000.nii.gz")
    prediction = sitk.ReadImage(predictions / f"{name}.nii.gz")
    for geometry in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(prediction, geometry)() == pytest.approx(getattr(image, geometry)(), abs=1e-6)
    probabilities = np.load(predictions / f"{name}.npz")["probabilities"]
    assert probabilities.shape == (4, *sitk.GetArrayFromImage(prediction).shape)
    assert np.isfinite(probabilities).all()
    assert np.array_equal(probabilities.argmax(0), sitk.GetArrayFromImage(prediction))


def test_the_command_repeats_the_bits_in_parts(images, predictions, model_folder, tmp_path, monkeypatch):
    """`nnUNetv2_predict` in two parts: every case in one of them, each as in one go."""
    for part in range(2):
        run(
            monkeypatch,
            predict_from_raw_data.predict_entry_point,
            "-i",
            images,
            "-o",
            tmp_path,
            "-d",
            DATASET,
            "-c",
            "3d_fullres",
            "-tr",
            TRAINER,
            "-f",
            0,
            "-num_parts",
            2,
            "-part_id",
            part,
            "-npp",
            1,
            "-nps",
            1,
            "--save_probabilities",
        )
        assert len(list(tmp_path.glob("*.nii.gz"))) == len(IMAGES) / 2 * (part + 1)
    for name in IMAGES:
        once, again = (np.load(folder / f"{name}.npz")["probabilities"] for folder in (predictions, tmp_path))
        assert np.array_equal(once, again)


def test_from_a_model_folder_alone_and_without_mirroring(images, predictions, model_folder, tmp_path, monkeypatch):
    """`nnUNetv2_predict_from_modelfolder --disable_tta`, the model moved to where nnU-Net's folders do not lead."""
    moved = tmp_path / "model"
    shutil.copytree(model_folder, moved)
    monkeypatch.delenv("nnUNet_results")
    run(
        monkeypatch,
        predict_from_raw_data.predict_entry_point_modelfolder,
        "-i",
        images,
        "-o",
        tmp_path / "out",
        "-m",
        moved,
        "-f",
        0,
        "--disable_tta",
        "-npp",
        1,
        "-nps",
        1,
        "--save_probabilities",
    )
    for name in IMAGES:
        mirrored, plain = (
            np.load(folder / f"{name}.npz")["probabilities"] for folder in (predictions, tmp_path / "out")
        )
        assert plain.shape == mirrored.shape
        assert not np.array_equal(plain, mirrored)
    logits = predictor_of(moved, use_mirroring=False).predict_logits_from_preprocessed_data(torch.ones(2, 20, 20, 20))
    assert json.loads((tmp_path / "out" / "plans.json").read_text())["dataset_name"] == DATASET
    assert torch.isfinite(logits).all()


def test_an_array_is_predicted_as_its_file(images, predictions, model_folder):
    name = "odd_and_flipped"
    image, properties = SimpleITKIO().read_images(
        [str(images / f"{name}_{channel:04d}.nii.gz") for channel in range(2)]
    )
    segmentation = predictor_of(model_folder).predict_single_npy_array(image, properties)
    assert np.array_equal(segmentation, voxels(predictions / f"{name}.nii.gz"))


def run(monkeypatch, command, *arguments):
    """Run one of nnU-Net's commands in this process, which spares its start."""
    monkeypatch.setattr("sys.argv", [command.__name__, "-device", "cpu", *map(str, arguments)])
    command()
