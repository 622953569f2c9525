"""Turns a prediction into the result that an interface asks for, and checks what was written."""

import tempfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from nnunetv2_gsp.container.interface import FoundCase
from nnunetv2_gsp.container.prediction import quietly
from nnunetv2_gsp.datasets.labels import check_labels
from nnunetv2_gsp.errors import ConflictingInputError, InputError, SeveralProblemsError
from nnunetv2_gsp.files import whole
from nnunetv2_gsp.images import check_same_geometry, read_image, write_image
from nnunetv2_gsp.submission import check_submission, write_submission


class Results(ABC):
    """Results in an output folder.

    Args:
        output: folder that the results are written to.
    """

    def __init__(self, output: Path):
        self._output = output

    @abstractmethod
    def write(self, case: FoundCase, prediction: Path) -> None:
        """Write the result of a case, completely or not at all.

        Args:
            case: the case.
            prediction: file of the segmentation, alone in its folder with nnU-Net's dataset.json.

        Raises:
            InputError: the prediction breaks a rule.
        """

    @abstractmethod
    def violations(self, cases: Collection[FoundCase]) -> list[str]:
        """Read the results of cases again, and return a sentence for each rule that one breaks."""


class ChallengeResults(Results):
    """Results with the labels, names and geometry of a challenge's archives, as files of their own."""

    def __init__(self, output: Path, challenge: str):
        super().__init__(output)
        self._challenge = challenge

    def write(self, case: FoundCase, prediction: Path) -> None:
        """Write the one file of an archive of the case."""
        with tempfile.TemporaryDirectory() as work:
            archive = Path(work, "result.zip")
            self._archive(case, prediction, archive)
            with zipfile.ZipFile(archive) as opened:
                [content] = map(opened.read, opened.namelist())
            with whole(self._output / case.result) as unfinished:
                unfinished.write_bytes(content)

    def _archive(self, case: FoundCase, prediction: Path, archive: Path) -> None:
        """Write the archive of one case; its errors name no temporary file, which nobody could look at."""
        try:
            with quietly():
                write_submission(
                    prediction.parent, archive, self._challenge, images=_images([case], str(archive.parent))
                )
        except SeveralProblemsError as error:
            problems = " ".join(error.problems)
            raise ConflictingInputError(f"a result that {self._challenge} takes", f"these: {problems}") from error
        except InputError as error:
            raise ConflictingInputError(error.expected, error.got) from error

    def violations(self, cases: Collection[FoundCase]) -> list[str]:
        """Check the results as one archive."""
        with tempfile.TemporaryDirectory() as work:
            archive = Path(work, "results.zip")
            with zipfile.ZipFile(archive, "w") as opened:
                for case in cases:
                    opened.write(self._output / case.result, case.result.name)
            with quietly():
                return check_submission(archive, self._challenge, _images(cases, work))


class TrainedLabels(Results):
    """Results with the labels of the trained dataset, in the place of the case's first image.

    Args:
        output: folder that the results are written to.
        dataset_json: content of the model's dataset.json.
    """

    def __init__(self, output: Path, dataset_json: dict[str, Any]):
        super().__init__(output)
        self._labels = _labels_in(dataset_json)

    def write(self, case: FoundCase, prediction: Path) -> None:
        """Write the segmentation in the format of the image."""
        image, segmentation = read_image(case.images[0]), read_image(prediction)
        check_same_geometry(segmentation, prediction, image, case.images[0])
        voxels = sitk.GetArrayFromImage(segmentation)
        result = sitk.GetImageFromArray(voxels.astype(np.uint8 if max(self._labels) < 256 else np.uint16))
        result.CopyInformation(image)
        with whole(self._output / case.result) as unfinished:
            write_image(result, unfinished, compressed=True)

    def violations(self, cases: Collection[FoundCase]) -> list[str]:
        """Check labels and geometry of each result."""
        found = []
        for case in cases:
            file = self._output / case.result
            try:
                result = read_image(file)
                check_same_geometry(result, file, read_image(case.images[0]), case.images[0])
                check_labels(sitk.GetArrayViewFromImage(result), self._labels, file)
            except InputError as error:
                found.append(error.told())
        return found


def results_in(output: Path, challenge: str | None, dataset_json: dict[str, Any]) -> Results:
    """Return the results of a container.

    Args:
        output: folder that the results are written to.
        challenge: name of the challenge whose rules they follow; None keeps the trained labels.
        dataset_json: content of the model's dataset.json.
    """
    return ChallengeResults(output, challenge) if challenge else TrainedLabels(output, dataset_json)


def _images(cases: Collection[FoundCase], work: str) -> Path:
    """Return a folder with the first image of each case under nnU-Net's name, by which a challenge's rules find it."""
    folder = Path(work, "images")
    folder.mkdir()
    for case in cases:
        (folder / f"{case.name}_0000.nii.gz").symlink_to(case.images[0].absolute())
    return folder


def _labels_in(dataset_json: dict[str, Any]) -> list[int]:
    """Return the labels that nnU-Net's predictions may hold, in ascending order.

    Examples:
        >>> _labels_in({"labels": {"background": 0, "whole": [1, 2], "core": [2]}, "regions_class_order": [1, 2]})
        [0, 1, 2]
    """
    plain = [label for name, label in dataset_json["labels"].items() if name != "ignore" and isinstance(label, int)]
    return sorted({0, *plain, *dataset_json.get("regions_class_order", ())})
