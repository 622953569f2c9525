"""A small raw dataset for nnU-Net: an ellipsoid brighter than noise, in as many cases as folds need."""

import numpy as np
import SimpleITK as sitk
from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json


def write_raw_dataset(raw_folder, name, n_cases=5, shape=(20, 24, 28), spacing_mm=(1.0, 1.0, 1.5)):
    """Write cases of `shape` voxels (D, H, W); `spacing_mm` is in the same order."""
    folder = raw_folder / name
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij"))
    for case in range(n_cases):
        rng = np.random.default_rng(case)
        centre, radii = rng.uniform(-0.2, 0.2, (3, 1, 1, 1)), rng.uniform(0.4, 0.7, (3, 1, 1, 1))
        label = (((grid - centre) / radii) ** 2).sum(0) < 1
        image = rng.normal(label, 0.5)
        for array, file in (
            (image.astype(np.float32), f"imagesTr/case{case}_0000.nii.gz"),
            (label.astype(np.uint8), f"labelsTr/case{case}.nii.gz"),
        ):
            volume = sitk.GetImageFromArray(array)
            volume.SetSpacing(spacing_mm[::-1])
            sitk.WriteImage(volume, str(folder / file))
    generate_dataset_json(str(folder), {0: "MR"}, {"background": 0, "ellipsoid": 1}, n_cases, ".nii.gz")
    return folder
