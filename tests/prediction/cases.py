"""Predicted cases as nnU-Net has them between network and file."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hypothesis import strategies
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

LINEAR = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}  # as nnU-Net plans it
SPACINGS_MM = (0.5, 0.8, 1.0, 1.5, 4.0)


@dataclass
class Case:
    """What nnU-Net's export is called with.

    Attributes:
        arguments: logits, plans, configuration, label manager and properties.
        slab: number of slices of logits that come at once.
    """

    logits: torch.Tensor
    plans: PlansManager
    configuration: ConfigurationManager
    label_manager: LabelManager
    properties: dict[str, Any]
    slab: int

    @property
    def arguments(self):
        return self.logits, self.plans, self.configuration, self.label_manager, self.properties

    def nnunets_labels(self):
        return convert_predicted_logits_to_segmentation_with_correct_shape(*self.arguments, num_threads_torch=1)

    def margins(self):
        """Return, for each voxel of the whole image, how far its logits are from giving another label."""
        size, spacing = self.properties["shape_after_cropping_and_before_resampling"], self.properties["spacing"]
        image_spacing = [spacing[axis] for axis in self.plans.transpose_forward]
        spacing = [*image_spacing[: 3 - len(self.configuration.spacing)], *self.configuration.spacing]
        logits = self.configuration.resampling_fn_probabilities(self.logits.double(), size, spacing, image_spacing)
        logits = np.asarray(logits)
        if self.label_manager.has_regions:
            cropped = np.abs(logits).min(0)
        else:
            second, first = np.sort(logits, 0)[-2:]
            cropped = first - second
        margins = np.full(self.properties["shape_before_cropping"], np.inf)
        margins[tuple(slice(*one) for one in self.properties["bbox_used_for_cropping"])] = cropped
        return margins.transpose(self.plans.transpose_backward)


def case_of(
    size=(9, 10, 11),
    spacing_mm=(1.5, 1.5, 1.5),
    image_spacing_mm=(1.0, 1.0, 1.0),
    classes=3,
    order=None,
    forward=(0, 1, 2),
    margins=((0, 0),) * 3,
    seed=0,
    steps=None,
    resampling=LINEAR,
    slab=2,
):
    """Return a case of noise, all sizes in the network's order of axes.

    Args:
        size: voxels of the cropped image.
        spacing_mm: planned spacing; two numbers are those of a 2d configuration.
        order: labels of the regions, in the order of nnU-Net's regions_class_order; None for classes.
        margins: voxels that were cropped off before and behind.
        steps: number of steps that logits are rounded to in the unit, so that there are ties; None does not round.
    """
    all_spacing_mm = [*image_spacing_mm[: 3 - len(spacing_mm)], *spacing_mm]
    low = np.maximum(compute_new_shape(size, image_spacing_mm, all_spacing_mm), 1)
    logits = np.random.default_rng(seed).normal(size=(classes, *low))
    if steps is not None:
        logits = np.round(logits * steps) / steps
    backward = np.argsort(forward).tolist()
    labels = {f"region{i}": [i + 1, classes + 1] for i in range(classes)} if order else range(1, classes)
    labels = labels if order else {f"class{i}": i for i in labels}
    return Case(
        torch.from_numpy(logits.astype(np.float32)),
        PlansManager({"transpose_forward": list(forward), "transpose_backward": backward}),
        ConfigurationManager(
            {
                "architecture": {},
                "spacing": list(spacing_mm),
                "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
                "resampling_fn_probabilities_kwargs": resampling,
            }
        ),
        LabelManager({"background": 0, **labels}, order),
        {
            "spacing": [image_spacing_mm[axis] for axis in backward],
            "shape_before_cropping": tuple(n + sum(cut) for n, cut in zip(size, margins, strict=True)),
            "bbox_used_for_cropping": [[cut[0], cut[0] + n] for n, cut in zip(size, margins, strict=True)],
            "shape_after_cropping_and_before_resampling": tuple(size),
        },
        slab,
    )


@strategies.composite
def cases(draw, steps=None):
    """Draw a case over spacings, sizes, classes, regions, crops, transposes and axes of one voxel."""
    spacing = strategies.sampled_from(SPACINGS_MM)
    axes, classes = strategies.permutations(range(3)), draw(strategies.integers(2, 6))
    cut = strategies.integers(0, 2)
    return case_of(
        size=draw(strategies.tuples(*[strategies.integers(1, 12)] * 3)),
        spacing_mm=draw(strategies.tuples(*[spacing] * draw(strategies.sampled_from((2, 3, 3))))),
        image_spacing_mm=draw(strategies.tuples(*[spacing] * 3)),
        classes=classes,
        order=draw(strategies.none() | strategies.permutations(range(1, classes + 1))),
        forward=draw(axes),
        margins=draw(strategies.tuples(*[strategies.tuples(cut, cut)] * 3)),
        seed=draw(strategies.integers(0, 2**32 - 1)),
        steps=steps,
        slab=draw(strategies.integers(1, 5)),
    )
