"""Trains the GSP network with the help of a trained model."""

import os
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from nnunetv2_gsp.trainers.distillation import TaughtLoss, Teacher
from nnunetv2_gsp.trainers.nnUNetTrainerGSP import nnUNetTrainerGSP

TEACHER_VARIABLE = "NNUNETV2_GSP_TEACHER"
TEACHER_ENTRY = "teacher"  # of a configuration in the plans


class nnUNetTrainerGSPDistill(nnUNetTrainerGSP):
    """Train the GSP network on the labels and on what a teacher says about the same augmented patches.

    The teacher is any trained model of nnU-Net for the same labels and the same kind of images, stock for instance.
    NNUNETV2_GSP_TEACHER names its model folder, or the folder of one fold in it, as does the entry "teacher" of the
    plans' configuration, over which the variable takes precedence. Without a limit to one fold, its folds are averaged.

    Choose a fold of the teacher that was not trained on the cases that this fold validates on, i.e. the same fold.

    The loss is nnU-Net's plus the cross-entropy with the teacher's probabilities; the validation loss is nnU-Net's
    alone, so that it can be compared with other trainings. Neither checkpoint nor prediction needs the teacher.
    """

    weight_of_teacher: ClassVar[float] = 1.0
    teacher: Teacher

    def run_training(self) -> None:
        """Find the teacher, then train as nnU-Net does.

        Raises:
            ValueError: there is no teacher, or it does not fit.
        """
        self.teacher = Teacher(self._teacher_folder(), self.device, self._do_i_compile())
        self.teacher.check(self.plans_manager, self.configuration_manager, self.dataset_json)
        self.print_to_log_file(f"Teacher: {self._teacher_folder()}")
        super().run_training()

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Do nnU-Net's step, with a lesson on the batch's patches."""
        images = batch["data"].to(self.device, non_blocking=True)
        self.loss.lesson = self.teacher.probabilities(images)
        try:
            result: dict[str, Any] = super().train_step({**batch, "data": images})
        finally:
            self.loss.lesson = None
        return result

    def _build_loss(self) -> nn.Module:
        return TaughtLoss(super()._build_loss(), self.label_manager, self.weight_of_teacher)

    def _teacher_folder(self) -> Path:
        folder = os.environ.get(TEACHER_VARIABLE) or self.configuration_manager.configuration.get(TEACHER_ENTRY)
        if not folder:
            raise ValueError(
                f"Expected a teacher, the folder of a trained model, got none: export {TEACHER_VARIABLE}=/path/to/"
                f'TRAINER__PLANS__CONFIGURATION/fold_{self.fold}, or write it as "{TEACHER_ENTRY}" into the plans\' '
                f"configuration."
            )
        return Path(folder)
