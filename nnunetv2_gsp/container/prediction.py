"""Predicts one case after another with one model, or with the mean probabilities of several."""

import json
import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from nnunetv2.ensembling.ensemble import merge_files
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunetv2_gsp.errors import ConflictingInputError
from nnunetv2_gsp.files import write_json
from nnunetv2_gsp.images import check_same_geometry, read_image, write_image
from nnunetv2_gsp.nnunet import FOLDERS, environment_with
from nnunetv2_gsp.sharing import import_model

_log = logging.getLogger(__name__)
_ALIKE = (
    "labels",
    "regions_class_order",
    "channel_names",
    "file_ending",
)  # in the dataset.json of an ensemble's models


def imported(bundle: Path, results: Path) -> Path:
    """Make a model folder of a bundle, whatever else nnU-Net's variables name.

    Args:
        bundle: bundle that `export_model`, or anybody else, wrote.
        results: folder for it, which is created; models of the same names need a folder each.

    Raises:
        RefusedError: the bundle is unsound.
    """
    results.mkdir(parents=True)
    with environment_with({**dict.fromkeys(FOLDERS, str(results / "none")), "nnUNet_results": str(results)}):
        return import_model(bundle)


def common_dataset(model_folders: Sequence[Path], names: Sequence[str]) -> dict[str, Any]:
    """Return the dataset.json of models, after checking that they have channels, labels and file format in common.

    Args:
        model_folders: folders as `imported` returns them.
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

    Attributes:
        dataset_json: content of the models' dataset.json.
    """

    def __init__(self, model_folders: Sequence[Path], device: str):
        self.dataset_json = common_dataset(model_folders, [folder.name for folder in model_folders])
        with quietly():
            self._predictors = [_predictor(folder, torch.device(device)) for folder in model_folders]

    @property
    def channels(self) -> list[str]:
        """Names of the channels, in their order."""
        names = self.dataset_json["channel_names"]
        return [names[number] for number in sorted(names, key=int)]

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
        with tempfile.TemporaryDirectory() as work:
            files = self._readable(images, Path(work))
            parts = [Path(work, f"model_{number}") for number in range(len(self._predictors))]
            with quietly():
                for predictor, part in zip(self._predictors, parts, strict=True):
                    part.mkdir()
                    predictor.predict_from_files_sequential(
                        [list(map(str, files))], [str(part / name)], save_probabilities=len(parts) > 1
                    )
            return self._merged(name, parts, folder)

    def _merged(self, name: str, parts: Sequence[Path], folder: Path) -> Path:
        folder.mkdir(parents=True)
        ending = self.dataset_json["file_ending"]
        write_json(self.dataset_json, folder / "dataset.json")
        if len(parts) == 1:
            return Path(parts[0], f"{name}{ending}").rename(folder / f"{name}{ending}")
        first = self._predictors[0]
        merge_files(
            [str(part / f"{name}.npz") for part in parts],
            str(folder / name),
            ending,
            first.plans_manager.image_reader_writer_class(),
            first.label_manager,
        )
        return folder / f"{name}{ending}"

    def _readable(self, images: Sequence[Path], work: Path) -> list[Path]:
        """Check the images, and return files in the models' format, which are the images themselves where they can be.

        nnU-Net reads a truncated image without a word, and only prints that two channels lie in different places.
        """
        ending = self.dataset_json["file_ending"]
        reference, files = read_image(images[0]), []
        for channel, file in enumerate(images):
            image = read_image(file) if channel else reference
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


def _predictor(model_folder: Path, device: torch.device) -> nnUNetPredictor:
    checkpoints = sorted(model_folder.glob("fold_*/*.pth"))
    folds = [checkpoint.parent.name.removeprefix("fold_") for checkpoint in checkpoints]
    predictor = nnUNetPredictor(device=device, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model_folder), folds, checkpoints[0].name)
    return predictor


def _read_json(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content
