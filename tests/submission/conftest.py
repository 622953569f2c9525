"""Predictions as nnU-Net writes them, for cases of each challenge."""
import json

import numpy as np
import pytest
import SimpleITK as sitk

from nnunetv2_gsp.datasets.brats import format_of
from nnunetv2_gsp.datasets.editions import EDITIONS
from nnunetv2_gsp.datasets.labels import LABELS
from nnunetv2_gsp.datasets.promise12 import FORMAT
from tests.datasets.sources import BRATS_CASES, segmentation, write_brats_case, write_promise12


class Submission:
    """A challenge's small images, and predictions of its cases inside nnU-Net's convention."""

    def __init__(self, folder, challenge):
        self.challenge = challenge
        self.source = folder / "source"
        self.predictions = folder / "predictions"
        self.file = folder / "submission.zip"
        self.inside = {}
        if challenge == "promise12":
            write_promise12(self.source, folders=("test_data",))  # whose first folder has labels
            for label in (self.source / "test_data").glob("*_segmentation.*"):
                label.unlink()
            for number, case in enumerate(("Case00", "Case01")):
                self.predict(f"Test_{case}", self.source / "test_data" / f"{case}.mhd", ".mha", number)
        else:
            for path in BRATS_CASES[challenge]:
                if not path.startswith(("HGG", "LGG")) and "Training" not in path:
                    folder = self.source / path
                    write_brats_case(folder, challenge, labelled=False)
                    self.predict(folder.name, next(folder.iterdir()), ".nii.gz", len(self.inside))

    def predict(self, case, image, ending, seed):
        labels = segmentation(sorted(LABELS[self.challenge].values()), seed=seed)
        self.write(case, labels, sitk.ReadImage(image), ending)

    def write(self, case, labels, geometry, ending):
        self.predictions.mkdir(exist_ok=True)
        self.inside[case] = labels
        image = sitk.GetImageFromArray(labels)
        image.CopyInformation(geometry)
        sitk.WriteImage(image, self.predictions / f"{case}{ending}")
        labels = (format_of(self.challenge) if self.challenge in EDITIONS else FORMAT).labels
        (self.predictions / "dataset.json").write_text(json.dumps({"labels": {"background": 0, **labels}}))

    def replace(self, case, labels, ending=".nii.gz"):
        """Write other labels for a case, as nnU-Net would."""
        geometry = sitk.ReadImage(self.predictions / f"{case}{ending}")
        self.write(case, labels.astype(np.uint8), geometry, ending)

    @property
    def cases(self):
        return sorted(self.inside)


@pytest.fixture
def submission_of(tmp_path):
    return lambda challenge: Submission(tmp_path / challenge, challenge)


@pytest.fixture
def brats2021(submission_of):
    return submission_of("brats2021")


@pytest.fixture
def promise12(submission_of):
    return submission_of("promise12")
