"""A small model as nnU-Net leaves it, images to predict, and what nnU-Net makes of them."""

from unittest import mock

import numpy as np
import SimpleITK as sitk
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunetv2_gsp.architectures.from_plans import gsp_architecture
from nnunetv2_gsp.nnunet import FINAL_CHECKPOINT
from nnunetv2_gsp.trainers import nnUNetTrainerGSP
from tests.architectures.networks import isotropic, stock_architecture
from tests.prediction.cases import LINEAR
from tests.sharing.models import plans_of, write_model_folder

PATCH = (8, 8, 8)
SHAPES = {"a": (9, 12, 14), "b": (7, 5, 9), "c": (12, 11, 10)}  # (D, H, W)


def write_model(nnunet_folders, patch_size=PATCH, trainer_class=nnUNetTrainerGSP, previous_stage=None, folds=(0,)):
    dim = len(patch_size)
    architecture = stock_architecture((8, 12), isotropic(2, dim))
    if issubclass(trainer_class, nnUNetTrainerGSP):
        architecture = gsp_architecture(architecture, patch_size)
    plans = plans_of(architecture, patch_size)
    plans["configurations"]["basis"]["resampling_fn_probabilities_kwargs"] = LINEAR
    plans["configurations"]["basis"]["previous_stage"] = previous_stage
    plans["foreground_intensity_properties_per_channel"] = {"0": {}}
    return write_model_folder(nnunet_folders, plans, folds, trainer_class)


def write_images(folder):
    folder.mkdir()
    for number, (name, shape) in enumerate(SHAPES.items()):
        rng = np.random.default_rng(number)
        array = np.zeros(shape, np.float32)
        array[1:, 1:-1] = rng.normal(5, 1, array[1:, 1:-1].shape)
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((0.7, 0.9, 1.2))
        image.SetOrigin((-12.5, 7.25, 30.0))
        sitk.WriteImage(image, folder / f"{name}_0000.nii.gz")
    return folder


def nnunets_predictions(
    model_folder,
    images,
    output,
    save_probabilities=False,
    folds=(0,),
    checkpoint_name=FINAL_CHECKPOINT,
    previous_stage=None,
    **settings,
):
    """Let nnU-Net predict, but sum up windows in fp32: near ties its fp16 decides at random."""
    output.mkdir()
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False, **settings)
    predictor.initialize_from_trained_model_folder(str(model_folder), folds, checkpoint_name)
    with mock.patch.object(torch, "half", torch.float):
        predictor.predict_from_files_sequential(
            [[str(images / f"{name}_0000.nii.gz")] for name in SHAPES],
            [str(output / name) for name in SHAPES],
            save_probabilities,
            folder_with_segs_from_prev_stage=previous_stage,
        )
    return output
