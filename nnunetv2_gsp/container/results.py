"""Turns a prediction into the result that an interface asks for, and checks what was written."""

import tempfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from nnunetv2_gsp.challenges import CHALLENGES
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
    def check(self, case: FoundCase) -> None:
        """Read the result of a case again.

        Raises:
            InputError: it breaks a rule.
        """

    def write_empty(self, case: FoundCase) -> bool:
        """Write a segmentation without any label where the first image lies whose header can be read.

        Args:
            case: the case, with those of its images that are there.

        Returns:
            True if there is such an image, and the segmentation was written.
        """
        for image in case.images:
            with suppress(RuntimeError, InputError):
                empty = _empty_like(image)
                with whole(self._output / case.result) as unfinished:
                    write_image(empty, unfinished, compressed=True)
                return True
        return False


class ChallengeResults(Results):
    """Results with the labels and geometry of a challenge's archives, as files of their own.

    Whoever runs the container names the cases, and not always as the challenge does: archives have its example.
    """

    def __init__(self, output: Path, challenge: str):
        super().__init__(output)
        self._challenge, self._example = challenge, CHALLENGES[challenge].example

    def write(self, case: FoundCase, prediction: Path) -> None:
        """Write the one file of an archive of the case."""
        ending = prediction.name.removeprefix(case.name)
        prediction = prediction.rename(prediction.with_name(f"{self._example}{ending}"))
        with tempfile.TemporaryDirectory() as work, self._refusing(case):
            archive = Path(work, "result.zip")
            with quietly():
                write_submission(prediction.parent, archive, self._challenge, images=self._image(case, work))
            with zipfile.ZipFile(archive) as opened:
                [content] = map(opened.read, opened.namelist())
            with whole(self._output / case.result) as unfinished:
                unfinished.write_bytes(content)

    def check(self, case: FoundCase) -> None:
        """Check the result as an archive of its own."""
        with tempfile.TemporaryDirectory() as work, self._refusing(case):
            archive = Path(work, "result.zip")
            with zipfile.ZipFile(archive, "w") as opened:
                opened.write(self._output / case.result, f"{self._example}.nii.gz")
            with quietly():
                violations = check_submission(archive, self._challenge, self._image(case, work))
            if violations:
                raise SeveralProblemsError("a result that is in order", violations)

    def _image(self, case: FoundCase, work: str) -> Path:
        """Return a folder with the first image under nnU-Net's name, by which a challenge's rules find it."""
        folder = Path(work, "images")
        folder.mkdir()
        (folder / f"{self._example}_0000.nii.gz").symlink_to(case.images[0].absolute())
        return folder

    @contextmanager
    def _refusing(self, case: FoundCase) -> Iterator[None]:
        """Raise errors that name the case, and no temporary file, which nobody could look at."""
        try:
            yield
        except SeveralProblemsError as error:
            problems = " ".join(error.problems).replace(self._example, case.name)
            raise ConflictingInputError(f"a result that {self._challenge} takes", f"these: {problems}") from error
        except InputError as error:
            raise ConflictingInputError(error.expected, error.got) from error


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
        image, segmentation = read_image(case.images[0], must_be_finite=False), read_image(prediction)
        check_same_geometry(segmentation, prediction, image, case.images[0])
        voxels = sitk.GetArrayFromImage(segmentation)
        result = sitk.GetImageFromArray(voxels.astype(np.uint8 if max(self._labels) < 256 else np.uint16))
        result.CopyInformation(image)
        with whole(self._output / case.result) as unfinished:
            write_image(result, unfinished, compressed=True)

    def check(self, case: FoundCase) -> None:
        """Check labels and geometry of the result."""
        file = self._output / case.result
        result = read_image(file)
        check_same_geometry(result, file, read_image(case.images[0], must_be_finite=False), case.images[0])
        check_labels(sitk.GetArrayViewFromImage(result), self._labels, file)


def results_in(output: Path, challenge: str | None, dataset_json: dict[str, Any]) -> Results:
    """Return the results of a container.

    Args:
        output: folder that the results are written to.
        challenge: name of the challenge whose rules they follow; None keeps the trained labels.
        dataset_json: content of the model's dataset.json.
    """
    return ChallengeResults(output, challenge) if challenge else TrainedLabels(output, dataset_json)


def _empty_like(file: Path) -> sitk.Image:
    """Return an image without any label that lies where another does, of which the header alone is read."""
    header = sitk.ImageFileReader()
    header.SetFileName(str(file))
    header.ReadImageInformation()
    empty = sitk.Image(header.GetSize(), sitk.sitkUInt8)
    empty.SetSpacing(header.GetSpacing())
    empty.SetOrigin(header.GetOrigin())
    empty.SetDirection(header.GetDirection())
    empty.SetMetaData("ITK_FileNotes", "no prediction: the case failed")  # to tell it from one without a finding
    return empty


def _labels_in(dataset_json: dict[str, Any]) -> list[int]:
    """Return the labels that nnU-Net's predictions may hold, in ascending order.

    Examples:
        >>> _labels_in({"labels": {"background": 0, "whole": [1, 2], "core": [2]}, "regions_class_order": [1, 2]})
        [0, 1, 2]
    """
    plain = [label for name, label in dataset_json["labels"].items() if name != "ignore" and isinstance(label, int)]
    return sorted({0, *plain, *dataset_json.get("regions_class_order", ())})
