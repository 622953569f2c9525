"""Small raw datasets for nnU-Net, of every kind of label, any number of channels and any file format it reads."""

import json

import numpy as np
import SimpleITK as sitk
from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json

LABELS = {
    "plain": {"background": 0, "rim": 1, "core": 2, "centre": 3},
    "regions": {"background": 0, "whole": (1, 2, 3), "core": (2, 3), "centre": (3,)},
    "ignore": {"background": 0, "rim": 1, "core": 2, "centre": 3, "ignore": 4},
    "regions and ignore": {"background": 0, "whole": (1, 2, 3), "core": (2, 3), "centre": (3,), "ignore": 4},
}
SIZES = {"isotropic": ((28, 36, 34), (1.0, 1.0, 1.0)), "anisotropic": ((10, 56, 48), (5.0, 0.8, 0.8))}
N_CASES = 4


def write_dataset(raw_folder, name, labels, n_channels, file_ending, size, held_out=1):
    """Write `N_CASES` cases for training and `held_out` more into imagesTs; returns the dataset's folder.

    Three nested ellipsoids in noise, each visible in every channel. Where there is an ignore label, it covers the
    highest slices.
    """
    folder = raw_folder / name
    shape, spacing_mm = SIZES[size]
    for case in range(N_CASES + held_out):
        is_training = case < N_CASES
        image, label = _case(case, shape, n_channels)
        if "ignore" in LABELS[labels]:
            label[-shape[0] // 4 :] = LABELS[labels]["ignore"]
        for channel in range(n_channels):
            subfolder = "imagesTr" if is_training else "imagesTs"
            _write(image[channel], folder / subfolder / f"case{case}_{channel:04d}{file_ending}", spacing_mm)
        if is_training:
            _write(label, folder / "labelsTr" / f"case{case}{file_ending}", spacing_mm)
    order = (1, 2, 3) if labels.startswith("regions") else None
    generate_dataset_json(
        str(folder),
        {channel: f"MR{channel}" for channel in range(n_channels)},
        LABELS[labels],
        N_CASES,
        file_ending,
        regions_class_order=order,
    )
    return folder


def write_two_folds(preprocessed_folder):
    """Split the training cases into two folds, as a user does by hand; nnU-Net's own split needs five cases."""
    even, odd = ([f"case{case}" for case in range(first, N_CASES, 2)] for first in (0, 1))
    splits = [{"train": odd, "val": even}, {"train": even, "val": odd}]
    (preprocessed_folder / "splits_final.json").write_text(json.dumps(splits))


def _case(seed, shape, n_channels):
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij"))
    centre = rng.uniform(-0.1, 0.1, (3, 1, 1, 1))
    radius = np.sqrt(((grid - centre) ** 2).sum(0))
    label = sum((radius < limit).astype(np.uint8) for limit in (0.8, 0.55, 0.3))
    image = rng.normal(label + 5, 0.3, (n_channels, *shape))  # never zero, so that nothing is cropped
    return image.astype(np.float32), label


def _write(array, file, spacing_mm):
    file.parent.mkdir(parents=True, exist_ok=True)
    volume = sitk.GetImageFromArray(array)
    volume.SetSpacing(spacing_mm[::-1])
    volume.SetOrigin((-12.5, 7.25, 30.0))
    volume.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))  # turned by 90° around the third axis
    sitk.WriteImage(volume, str(file))
