"""Models and images that differ in all that pipeline.json says, and what nnU-Net predicts of them."""

from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from nnunetv2_gsp.challenges import CHALLENGES
from nnunetv2_gsp.datasets.phantom import make_case
from tests.contract.conftest import predictor_of
from tests.runtimes.models import REGIONS, dataset, plans
from tests.sharing.models import write_model_folder

TURNED = (0, 1, 0, -1, 0, 0, 0, 0, 1)  # by 90° around the third axis


def phantom():
    """Return the channels of a brain, zero around it, (C, Z, Y, X), and its spacing."""
    images, _ = make_case(np.random.default_rng(0), 8)
    return np.stack([images[name].T for name in CHALLENGES["brats2023"].channels]), (8.0, 8.0, 8.0)


def ct():
    """Return thick slices of a noisy body in air."""
    rng = np.random.default_rng(1)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in (9, 40, 36)), indexing="ij"))
    radius = np.sqrt((grid**2).sum(0))
    image = np.where(radius < 0.9, 50, -1000) + 80 * (radius < 0.4) + rng.normal(0, 25, radius.shape)
    return image.round().astype(np.int16)[None], (5.0, 0.8, 0.8)


def ramp():
    """Return noise that brightens along one axis, shorter than a patch along the others."""
    noise = np.random.default_rng(2).normal(0, 0.5, (1, 11, 30, 13))
    return (noise + np.linspace(-4, 4, 30)[:, None]).astype(np.float32), (1.0, 1.0, 1.0)


class Case(NamedTuple):
    """A model's plans and dataset, and an image for it."""

    plans: dict
    dataset: dict
    image: tuple
    folds: tuple = (0,)


CASES = {
    "phantom, regions": lambda: Case(
        plans(
            patch_size=(16, 16, 16),
            spacing=(7.0, 8.5, 8.0),
            channels=4,
            use_mask_for_norm=[True, True, False, True],
        ),
        dataset(4, **REGIONS),
        phantom(),
    ),
    "anisotropic CT, transposed, two folds": lambda: Case(
        plans(
            patch_size=(16, 8, 16),
            spacing=(1.0, 3.5, 0.9),
            normalization_schemes=["CTNormalization"],
            transpose_forward=[1, 0, 2],
            transpose_backward=[1, 0, 2],
            image_reader_writer="NibabelIOWithReorient",
        ),
        dataset(),
        ct(),
        (0, 1),
    ),
    "2d": lambda: Case(
        plans(patch_size=(32, 32), spacing=(0.9, 0.9), normalization_schemes=["RescaleTo01Normalization"]),
        dataset(),
        ct(),
    ),
    "smaller than the patch": lambda: Case(
        plans(patch_size=(16, 16, 16), normalization_schemes=["NoNormalization"]),
        dataset(),
        ramp(),
    ),
}


class Written(NamedTuple):
    """Files of a model and an image."""

    model_folder: Path
    images: Path
    folds: tuple


def write_case(name, nnunet_folders, folder):
    """Write one of `CASES`, the model and the image, below a folder."""
    case = CASES[name]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_results", str(folder))
        model_folder = write_model_folder(nnunet_folders, case.plans, case.folds, dataset=case.dataset)
    images = folder / "images"
    images.mkdir()
    array, spacing = case.image
    for channel, voxels in enumerate(array):
        image = sitk.GetImageFromArray(voxels)
        image.SetSpacing(spacing[::-1])
        image.SetOrigin((-12.5, 7.25, 30.0))
        image.SetDirection(TURNED)
        sitk.WriteImage(image, images / f"case_{channel:04d}.nii.gz")
    return Written(model_folder, images, case.folds)


def of_nnunet(written, output):
    """Return what nnU-Net predicts."""
    predictor = predictor_of(written.model_folder, written.folds)
    files = [sorted(str(file) for file in written.images.iterdir())]
    predictor.predict_from_files_sequential(files, [str(output / "expected")])
    return nibabel.load(output / "expected.nii.gz")


def assert_alike(got, expected):
    labels, expected_labels = (np.asarray(image.dataobj) for image in (got, expected))
    shares = np.bincount(expected_labels.ravel()) / expected_labels.size
    assert (shares > 0.02).sum() >= 2  # or the same labels would show nothing
    assert (labels == expected_labels).mean() >= 0.999
    np.testing.assert_allclose(got.affine, expected.affine, atol=1e-3)
