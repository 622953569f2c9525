"""Predictions as nnU-Net writes them, for cases of each challenge, and archives of them."""

import gzip
import json
import zipfile

import nibabel
import numpy as np
import SimpleITK as sitk

from nnunetv2_gsp.challenges import CHALLENGES
from nnunetv2_gsp.submission import check_submission, write_submission
from tests.datasets.sources import BRATS_CASES, segmentation, write_brats_case, write_promise12

NAMES = [f"BraTS2021_0000{number}.nii.gz" for number in range(3)]


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
        labels = segmentation(sorted(CHALLENGES[self.challenge].labels.values()), seed=seed)
        self.write(case, labels, sitk.ReadImage(image), ending)

    def write(self, case, labels, geometry, ending):
        self.predictions.mkdir(exist_ok=True)
        self.inside[case] = labels
        image = sitk.GetImageFromArray(labels)
        image.CopyInformation(geometry)
        sitk.WriteImage(image, self.predictions / f"{case}{ending}")
        labels = CHALLENGES[self.challenge].regions
        (self.predictions / "dataset.json").write_text(json.dumps({"labels": {"background": 0, **labels}}))

    def replace(self, case, labels, ending=".nii.gz"):
        """Write other labels for a case, as nnU-Net would."""
        geometry = sitk.ReadImage(self.predictions / f"{case}{ending}")
        self.write(case, labels.astype(np.uint8), geometry, ending)

    @property
    def cases(self):
        return sorted(self.inside)


def unpacked(made):
    write_submission(made.predictions, made.file, made.challenge, images=made.source)
    with zipfile.ZipFile(made.file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def check(made, entries):
    """Check an archive of (name or ZipInfo, bytes)."""
    with zipfile.ZipFile(made.file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return check_submission(made.file, made.challenge, made.source)


def nifti(contents, name, change):
    """Return a case after `change(voxels, header)`, which returns the new voxels."""
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(contents[name]))
    header = image.header.copy()
    voxels = change(np.asanyarray(image.dataobj), header)
    header.set_data_dtype(voxels.dtype)
    return gzip.compress(nibabel.Nifti1Image(voxels, None, header).to_bytes())
