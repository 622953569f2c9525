"""Trains the GSP counterpart of the planned network as nnU-Net does."""

from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, cast
from zipfile import is_zipfile

import torch
from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import nnUNetTrainerNoMirroring
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunetv2_gsp.architectures.from_plans import (
    build,
    buildable_architecture,
    describe,
    gsp_architecture,
    is_gsp,
    is_residual,
    read_architecture,
)
from nnunetv2_gsp.architectures.settings import ShiftSettings
from nnunetv2_gsp.files import whole
from nnunetv2_gsp.nnunet import N_FOLDS
from nnunetv2_gsp.orphans import no_orphans

_NNUNETS_LEARNING_RATE = 0.01


class nnUNetTrainerGSP(nnUNetTrainer):
    """Train a `GSPUNet` in place of the planned U-Net, at a higher learning rate; everything else is nnU-Net's.

    With stock plans the spatial groups follow from the feature-map sizes; plans that name `GSPUNet` keep their
    settings. In both cases the resolved settings are saved in the model folder's plans.json, and settings that stand
    there already apply to `--c`, `--val` and every other fold.
    """

    n_epochs: ClassVar[int | None] = None  # None leaves the length to nnU-Net
    learning_rate: ClassVar[float] = 0.03  # three times nnU-Net's: docs/results/ has what pointwise networks gain by it
    plans_manager: PlansManager
    configuration_manager: ConfigurationManager
    my_init_kwargs: dict[str, Any]
    initial_lr: float

    def initialize(self) -> None:
        """Fix the network's settings, then let nnU-Net initialise.

        Raises:
            ValueError: the plans contradict the plans.json of the model folder, or do not make a network.
            NotImplementedError: the plans name a network that has no GSP counterpart.
        """
        if self.n_epochs is not None:
            self.num_epochs = self.n_epochs
        if self.initial_lr == _NNUNETS_LEARNING_RATE:  # another one was chosen by a trainer that this one is mixed with
            self.initial_lr = self.learning_rate
        if self.is_ddp:  # torch 2.5 fails to split a compiled step that recomputes; a network this small is one bucket
            torch._dynamo.config.optimize_ddp = False
        if not self.was_initialized:
            self._resolve_plans()
        super().initialize()

    @staticmethod
    def build_network_architecture(
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """Build the GSP counterpart of the planned network; nnU-Net calls this for training and prediction.

        Returns:
            A network that maps (N, num_input_channels, *patch) to logits (N, num_output_channels, *patch), with deep
            supervision to a list of them, the full resolution first.
        """
        architecture = gsp_architecture(
            configuration_manager.configuration["architecture"], configuration_manager.patch_size
        )
        return build(architecture, num_input_channels, num_output_channels, enable_deep_supervision, allow_init=True)

    def do_split(self) -> tuple[list[str], list[str]]:
        """Return nnU-Net's cases for training and validation.

        Raises:
            ValueError: there are too few cases for nnU-Net's folds.
        """
        try:
            cases: tuple[list[str], list[str]] = super().do_split()
        except ValueError as error:
            n_cases = len(
                infer_dataset_class(self.preprocessed_dataset_folder).get_identifiers(self.preprocessed_dataset_folder)
            )
            # the user's own folds may be of any number, and their file may be damaged
            if n_cases >= N_FOLDS or Path(self.preprocessed_dataset_folder_base, "splits_final.json").exists():
                raise
            raise ValueError(
                f"Expected at least {N_FOLDS} training cases for nnU-Net's folds, "
                f"{self.plans_manager.dataset_name} has {n_cases}: train with fold all, add cases, or "
                f"write a splits_final.json yourself."
            ) from error
        return cases

    def run_training(self) -> None:
        """Train as nnU-Net does; whatever ends the training, also SIGTERM, ends nnU-Net's worker processes, too."""
        with no_orphans():
            super().run_training()

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Validate as nnU-Net does; whatever ends it, also SIGTERM, ends nnU-Net's worker processes, too."""
        with no_orphans():
            super().perform_actual_validation(save_probabilities)

    def save_checkpoint(self, filename: str) -> None:
        """Save as nnU-Net does, but completely or not at all: a full disk or a kill leaves the old checkpoint.

        Raises:
            OSError, RuntimeError: the checkpoint could not be written.
        """
        if self.local_rank != 0 or self.disable_checkpointing:
            super().save_checkpoint(filename)  # which writes nothing
            return
        with whole(Path(filename)) as unfinished:
            super().save_checkpoint(str(unfinished))

    def load_checkpoint(self, filename_or_checkpoint: dict[str, Any] | str) -> None:
        """Load as nnU-Net does; nnU-Net calls this for `--c` and `--val`.

        Raises:
            ValueError: the file was cut off, or its weights belong to other GSP settings.
        """
        # torch writes zip archives, whose table of contents stands at the end
        if isinstance(filename_or_checkpoint, str) and not is_zipfile(filename_or_checkpoint):
            raise ValueError(
                f"{filename_or_checkpoint} is damaged or no checkpoint: expected a file that was saved to "
                f"its end. Move it away, then --c goes on from the next best checkpoint of that folder."
            )
        super().load_checkpoint(filename_or_checkpoint)
        self._keep_learning_rate()

    def _keep_learning_rate(self) -> None:
        """Go on at the rate that the training began with, which another version or trainer may have chosen."""
        self.initial_lr = self.optimizer.param_groups[0]["initial_lr"]
        self.lr_scheduler.initial_lr = self.initial_lr

    def _resolve_plans(self) -> None:
        """Replace this trainer's plans by a copy that holds all settings of the network.

        nnU-Net saves the copy as plans.json beside the model. A shift has no weights, so a checkpoint is useless
        without these settings.
        """
        stock = self.configuration_manager.configuration["architecture"]
        patch_size = self.configuration_manager.patch_size
        architecture = buildable_architecture(stock, patch_size)
        saved = self._saved_configuration()
        if saved is not None:
            _check_agreement(architecture, patch_size, saved, self.output_folder_base, settings_are_given=is_gsp(stock))
            architecture = saved["architecture"]

        plans = deepcopy(self.plans_manager.plans)
        plans["configurations"][self.configuration_name]["architecture"] = architecture
        # a new manager: the old one caches its configurations
        self.plans_manager = PlansManager(plans)
        self.configuration_manager = self.plans_manager.get_configuration(self.configuration_name)
        self.my_init_kwargs = {**self.my_init_kwargs, "plans": plans}

        if is_residual(stock):
            self.print_to_log_file(
                "The plans ask for residual blocks: each stage of the GSP network has two "
                "convolutions instead, in encoder and decoder, without shortcuts."
            )
        self.print_to_log_file(
            describe(read_architecture(architecture, patch_size), patch_size), "\n", add_timestamp=False
        )

    def _saved_configuration(self) -> dict[str, Any] | None:
        """Return this configuration as an earlier fold or run saved it in the model folder; None without one."""
        plans_file = Path(self.output_folder_base) / "plans.json"
        if not plans_file.is_file():
            return None
        try:
            plans = load_json(str(plans_file))
        except ValueError as error:  # nnU-Net writes it in place, as every fold begins
            raise ValueError(
                f"Expected whole plans in {plans_file}, got {error}: start again if another fold is just beginning; "
                f"otherwise restore the file, which holds the network's settings, or move that folder away."
            ) from error
        saved = PlansManager(plans).get_configuration(self.configuration_name).configuration
        return {**saved, "architecture": gsp_architecture(saved["architecture"], saved["patch_size"])}


def _check_agreement(
    architecture: dict[str, Any], patch_size: list[int], saved: dict[str, Any], folder: str, settings_are_given: bool
) -> None:
    """Raise ValueError if plans and saved configuration differ; rule-made shift settings yield to saved ones."""
    given_now, at_first = _flat(architecture, patch_size), _flat(saved["architecture"], saved["patch_size"])
    overruled = set() if settings_are_given else {setting.name for setting in fields(ShiftSettings)}
    for name in sorted({*given_now, *at_first} - overruled):
        if given_now.get(name) != at_first.get(name):
            raise ValueError(
                f"All folds of {folder} share its plans.json, whose {name} is {at_first.get(name)}, but "
                f"the plans given now have {given_now.get(name)}: train them under another plans name "
                f"(-p), or move that folder away."
            )


def _flat(architecture: dict[str, Any], patch_size: list[int]) -> dict[str, Any]:
    return {
        "network_class_name": architecture["network_class_name"],
        "patch_size": list(patch_size),
        **architecture["arch_kwargs"],
    }


class nnUNetTrainerGSPNoDeepSupervision(nnUNetTrainerGSP):
    """Train with a loss at full resolution only."""

    def initialize(self) -> None:
        """Switch deep supervision off before the network and the loss are made."""
        self.enable_deep_supervision = False
        super().initialize()


class nnUNetTrainerGSPNoMirroring(nnUNetTrainerGSP, nnUNetTrainerNoMirroring):
    """Train without mirrored patches, and predict without them: for images that all lie alike.

    A shift moves features in an absolute direction, which says less where half of the patches are mirrored.
    """


class nnUNetTrainerGSPPaper(nnUNetTrainerGSPNoDeepSupervision):
    """Train as the paper does (Sec. 3): SGD, poly learning rate from 0.01 with power 0.9, Dice loss alone.

    Different from nnU-Net: the loss, which is Dice without cross-entropy, at full resolution only (no deep
    supervision).

    Same in the paper and in nnU-Net: SGD and the poly learning rate. Fold 0 of nnU-Net's five-fold split trains on 80 %
    of the cases and validates on 20 %, the paper's 8:2.

    Left open by the paper, as in nnU-Net: momentum (Nesterov, 0.99), weight decay (3e-5), length (1000 epochs
    of 250 iterations), augmentation, and sliding-window prediction with mirroring. The paper crops at random; nnU-Net
    lays a third of the patches around the foreground.

    Part of the plans: patch, batch of 4 and z-score over the foreground come with the templates promise12_* and
    brats18_*.
    """

    learning_rate = 0.01

    def _build_loss(self) -> nn.Module:
        """Return nnU-Net's loss without the cross-entropy; it still handles labels, regions and the ignore label."""
        loss: Any = super()._build_loss()
        loss.weight_ce = 0
        return cast(nn.Module, loss)
