"""Draws docs/tutorial.png: a validated case of the tutorial, with the outlines of reference and predictions.

Its argument is the folder of a finished tutorial or demo: `python docs/draw_tutorial.py nnUNet_gsp_tutorial`.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
from matplotlib.lines import Line2D

DATASET = "Dataset999_BraTSPhantom"
REGIONS = {"whole tumour": ((1, 2, 3), "#E69F00"), "tumour core": ((1, 3), "#0072B2"), "enhancing": ((3,), "#CC79A7")}
INK = "#222222"


def array(file: Path) -> np.ndarray:
    """Read a NIfTI file as an array (X, Y, Z)."""
    return np.asanyarray(nib.Nifti1Image.from_filename(file).dataobj)


def main(finished: Path) -> None:
    """Draw the slice with most tumour of the first case that fold 0 validates."""
    models = sorted((finished / "nnUNet_results" / DATASET).iterdir(), key=lambda model: "GSP" in model.name)
    case = min(file.name for file in (models[0] / "fold_0" / "validation").glob("*.nii.gz")).removesuffix(".nii.gz")
    image = array(finished / "nnUNet_raw" / DATASET / "imagesTr" / f"{case}_0001.nii.gz")  # T1 with contrast agent
    labels = {
        "reference": array(finished / "nnUNet_raw" / DATASET / "labelsTr" / f"{case}.nii.gz"),
        **{model.name.split("__")[0]: array(model / "fold_0" / "validation" / f"{case}.nii.gz") for model in models},
    }
    level = np.count_nonzero(labels["reference"], axis=(0, 1)).argmax()
    figure, axes = plt.subplots(1, 3, figsize=(10, 4.6), facecolor="white")
    for axis, (name, label) in zip(axes, labels.items(), strict=True):
        axis.imshow(image[:, :, level].T, cmap="gray")
        for values, colour in REGIONS.values():
            axis.contour(np.isin(label[:, :, level], values).T, levels=[0.5], colors=colour, linewidths=1.5)
        axis.set_title(name, fontsize=10, color=INK)
        axis.axis("off")
    lines = [Line2D([], [], color=colour) for _, colour in REGIONS.values()]
    figure.legend(lines, REGIONS, loc="lower center", ncols=3, frameon=False)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(Path(__file__).with_name("tutorial.png"), dpi=100)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
