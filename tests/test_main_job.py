"""The main job as a user does it, in nnU-Net's own commands: plan, preprocess, train, interrupt, --c, predict.

The embedded phantom always runs it. Real scans run the same path if GSP_REAL_MRI names the folder of an nnU-Net raw
dataset, to which nothing is written.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunetv2_gsp.datasets.challenges import convert_source
from nnunetv2_gsp.datasets.phantom import make_phantom

TRAINER = "nnUNetTrainerGSPFewIterations"
CONFIGURATION = "3d_fullres_small"


def command(name, *arguments):
    """Return the command line of one of nnU-Net's console scripts, in this environment."""
    return [str(Path(sys.executable).with_name(name)), *map(str, arguments)]


def run(name, *arguments):
    subprocess.run(command(name, *arguments), check=True)


@pytest.fixture(params=["phantom", "real MRI"])
def raw_dataset(request, nnunet_folders):
    """Put a raw dataset below nnUNet_raw; returns its folder."""
    raw = nnunet_folders / "nnUNet_raw"
    if request.param == "phantom":
        source = nnunet_folders / "source"
        make_phantom(source, n_cases=3, spacing_mm=5, seed=0)
        convert_source("brats", source, raw / "Dataset903_Phantom", held_out=["BraTS2021_00002"])
        return raw / "Dataset903_Phantom"
    source = os.environ.get("GSP_REAL_MRI")
    if source is None:
        pytest.skip("GSP_REAL_MRI names no nnU-Net raw dataset, so only the phantom ran the main job")
    return Path(shutil.copytree(source, raw / Path(source).name))


def test_plan_preprocess_train_interrupt_continue_predict(raw_dataset, nnunet_folders):
    dataset_id = raw_dataset.name[len("Dataset") :][:3]
    run("nnUNetv2_plan_and_preprocess", "-d", dataset_id, "-c", "3d_fullres", "-np", 1, "-npfp", 1)
    add_small_configuration(nnunet_folders / "nnUNet_preprocessed" / raw_dataset.name / "nnUNetPlans.json")

    train = command("nnUNetv2_train", dataset_id, CONFIGURATION, "all", "-tr", TRAINER, "-device", "cpu")
    assert "Epoch 0" in interrupt_in_epoch_1(train)
    continued = subprocess.run([*train, "--c"], check=True, capture_output=True, text=True).stdout
    assert "Epoch 1" in continued
    assert "Epoch 0" not in continued
    assert "Validation complete" in continued

    images = raw_dataset / ("imagesTs" if (raw_dataset / "imagesTs").is_dir() else "imagesTr")
    predictions = nnunet_folders / f"predictions_{raw_dataset.name}"
    run(
        "nnUNetv2_predict",
        "-i",
        images,
        "-o",
        predictions,
        "-d",
        dataset_id,
        "-c",
        CONFIGURATION,
        "-tr",
        TRAINER,
        "-f",
        "all",
        "-device",
        "cpu",
        "-npp",
        1,
        "-nps",
        1,
    )
    labels = set(json.loads((raw_dataset / "dataset.json").read_text())["labels"])
    cases = sorted(images.glob("*_0000.*"))
    assert cases
    for image in cases:
        check_prediction(image, predictions / image.name.replace("_0000.", "."), highest_label=len(labels) - 1)


def add_small_configuration(plans_file):
    """Add a configuration that two CPU cores can train, inheriting from 3d_fullres as nnU-Net's plans allow."""
    plans = json.loads(plans_file.read_text())
    parent = plans["configurations"]["3d_fullres"]
    architecture = parent["architecture"]
    kwargs = architecture["arch_kwargs"]
    kwargs_small = {**kwargs, "features_per_stage": [max(8, width // 4) for width in kwargs["features_per_stage"]]}
    total_stride = np.prod(kwargs["strides"], axis=0)
    patch_size = [
        int(min(planned, stride * max(2, round(32 / stride))))
        for planned, stride in zip(parent["patch_size"], total_stride, strict=True)
    ]
    plans["configurations"][CONFIGURATION] = {
        "inherits_from": "3d_fullres",
        "patch_size": patch_size,
        "architecture": {**architecture, "arch_kwargs": kwargs_small},
    }
    plans_file.write_text(json.dumps(plans))


def interrupt_in_epoch_1(train):
    """Press Ctrl-C as soon as the second epoch starts; returns what the training printed until then."""
    with subprocess.Popen(
        train,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    ) as process:
        printed = ""
        for line in process.stdout:
            printed += line
            if line.rstrip().endswith("Epoch 1"):
                os.killpg(process.pid, signal.SIGINT)
                break
        process.communicate(timeout=120)
    assert process.returncode != 0, printed
    return printed


def check_prediction(image_file, prediction_file, highest_label):
    image, prediction = sitk.ReadImage(str(image_file)), sitk.ReadImage(str(prediction_file))
    assert prediction.GetSize() == image.GetSize()
    assert prediction.GetSpacing() == image.GetSpacing()
    assert prediction.GetOrigin() == image.GetOrigin()
    assert prediction.GetDirection() == image.GetDirection()
    assert sitk.GetArrayFromImage(prediction).max() <= highest_label
