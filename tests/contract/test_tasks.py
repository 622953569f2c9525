"""Every kind of label, configuration, data and file format through train, validate and predict, in nnU-Net's own code.

`make test` runs rows in which every pair of values is met, `make test-contract` the same tasks on the other size.
"""

import json
from itertools import combinations, product

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.run.run_training import run_training

from tests.contract.conftest import CPU, TRAINER, plan, predictor_of
from tests.contract.generated import LABELS, SIZES, write_dataset, write_two_folds

CHANNELS, FILE_ENDINGS = (1, 2, 5), (".nii.gz", ".mha", ".nrrd")
PAIRWISE = [
    ("plain", "2d", "isotropic", 1, ".nrrd"),
    ("plain", "3d_fullres", "anisotropic", 2, ".nii.gz"),
    ("plain", "3d_cascade_fullres", "isotropic", 5, ".mha"),
    ("regions", "2d", "isotropic", 2, ".mha"),
    ("regions", "3d_fullres", "isotropic", 1, ".nrrd"),
    ("regions", "3d_cascade_fullres", "anisotropic", 5, ".nii.gz"),
    ("ignore", "2d", "isotropic", 5, ".nii.gz"),
    ("ignore", "3d_fullres", "isotropic", 1, ".mha"),
    ("ignore", "3d_cascade_fullres", "anisotropic", 2, ".nrrd"),
    ("regions and ignore", "2d", "anisotropic", 2, ".mha"),
    ("regions and ignore", "3d_fullres", "isotropic", 5, ".nrrd"),
    ("regions and ignore", "3d_cascade_fullres", "anisotropic", 1, ".nii.gz"),
]


def on_the_other_size(labels, configuration, size, n_channels, file_ending):
    """Return the row with the other size, and other channels and format beside it."""
    [other_size] = set(SIZES) - {size}
    return (
        labels,
        configuration,
        other_size,
        CHANNELS[(CHANNELS.index(n_channels) + 1) % len(CHANNELS)],
        FILE_ENDINGS[(FILE_ENDINGS.index(file_ending) + 1) % len(FILE_ENDINGS)],
    )


ROWS = [*PAIRWISE, *(pytest.param(*on_the_other_size(*row), marks=pytest.mark.contract) for row in PAIRWISE)]


def test_every_pair_of_values_is_met():
    axes = (LABELS, ("2d", "3d_fullres", "3d_cascade_fullres"), SIZES, CHANNELS, FILE_ENDINGS)
    for first, second in combinations(range(len(axes)), 2):
        assert {(row[first], row[second]) for row in PAIRWISE} == set(product(axes[first], axes[second]))


@pytest.mark.parametrize(("labels", "configuration", "size", "n_channels", "file_ending"), ROWS)
def test_train_validate_predict(labels, configuration, size, n_channels, file_ending, nnunet_folders):
    dataset_id = 100 + len(list((nnunet_folders / "nnUNet_raw").iterdir()))
    name = f"Dataset{dataset_id:03d}_Generated"
    raw = write_dataset(nnunet_folders / "nnUNet_raw", name, labels, n_channels, file_ending, size)
    stages = ["3d_lowres", configuration] if configuration == "3d_cascade_fullres" else [configuration]
    plan(dataset_id, [stages[0], "3d_fullres"] if len(stages) == 2 else stages)
    write_two_folds(nnunet_folders / "nnUNet_preprocessed" / name)

    predictions = None
    for stage in stages:
        if stage == "3d_cascade_fullres":  # its dataloader takes the lowres predictions of training cases, too
            run_training(str(dataset_id), "3d_lowres", 1, TRAINER, device=CPU)
        run_training(str(dataset_id), stage, 0, TRAINER, device=CPU)
        model = nnunet_folders / "nnUNet_results" / name / f"{TRAINER}__nnUNetPlans__{stage}"
        check_validation(model, labels)
        previous_stage, predictions = predictions, nnunet_folders / f"predictions_{dataset_id}_{stage}"
        predict(model, raw / "imagesTs", predictions, previous_stage)
        check_predictions(raw, predictions, file_ending, labels)


def predict(model, images, output, previous_stage):
    predictor = predictor_of(model)
    output.mkdir()
    # in this process, which spares the start of others; test_prediction.py starts them
    predictor.predict_from_files_sequential(
        str(images), str(output), folder_with_segs_from_prev_stage=previous_stage and str(previous_stage)
    )


def check_validation(model, labels):
    """Both cases of the fold were predicted, and every class or region was evaluated."""
    summary = json.loads((model / "fold_0" / "validation" / "summary.json").read_text())
    foreground = [str(value) for name, value in LABELS[labels].items() if name not in ("background", "ignore")]
    assert len(summary["metric_per_case"]) == 2
    assert {label.replace(",)", "").replace("(3", "3") for label in summary["mean"]} == {
        label.replace(",)", "").replace("(3", "3") for label in foreground
    }


def check_predictions(raw, output, file_ending, labels):
    """Every image has a segmentation of its geometry, with known labels, never the one to ignore."""
    images = sorted((raw / "imagesTs").glob(f"*_0000{file_ending}"))
    assert images
    for image_file in images:
        image = sitk.ReadImage(str(image_file))
        segmentation = sitk.ReadImage(str(output / image_file.name.replace("_0000", "")))
        assert segmentation.GetSize() == image.GetSize()
        for geometry in ("GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(segmentation, geometry)() == pytest.approx(getattr(image, geometry)())
        assert set(np.unique(sitk.GetArrayFromImage(segmentation))) <= {0, 1, 2, 3}
