"""Builds the network of a trained model as its trainer does, without the imports of training where that is known."""

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunetv2_gsp.architectures.from_plans import build, gsp_architecture
from nnunetv2_gsp.nnunet import find_trainer

_PACKAGE = Path(__file__).parents[1]
# a test compares them with `nnunetv2_gsp.trainers`; importing that takes longer than all else before the first window
GSP_TRAINERS = frozenset(
    {
        "nnUNetTrainerGSP",
        "nnUNetTrainerGSPDistill",
        "nnUNetTrainerGSPNoDeepSupervision",
        "nnUNetTrainerGSPNoMirroring",
        "nnUNetTrainerGSPPaper",
        *(f"nnUNetTrainerGSP_{number}epochs" for number in (5, 10, 20, 50, 100, 250, 500)),
        "nnUNetTrainerGSP_1epoch",
    }
)
STOCK_TRAINER = "nnUNetTrainer"


def network_of(
    trainer: str, plans: PlansManager, configuration: ConfigurationManager, dataset_json: dict[str, Any]
) -> nn.Module:
    """Return the network that nnU-Net builds for prediction, with weights that mean nothing.

    Args:
        trainer: name of the trainer's class.
        plans: plans of the model.
        configuration: configuration of the plans that the model has.
        dataset_json: content of the model's dataset.json.

    Raises:
        MissingInputError: nnU-Net finds no such trainer.
        ValueError: plans or dataset.json make no network.
    """
    n_channels = determine_num_input_channels(plans, configuration, dataset_json)
    n_heads = plans.get_label_manager(dataset_json).num_segmentation_heads
    architecture = configuration.configuration["architecture"]
    if trainer in GSP_TRAINERS and _only_our_trainers():
        architecture = gsp_architecture(architecture, configuration.patch_size)
    elif trainer != STOCK_TRAINER:
        return _trainers_network(trainer, plans, configuration, n_channels, n_heads)
    return build(architecture, n_channels, n_heads, deep_supervision=False, allow_init=False)


def _only_our_trainers() -> bool:
    """Tell whether nnU-Net looks for trainers nowhere but in its own folder and in ours.

    A user's own folder comes before ours, and may have a trainer of the same name.
    """
    folders = os.environ.get("nnUNet_extTrainer", "").split(os.pathsep)
    return all(_PACKAGE in Path(folder).parents for folder in folders)


def _trainers_network(
    trainer: str, plans: PlansManager, configuration: ConfigurationManager, n_channels: int, n_heads: int
) -> nn.Module:
    """Let the trainer build it, which may do what it wants; the first two arguments were other ones before 2.8."""
    builder: Callable[..., nn.Module] = find_trainer(trainer).build_network_architecture
    described: tuple[Any, ...] = (plans, configuration)
    if "plans_manager" not in inspect.signature(builder).parameters:
        described = (
            configuration.network_arch_class_name,
            configuration.network_arch_init_kwargs,
            configuration.network_arch_init_kwargs_req_import,
        )
    return builder(*described, n_channels, n_heads, enable_deep_supervision=False)
