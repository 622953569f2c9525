"""Which segmentations belong together, and which regions do they hold?"""
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnunetv2_gsp.errors import InputError

if TYPE_CHECKING:
    import SimpleITK as sitk

ENDINGS = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".png", ".tif", ".tiff", ".bmp")


@dataclass(frozen=True)
class Labels:
    """What is evaluated.

    Attributes:
        regions: name -> labels that make it; None where every label that occurs is one.
        ignore: voxels with this label in the reference count for nothing.
        known: labels that may occur; None for any.
        source: where this is from, for outputs.
    """

    regions: Mapping[str, tuple[int, ...]] | None = None
    ignore: int | None = None
    known: frozenset[int] | None = None
    source: str = "labels as found"

    def regions_among(self, found: Collection[int]) -> Mapping[str, tuple[int, ...]]:
        """Return the regions, or one for each label found."""
        if self.regions is not None:
            return self.regions
        return {str(label): (label,) for label in sorted(found) if label != 0}


@dataclass(frozen=True)
class Segmentation:
    """A segmentation as its file holds it.

    Attributes:
        labels: integers (D, H, W) or (H, W).
        spacing_mm: three or two, in the order of the axes of `labels`.
        direction: float64 (3, 3) or (2, 2), SimpleITK's.
        origin_mm: float64 (3,) or (2,), SimpleITK's.
    """

    labels: np.ndarray
    spacing_mm: tuple[float, ...]
    direction: np.ndarray
    origin_mm: np.ndarray


def segmentations(folder: Path) -> dict[str, Path]:
    """Return the segmentations of a folder, their names without ending -> files.

    Raises:
        InputError: the folder is not there, or holds none, or two of the same name.
    """
    if not folder.is_dir():
        raise InputError(f"Expected a folder of segmentations, found none at {folder}; name one that exists.")
    files: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        ending = next((ending for ending in ENDINGS if file.name.endswith(ending)), None)
        if ending is None or file.name.startswith(".") or not file.is_file():
            continue
        case = file.name.removesuffix(ending)
        if case in files:
            raise InputError(f"Expected one file for each case in {folder}, found {files[case].name} and {file.name}; "
                             f"move one away.")
        files[case] = file
    if not files:
        raise InputError(f"Expected segmentations ({', '.join(ENDINGS)}) in {folder}, found none; name the folder that "
                         f"holds them.")
    return files


def pair(references: Mapping[str, Path], predictions: Mapping[str, Path],
         chill: bool = False) -> dict[str, tuple[Path, Path]]:
    """Return case -> (reference, prediction).

    Args:
        references: as `segmentations` gives them.
        predictions: as `segmentations` gives them.
        chill: leave out what only one of the folders has, as nnU-Net's --chill does.

    Raises:
        InputError: they have no case in common, or not the same cases and no chill.
    """
    common = sorted(set(references) & set(predictions))
    a_reference, a_prediction = next(iter(references.values())), next(iter(predictions.values()))
    if not common:
        raise InputError(f"Expected predictions of the cases in {a_reference.parent} (such as {a_reference.name}), "
                         f"found none of them in {a_prediction.parent} (but {a_prediction.name}); name the folders "
                         f"that belong together.")
    for missing, folder in ((set(references) - set(predictions), a_prediction.parent),
                            (set(predictions) - set(references), a_reference.parent)):
        if missing and not chill:
            raise InputError(f"Expected the same cases in both folders, found no {some(missing)} in {folder}; add "
                             f"what is missing, or leave out what only one has (evaluate: with --chill; compare: move "
                             f"it away).")
    return {case: (references[case], predictions[case]) for case in common}


def labels_of(file: Path) -> Labels:
    """Return the regions or labels of a dataset.json.

    Raises:
        InputError: it is not there, or no dataset.json.
    """
    try:
        labels: dict[str, Any] = dict(json.loads(file.read_text(encoding="utf-8"))["labels"])
        groups = {name: _group(value) for name, value in labels.items()}
        [ignore] = groups.get("ignore", (None,))
    except FileNotFoundError as error:
        raise InputError(f"Expected a dataset.json at {file}, found none; put it there, or name one with -djfile, "
                         f"beside -pred.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"Expected nnU-Net's dataset.json with whole numbers for its labels (one for ignore), found "
                         f"something else in {file}; mend it, or name another with -djfile, beside -pred.") from error
    regions = {name: group for name, group in groups.items() if name != "ignore" and set(group) != {0}}
    known = frozenset(label for group in groups.values() for label in group) | {0}
    return Labels(regions, ignore, known, f"labels of {file}")


def find_labels(dataset_json: Path | None, reference_folder: Path, prediction_folder: Path) -> Labels:
    """Return the labels of the given dataset.json, or of the one that nnU-Net left nearby, or those found.

    nnU-Net's prediction writes one beside its files, its training one into the model folder, two above a fold's
    validation, and a raw dataset has one beside labelsTr.

    Raises:
        InputError: the given one is not there, or no dataset.json.
    """
    if dataset_json is not None:
        return labels_of(dataset_json)
    prediction_folder, reference_folder = prediction_folder.absolute(), reference_folder.absolute()
    for folder in (prediction_folder, prediction_folder.parent, prediction_folder.parent.parent,
                   reference_folder, reference_folder.parent):
        if (folder / "dataset.json").is_file():
            return labels_of(folder / "dataset.json")
    return Labels()


def image_of(case: str, folder: Path) -> Path | None:
    """Return the file of a case's first channel, as nnU-Net names it; None where there is none."""
    return next(filter(Path.is_file, (folder / f"{case}_0000{ending}" for ending in ENDINGS)), None)


def read_segmentation(file: Path) -> Segmentation:
    """Read a segmentation.

    Raises:
        InputError: it is missing, cut off or damaged, neither 2D nor 3D, or holds no whole numbers.
    """
    return _as_segmentation(_read(file), file)


def read_pair(reference_file: Path, prediction_file: Path, labels: Labels) -> tuple[Segmentation, Segmentation]:
    """Read a reference and its prediction.

    Raises:
        InputError: one can't be read, their geometries differ, or there is an unknown label.
    """
    from nnunetv2_gsp.images import check_same_geometry

    images = {file: _read(file) for file in (reference_file, prediction_file)}
    check_same_geometry(images[prediction_file], prediction_file, images[reference_file], reference_file)
    read = {file: _as_segmentation(image, file) for file, image in images.items()}
    for file, segmentation in read.items():
        unknown = sorted(labels_in(segmentation.labels) - labels.known) if labels.known is not None else []
        if unknown:
            raise InputError(f"Expected labels among {sorted(labels.known or ())} ({labels.source}), found {unknown} "
                             f"in {file}; check that it belongs to this dataset, or name its own with -djfile, "
                             f"beside -pred.")
    return read[reference_file], read[prediction_file]


def labels_in(segmentation: np.ndarray) -> set[int]:
    """Return the labels that occur in integers of any shape."""
    if segmentation.size and segmentation.min() >= 0 and segmentation.max() < 2 ** 16:
        return set(np.flatnonzero(np.bincount(segmentation.ravel().astype(np.int64))).tolist())
    return set(np.unique(segmentation).tolist())


def some(names: Collection[str], most: int = 5) -> str:
    """Return the first few names in words, and how many more there are."""
    shown = ", ".join(sorted(names)[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _group(value: Any) -> tuple[int, ...]:
    """Return the labels of an entry, one or a list; raise ValueError where int() would round, or there is none."""
    group = value if isinstance(value, list) else [value]
    if not group or any(isinstance(label, float) and not label.is_integer() for label in group):
        raise ValueError(f"no labels: {value}")
    return tuple(map(int, group))


def _read(file: Path) -> "sitk.Image":
    from nnunetv2_gsp.images import NIFTI, nifti_is_finite, read_whole

    image = read_whole(file)
    if image.GetDimension() not in (2, 3) or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"Expected a 2D or 3D segmentation of one channel in {file}, found {image.GetDimension()}D "
                         f"with {image.GetNumberOfComponentsPerPixel()} channels; convert it.")
    if file.name.endswith(NIFTI) and not nifti_is_finite(file):
        raise _not_whole_numbers(file)
    return image


def _as_segmentation(image: "sitk.Image", file: Path) -> Segmentation:
    import SimpleITK as sitk

    array, axes = sitk.GetArrayFromImage(image), image.GetDimension()
    if not np.issubdtype(array.dtype, np.integer):
        if not np.array_equal(array, np.rint(array)) or not np.isfinite(array).all():
            raise _not_whole_numbers(file)
        array = array.astype(np.int64)
    return Segmentation(array, image.GetSpacing()[::-1],
                        np.array(image.GetDirection()).reshape(axes, axes), np.array(image.GetOrigin()))


def _not_whole_numbers(file: Path) -> InputError:
    return InputError(f"Expected whole numbers for labels, found others in {file}; give segmentations, no "
                      f"probabilities or images.")
