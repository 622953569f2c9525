"""Lets a trained model teach: its probabilities for the same augmented patch become a part of the loss."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.utilities.label_handling.label_handling import LabelManager, determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, interpolate

from nnunetv2_gsp.architectures.from_plans import is_gsp
from nnunetv2_gsp.nnunet import FINAL_CHECKPOINT, averaged_folds, channel_names, folds_with


class Teacher:
    """A trained model, whose probabilities are the mean over its folds.

    Args:
        folder: model folder that nnU-Net's training wrote, for the folds that nnU-Net's prediction averages, or a
            fold's folder in it.
        device: device that the model runs on.
        compiled: True compiles the networks, as nnU-Net does with the one that it trains.

    Raises:
        ValueError: the folder is no such folder, or holds no finished training.
    """

    def __init__(self, folder: Path, device: torch.device, compiled: bool = False):
        name = folder.name.removeprefix("fold_")
        self.model = folder if name == folder.name else folder.parent
        if not (self.model / "plans.json").is_file() or not (self.model / "dataset.json").is_file():
            raise ValueError(f"Expected a teacher in a model folder with plans.json and dataset.json, got {folder}.")
        finished = folds_with(FINAL_CHECKPOINT, self.model)
        folds = averaged_folds(finished) if self.model == folder else [name] * (name in finished)
        if not folds:
            raise ValueError(f"Expected a teacher whose training has finished, got no {FINAL_CHECKPOINT} in {folder}.")
        self._device = device
        self._predictor = nnUNetPredictor(device=device, allow_tqdm=False)
        self._predictor.initialize_from_trained_model_folder(str(self.model), tuple(folds), FINAL_CHECKPOINT)
        self._networks = [self._network(weights, compiled) for weights in self._predictor.list_of_parameters]

    def check(self, plans: PlansManager, configuration: ConfigurationManager, dataset_json: Mapping[str, Any]) -> None:
        """Check that the model has learnt what a student is to learn, from the same kind of images.

        Args:
            plans: plans of the student.
            configuration: configuration of the student.
            dataset_json: content of the student's dataset.json.

        Raises:
            ValueError: labels, channels, spacing or normalisation differ, or the model cannot take the patch.
        """
        model = self._predictor
        wanted = _material(plans, configuration, dataset_json)
        for name, found in _material(model.plans_manager, model.configuration_manager, model.dataset_json).items():
            if found != wanted[name]:
                raise ValueError(f"Expected a teacher whose {name} is {wanted[name]}, got {found} in {self.model}.")
        if not _takes(model.configuration_manager, configuration.patch_size):
            raise ValueError(
                f"Expected a teacher that takes patches of {list(configuration.patch_size)} voxels, got one for "
                f"{list(model.configuration_manager.patch_size)} in {self.model}."
            )

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """Return the probabilities (N, classes or regions, *patch) for images (N, C, *patch), fp32."""
        with torch.autocast(self._device.type, enabled=self._device.type == "cuda"):
            logits = [network(images) for network in self._networks]
        apply = torch.sigmoid if self._predictor.label_manager.has_regions else _softmax
        return torch.stack([apply(each.float()) for each in logits]).mean(0)

    def _network(self, weights: dict[str, Tensor], compiled: bool) -> nn.Module:
        network = deepcopy(getattr(self._predictor.network, "_orig_mod", self._predictor.network))
        network.load_state_dict(weights)
        network = network.to(self._device).eval().requires_grad_(False)
        return cast(nn.Module, torch.compile(network)) if compiled else network


class TaughtLoss(nn.Module):
    """nnU-Net's loss, and in a lesson the cross-entropy with a teacher's probabilities.

    The cross-entropy differs from the Kullback-Leibler divergence by what does not depend on the student. With deep
    supervision each resolution counts as it does in nnU-Net's loss.

    Args:
        loss: nnU-Net's loss of logits and target, with deep supervision of lists of them.
        labels: labels of the student.
        weight: factor of the cross-entropy with the teacher.

    Attributes:
        lesson: the teacher's probabilities for the patch that is trained on, (N, classes or regions, *patch); None
            leaves nnU-Net's loss alone, as in a validation step.
    """

    def __init__(self, loss: nn.Module, labels: LabelManager, weight: float = 1.0):
        super().__init__()
        self.loss, self.weight = loss, weight
        self._distance: nn.Module = SoftCrossEntropy(labels)
        self._is_deep = isinstance(loss, DeepSupervisionWrapper)
        if isinstance(loss, DeepSupervisionWrapper):
            self._distance = DeepSupervisionWrapper(self._distance, loss.weight_factors)
        self.lesson: Tensor | None = None

    def forward(self, logits: Any, target: Any) -> Tensor:
        """Return the loss, of lists of logits and targets with deep supervision."""
        loss: Tensor = self.loss(logits, target)
        if self.lesson is not None:
            soft = [_reduced(self.lesson, each.shape[2:]) for each in logits] if self._is_deep else self.lesson
            loss = loss + self.weight * self._distance(logits, target, soft)
        return loss


class SoftCrossEntropy(nn.Module):
    """Cross-entropy of logits with probabilities, over the voxels whose label is not to be ignored.

    Args:
        labels: labels of the dataset; regions are independent of each other.
    """

    def __init__(self, labels: LabelManager):
        super().__init__()
        self._has_regions, self._ignored = labels.has_regions, labels.ignore_label

    def forward(self, logits: Tensor, target: Tensor, probabilities: Tensor) -> Tensor:
        """Return the mean over voxels.

        Args:
            logits: (N, classes or regions, *patch).
            target: as nnU-Net's loss takes it: labels (N, 1, *patch), or regions (N, regions, *patch), whose last
                channel is what to ignore where something is.
            probabilities: shaped like the logits.
        """
        if self._has_regions:
            losses = binary_cross_entropy_with_logits(logits.float(), probabilities, reduction="none").mean(1)
        else:
            losses = cross_entropy(logits.float(), probabilities, reduction="none")
        if self._ignored is None:
            return losses.mean()
        counts = target[:, -1] == 0 if self._has_regions else target[:, 0] != self._ignored
        return (losses * counts).sum() / counts.sum().clamp(min=1)


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(1)


def _reduced(probabilities: Tensor, size: Sequence[int]) -> Tensor:
    """Return the mean probabilities of the voxels behind each voxel of a lower resolution."""
    return interpolate(probabilities, tuple(size), mode="area")


def _material(
    plans: PlansManager, configuration: ConfigurationManager, dataset_json: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what a model learns, and from which images."""
    return {
        "labels": dataset_json["labels"],
        "regions_class_order": dataset_json.get("regions_class_order"),
        "channel_names": channel_names(dataset_json),
        "number of input channels": determine_num_input_channels(plans, configuration, dict(dataset_json)),
        "spacing": list(configuration.spacing),
        "normalization": [
            _normalization(plans, configuration, channel) for channel in range(len(configuration.normalization_schemes))
        ],
    }


def _normalization(plans: PlansManager, configuration: ConfigurationManager, channel: int) -> Any:
    scheme = configuration.normalization_schemes[channel]
    if scheme == "CTNormalization":  # by the intensities of the dataset that was planned
        return scheme, plans.foreground_intensity_properties_per_channel[str(channel)]
    return scheme, configuration.use_mask_for_norm[channel]


def _takes(teacher: ConfigurationManager, patch_size: Sequence[int]) -> bool:
    """Tell whether a network trained for one patch takes another: groups belong to a patch, a convolution does not."""
    patch, own = list(patch_size), list(teacher.patch_size)
    architecture = teacher.configuration["architecture"]
    strides = architecture["arch_kwargs"].get("strides")
    if patch == own or is_gsp(architecture) or strides is None or len(patch) != len(own):
        return patch == own
    steps = [1] * len(patch)
    for stride in strides:
        steps = [step * each for step, each in zip(steps, stride, strict=True)]
    return all(size % step == 0 for size, step in zip(patch, steps, strict=True))
