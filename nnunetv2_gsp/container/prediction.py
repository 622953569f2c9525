"""Predicts one case after another with one model, or with the mean probabilities of several."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from nnunetv2.ensembling.ensemble import merge_files

from nnunetv2_gsp.errors import ConflictingInputError
from nnunetv2_gsp.files import write_json
from nnunetv2_gsp.images import check_same_geometry, read_image, write_image
from nnunetv2_gsp.nnunet import channel_names
from nnunetv2_gsp.prediction.cases import Case, preprocessed, write_segmentation, write_with_probabilities
from nnunetv2_gsp.prediction.model import load_predictor
from nnunetv2_gsp.prediction.predicting import labels_of

# in the dataset.json of an ensemble's models
_ALIKE = ("labels", "regions_class_order", "channel_names", "modality", "file_ending")


def common_dataset(model_folders: Sequence[Path], names: Sequence[str]) -> dict[str, Any]:
    """Return the dataset.json of models, after checking that they have channels, labels and file format in common.

    Args:
        model_folders: folders as `unpacked` yields them.
        names: what to call each model in an error.

    Raises:
        ConflictingInputError: two models differ there, or one needs the prediction of another.
    """
    datasets = [_read_json(folder / "dataset.json") for folder in model_folders]
    for name, dataset in zip(names, datasets, strict=True):
        for key in _ALIKE:
            if dataset.get(key) != datasets[0].get(key):
                raise ConflictingInputError(
                    f"the {key} of {names[0]}, {datasets[0].get(key)}, in each model",
                    f"{dataset.get(key)} in {name}",
                    parameters=["models"],
                )
    for name, folder in zip(names, model_folders, strict=True):
        [configuration] = _read_json(folder / "plans.json")["configurations"].values()
        if configuration.get("previous_stage"):
            raise ConflictingInputError(
                "models that need no other model's prediction",
                f"a cascade's second stage, which follows {configuration['previous_stage']}",
                where=name,
                parameters=["models"],
            )
    return datasets[0]


class Ensemble:
    """Models that predict a case together; a single one is its own ensemble.

    Args:
        bundles: files of the models, which have channels, labels and file format in common.
        device: "cpu" or "cuda".

    Attributes:
        dataset_json: content of the models' dataset.json.
    """

    def __init__(self, bundles: Sequence[Path], device: str):
        self._predictors = [load_predictor(bundle, device=device) for bundle in bundles]
        self.dataset_json: dict[str, Any] = self._predictors[0].dataset_json

    @property
    def channels(self) -> list[str]:
        """Names of the channels, in their order."""
        return channel_names(self.dataset_json)

    def predict(self, name: str, images: Sequence[Path], folder: Path) -> Path:
        """Predict a case, and return the file of the segmentation, with nnU-Net's dataset.json beside it.

        Args:
            name: name of the case.
            images: file of each channel.
            folder: folder that the prediction is written to; it is created.

        Raises:
            DamagedFileError: an image is truncated or damaged.
            ConflictingInputError: the images do not lie in the same place.
        """
        folder.mkdir(parents=True)
        write_json(self.dataset_json, folder / "dataset.json")
        with tempfile.TemporaryDirectory() as work, quietly():
            case = Case(name, tuple(self._readable(images, Path(work))), None)
            if len(self._predictors) == 1:
                self._predict_alone(case, folder)
            else:
                self._predict_together(case, Path(work), folder)
        return folder / f"{name}{self.dataset_json['file_ending']}"

    def _predict_alone(self, case: Case, folder: Path) -> None:
        [predictor] = self._predictors
        image = preprocessed(case, predictor)
        labels = labels_of(predictor.logits_of(image.image), predictor, image.properties)
        write_segmentation(case, labels, image.properties, predictor, folder)

    def _predict_together(self, case: Case, work: Path, folder: Path) -> None:
        parts = [work / f"model_{number}" for number in range(len(self._predictors))]
        for predictor, part in zip(self._predictors, parts, strict=True):
            part.mkdir()
            image = preprocessed(case, predictor)
            logits = predictor.predict_logits_from_preprocessed_data(image.image)
            write_with_probabilities(case, logits, image.properties, predictor, part)
        first = self._predictors[0]
        merge_files(
            [str(part / f"{case.name}.npz") for part in parts],
            str(folder / case.name),
            self.dataset_json["file_ending"],
            first.plans_manager.image_reader_writer_class(),
            first.label_manager,
        )

    def _readable(self, images: Sequence[Path], work: Path) -> list[Path]:
        """Check the images, and return files in the models' format, which are the images themselves where they can be.

        nnU-Net reads a truncated image without a word, and only prints that two channels lie in different places. NaN
        counts as what nnU-Net's reader makes of it.
        """
        ending = self.dataset_json["file_ending"]
        reference, files = read_image(images[0], must_be_finite=False), []
        for channel, file in enumerate(images):
            image = read_image(file, must_be_finite=False) if channel else reference
            check_same_geometry(image, file, reference, images[0])
            if not file.name.endswith(ending):
                file = work / f"case_{channel:04d}{ending}"
                write_image(image, file, compressed=False)
            files.append(file)
        return files


@contextmanager
def quietly() -> Iterator[None]:
    """Hold back what nnU-Net prints, and progress bars of a single case."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        yield


def _read_json(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content
