"""Takes an empty prediction the way that results go, to find out early what a challenge would refuse."""

import tempfile
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from nnunetv2_gsp.container.interface import FoundCase
from nnunetv2_gsp.container.results import results_in
from nnunetv2_gsp.container.settings import Settings
from nnunetv2_gsp.errors import ConflictingInputError, InputError
from nnunetv2_gsp.files import write_json
from nnunetv2_gsp.images import write_image


def rehearse(settings: Settings, dataset_json: dict[str, Any], model: str) -> None:
    """Check that predictions of a model make results that the challenge takes, as far as an empty one tells.

    Args:
        settings: settings of the container.
        dataset_json: content of the model's dataset.json.
        model: what to call the model in an error.

    Raises:
        ConflictingInputError: the meaning of the labels, the file format or the names do not fit.
    """
    with tempfile.TemporaryDirectory() as work:
        image, prediction = Path(work, "image.nii.gz"), Path(work, "prediction", f"case{dataset_json['file_ending']}")
        prediction.parent.mkdir()
        for file in (image, prediction):
            write_image(sitk.Image([4, 4, 4], sitk.sitkUInt8), file, compressed=False)
        write_json(dataset_json, prediction.parent / "dataset.json")
        case = FoundCase("case", (image,), Path("case.nii.gz"))
        try:
            results_in(Path(work), settings.challenge, dataset_json).write(case, prediction)
        except InputError as error:
            raise ConflictingInputError(
                f"{error.expected} for {settings.challenge or settings.interface}",
                error.got,
                where=model,
                parameters=["models", "challenge"],
            ) from error
