"""Folders of references and predictions with BraTS's regions, as nnU-Net's prediction leaves them."""

import numpy as np

from tests.metrics.drawings import blob, write, write_dataset_json

REGIONS = {"background": 0, "whole_tumor": [1, 2, 3], "tumor_core": [1, 3], "enhancing_tumor": 3}
CASES = ("BraTS_001", "BraTS_002", "BraTS_003")
SPACING_MM = (1.0, 1.0, 2.0)


def tumour(seed):
    """Label 2 around label 1; the third case has no label 3."""
    labels = np.zeros((17, 19, 15), np.uint8)
    labels[blob(seed)] = 2
    labels[blob(seed, radius=(2, 3))] = 1
    if seed % 3:
        labels[8, 8:10, 7] = 3
    return labels


def write_folders(base):
    """Write three cases; returns the folder of the references and that of the predictions."""
    references, predictions = base / "gt", base / "pred"
    for number, case in enumerate(CASES):
        write(tumour(number + 1), references / f"{case}.nii.gz", SPACING_MM)
        write(tumour(number + 4), predictions / f"{case}.nii.gz", SPACING_MM)
    write_dataset_json(predictions, REGIONS)
    return references, predictions
