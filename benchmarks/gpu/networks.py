"""The trainers and networks of the tables, as nnU-Net makes them from plans."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from benchmarks.gpu.settings import Settings
from benchmarks.models import CHANNELS, CLASSES, Plan
from nnunetv2_gsp.trainers import nnUNetTrainerGSP

CONFIGURATION, FOLD = "3d_fullres", 0
TRAINERS: dict[str, type[nnUNetTrainer]] = {"GSP": nnUNetTrainerGSP, "stock": nnUNetTrainer}
DATASET: dict[str, Any] = {
    "channel_names": {str(channel): f"modality {channel}" for channel in range(CHANNELS)},
    "numTraining": 1,
    "file_ending": ".nii.gz",
    "labels": {"background": 0, **{f"region {label}": label for label in range(1, CLASSES)}},
}
_RESAMPLING = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}


def plans_of(plan: Plan, batch: int = 2) -> dict[str, Any]:
    """Return plans that hold what trainers and predictors look at, without a dataset behind them."""
    resampling = {
        f"resampling_fn_{of}{end}": value
        for of in ("data", "seg", "probabilities")
        for end, value in (("", "resample_data_or_seg_to_shape"), ("_kwargs", _RESAMPLING))
    }
    configuration = {
        "data_identifier": "bench",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": batch,
        "patch_size": list(plan.patch),
        "median_image_size_in_voxels": list(plan.patch),
        "spacing": list(plan.spacing_mm),
        "normalization_schemes": ["ZScoreNormalization"] * CHANNELS,
        "use_mask_for_norm": [True] * CHANNELS,
        **resampling,
        "architecture": _architecture(plan),
        "batch_dice": False,
    }
    return {
        "dataset_name": "Dataset900_Bench",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "NibabelIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
        "experiment_planner_used": "ExperimentPlanner",
        "foreground_intensity_properties_per_channel": {str(channel): {} for channel in range(CHANNELS)},
        "original_median_spacing_after_transp": list(plan.spacing_mm),
        "original_median_shape_after_transp": list(plan.patch),
        "configurations": {CONFIGURATION: configuration},
        "continue_training": False,
    }


def trainer_of(kind: str, settings: Settings, is_compiled: bool) -> nnUNetTrainer:
    """Return an initialised trainer, as nnU-Net has it before its first step; nnU-Net's folders must be set."""
    os.environ["nnUNet_compile"] = str(is_compiled).lower()
    torch.backends.cudnn.benchmark = True  # as nnU-Net's commands
    torch.manual_seed(0)
    trainer = TRAINERS[kind](
        plans_of(Plan(settings.patch, settings.features), settings.batch),
        CONFIGURATION,
        FOLD,
        DATASET,
        torch.device(settings.device),
    )
    # a file by whose name nnU-Net tells the kind of data
    preprocessed = Path(trainer.preprocessed_dataset_folder)
    preprocessed.mkdir(parents=True, exist_ok=True)
    (preprocessed / "case.b2nd").touch()
    trainer.initialize()
    trainer.set_deep_supervision_enabled(True)
    return trainer


def network_of(kind: str, plan: Plan) -> nn.Module:
    """Return a network for prediction, on the CPU, with random weights and norms that are no identities."""
    torch.manual_seed(0)
    manager = PlansManager(plans_of(plan))
    network: nn.Module = TRAINERS[kind].build_network_architecture(
        manager, manager.get_configuration(CONFIGURATION), CHANNELS, CLASSES, False
    )
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return network


def _architecture(plan: Plan) -> dict[str, Any]:
    kwargs = {key: value for key, value in plan.topology().items() if key not in ("input_channels", "num_classes")}
    classes = ("conv_op", "norm_op", "nonlin")
    kwargs.update({key: f"{kwargs[key].__module__}.{kwargs[key].__qualname__}" for key in classes})
    kwargs.update(dropout_op=None, dropout_op_kwargs=None)
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": json.loads(json.dumps(kwargs, default=int)),  # lists and Python's numbers, as in a file
        "_kw_requires_import": [*classes, "dropout_op"],
    }
