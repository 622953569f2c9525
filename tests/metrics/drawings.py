"""Masks as drawings, random masks, and folders of them."""

import json

import numpy as np
import SimpleITK as sitk


def drawn(*rows):
    """Turn rows of # and . into a bool mask (H, W)."""
    return np.array([[character == "#" for character in row] for row in rows])


def slab(*rows, depth=3):
    """The same drawing in every slice, bool (depth, H, W)."""
    return np.repeat(drawn(*rows)[None], depth, axis=0)


def random_mask(seed, shape=(11, 13, 9), share=0.3):
    return np.random.default_rng(seed).random(shape) < share


def blob(seed, shape=(17, 19, 15), radius=(3, 6)):
    """An ellipsoid somewhere in the volume, never empty."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
    centre = np.divide(shape, 2) + rng.uniform(-2, 2, 3)
    radii = rng.uniform(*radius, 3)
    return (((grid - centre[:, None, None, None]) / radii[:, None, None, None]) ** 2).sum(0) < 1


def write(labels, file, spacing_mm=(1.0, 1.0, 1.0), origin_mm=(0.0, 0.0, 0.0), direction=None):
    """Write integers (D, H, W), with the spacing in that order."""
    image = sitk.GetImageFromArray(np.asarray(labels, np.uint8))
    image.SetSpacing(spacing_mm[::-1])
    image.SetOrigin(origin_mm)
    if direction is not None:
        image.SetDirection(direction)
    file.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(file))


def write_dataset_json(folder, labels):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".nii.gz"}))
