"""Brings logits back to the geometry of the image, as labels."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from numpy.typing import NDArray

from nnunetv2_gsp.prediction.labels import Decision, Labels, write_labels
from nnunetv2_gsp.prediction.resampling import taps_of_image
from nnunetv2_gsp.prediction.slabs import Logits


def segmentation_of(
    logits: Logits,
    plans: PlansManager,
    configuration: ConfigurationManager,
    label_manager: LabelManager,
    properties: Mapping[str, Any],
) -> Labels:
    """Return labels of the image, equal to nnU-Net's up to ties, with a few bytes a voxel of memory.

    nnU-Net resamples each class to the size of the image first, in double precision. Where plans ask for another
    resampling than linear interpolation, or for labels of another kind, its own function is called.

    Args:
        logits: logits of the case, on any device.
        plans: plans of the model.
        configuration: configuration of the plans that the model has.
        label_manager: label manager of plans and dataset.
        properties: what nnU-Net's preprocessing found out about the image.

    Returns:
        Labels (D, H, W) in the order of axes of the image as its reader returned it, uint8 or uint16.

    Raises:
        MemoryError: there is no memory for the labels.
        torch.OutOfMemoryError: the device has no memory for a slice of all classes.
    """
    decision, taps = _decision(label_manager), _taps(logits, plans, configuration, properties)
    if decision is None or taps is None or logits.shape[0] != label_manager.num_segmentation_heads:
        return _nnunets(logits.whole().cpu(), plans, configuration, label_manager, properties)
    shape = [int(properties["shape_before_cropping"][axis]) for axis in plans.transpose_backward]
    labels: NDArray[Any] = np.zeros(shape, np.uint8 if len(label_manager.foreground_labels) < 255 else np.uint16)
    box = tuple(slice(int(begin), int(end)) for begin, end in properties["bbox_used_for_cropping"])
    _write_slab_by_slab(logits, taps, decision, labels.transpose(plans.transpose_forward)[box])
    return labels


def _write_slab_by_slab(logits: Logits, taps: Sequence[NDArray[np.void]], decision: Decision, labels: Labels) -> None:
    along_d, *in_slices = taps
    n_done = 0
    for slab in logits.slabs:
        # slices of the image that do not lie behind the slab's last one
        end = int(np.searchsorted(along_d["second"], slab.first + slab.logits.shape[1]))
        here = along_d[n_done:end].copy()
        for name in ("first", "second"):
            here[name] -= slab.first
        write_labels(slab.logits, [here, *in_slices], decision, labels[n_done:end])
        n_done = end


def _taps(
    logits: Logits, plans: PlansManager, configuration: ConfigurationManager, properties: Mapping[str, Any]
) -> list[NDArray[np.void]] | None:
    size = properties["shape_after_cropping_and_before_resampling"]
    image_spacing_mm = [properties["spacing"][axis] for axis in plans.transpose_forward]
    # a 2d configuration leaves the first axis as it is
    spacing_mm = [*image_spacing_mm[: len(size) - len(configuration.spacing)], *configuration.spacing]
    return taps_of_image(
        configuration.resampling_fn_probabilities, logits.shape[1:], size, spacing_mm, image_spacing_mm
    )


def _decision(label_manager: LabelManager) -> Decision | None:
    """Return what makes a label of logits; None if nnU-Net's own class does not say it."""
    if type(label_manager) is not LabelManager:
        return None
    if not label_manager.has_regions:
        return Decision(tuple(range(label_manager.num_segmentation_heads)), has_regions=False)
    if label_manager.inference_nonlin is not torch.sigmoid:
        return None
    # the sigmoid is above 0.5 where the logit is above 0
    return Decision((0, *map(int, label_manager.regions_class_order)), has_regions=True)


def _nnunets(
    logits: torch.Tensor,
    plans: PlansManager,
    configuration: ConfigurationManager,
    label_manager: LabelManager,
    properties: Mapping[str, Any],
) -> Labels:
    labels: Labels = convert_predicted_logits_to_segmentation_with_correct_shape(
        logits, plans, configuration, label_manager, properties, num_threads_torch=torch.get_num_threads()
    )
    return labels
