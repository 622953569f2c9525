"""Finds the files of each case: a reference and its prediction have the same file name, apart from the ending."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from nnunetv2_gsp.errors import ConflictingInputError, MissingInputError
from nnunetv2_gsp.wording import first_few

ENDINGS = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".gipl", ".png", ".tif", ".tiff", ".bmp")


def find_segmentations(folder: Path, parameters: Sequence[str] = ()) -> dict[str, Path]:
    """Return the segmentations of a folder as case -> file; the case is the file's name without its ending.

    Args:
        folder: holds one file for each case; subfolders are not searched.
        parameters: names of the caller's parameters that give the folder, for the error.

    Raises:
        MissingInputError: the folder does not exist, or holds no segmentation.
        ConflictingInputError: two of its files belong to the same case.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     Path(folder, "BraTS2021_00042.nii.gz").touch()
        ...     list(find_segmentations(Path(folder)))
        ['BraTS2021_00042']
    """
    if not folder.is_dir():
        raise MissingInputError("a folder of segmentations", "none", where=folder, parameters=parameters)
    files: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        ending = next((ending for ending in ENDINGS if file.name.lower().endswith(ending)), None)
        if ending is None or file.name.startswith(".") or not file.is_file():
            continue
        case = file.name[: -len(ending)]
        if case in files:
            raise ConflictingInputError(
                "one file for each case", f"{files[case].name} and {file.name}", where=folder, remedy="move one away"
            )
        files[case] = file
    if not files:
        raise MissingInputError(f"segmentations ({', '.join(ENDINGS)})", "none", where=folder, parameters=parameters)
    return files


def pair(references: Mapping[str, Path], predictions: Mapping[str, Path]) -> dict[str, tuple[Path, Path]]:
    """Return case -> (reference, prediction), for the cases that have both.

    Args:
        references: case -> file of the reference, as `find_segmentations` returns them.
        predictions: case -> file of the prediction, as `find_segmentations` returns them.

    Raises:
        ConflictingInputError: they have no case in common.

    Examples:
        >>> references = {case: Path(f"labelsTr/{case}.nii.gz") for case in ("A", "B")}
        >>> pairs = pair(references, {"B": Path("predictions/B.nii.gz")})
        >>> {case: [file.parent.name for file in files] for case, files in pairs.items()}
        {'B': ['labelsTr', 'predictions']}
    """
    common = sorted(set(references) & set(predictions))
    if not common:
        a_reference, a_prediction = next(iter(references.values())), next(iter(predictions.values()))
        raise ConflictingInputError(
            f"predictions of the cases in {a_reference.parent} (such as {a_reference.name})",
            f"others ({a_prediction.name})",
            where=a_prediction.parent,
            parameters=["references", "predictions"],
        )
    return {case: (references[case], predictions[case]) for case in common}


def check_same_cases(
    references: Mapping[str, Path], predictions: Mapping[str, Path], parameters: Sequence[str] = ()
) -> None:
    """Check that no case has a reference without a prediction, or the reverse.

    Args:
        references: case -> file of the reference, as `find_segmentations` returns them.
        predictions: case -> file of the prediction, as `find_segmentations` returns them.
        parameters: names of the caller's parameters that leave such cases out, for the error.

    Raises:
        MissingInputError: there is such a case.

    Examples:
        >>> references = {case: Path(f"labelsTr/{case}.nii.gz") for case in ("A", "B")}
        >>> check_same_cases(references, {"B": Path("pred/B.nii.gz")})
        Traceback (most recent call last):
            ...
        nnunetv2_gsp.errors.MissingInputError: pred: expected the same cases as on the other side, got none of A...
    """
    folders = [next(iter(files.values())).parent for files in (references, predictions)]
    for missing, folder in (
        (set(references) - set(predictions), folders[1]),
        (set(predictions) - set(references), folders[0]),
    ):
        if missing:
            raise MissingInputError(
                "the same cases as on the other side",
                f"none of {first_few(sorted(missing))}",
                where=folder,
                remedy="add what is missing, or move away what only one side has",
                parameters=parameters,
            )


def first_channel_of(case: str, folder: Path) -> Path | None:
    """Return the file of a case's first channel, as nnU-Net names it; None where there is none.

    Args:
        case: name of the case, without channel number and ending.
        folder: holds the images, such as imagesTr.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     Path(folder, "BraTS2021_00042_0000.nii.gz").touch()
        ...     first_channel_of("BraTS2021_00042", Path(folder)).name
        'BraTS2021_00042_0000.nii.gz'
    """
    return next(filter(Path.is_file, (folder / f"{case}_0000{ending}" for ending in ENDINGS)), None)
