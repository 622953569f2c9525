"""Makes an nnU-Net raw dataset of PROMISE12: `CaseXX.mhd` and `CaseXX_segmentation.mhd` become `.mha` files.

nnU-Net's reader does not support `.mhd`; `.mha` keeps voxels and geometry to the last bit, `.nii.gz` is off by 3e-6.
"""

import re
from functools import partial
from pathlib import Path

from nnunetv2_gsp.datasets.conversion import ConversionReport, convert
from nnunetv2_gsp.datasets.source import (
    TEST,
    TRAINING,
    Case,
    DatasetFormat,
    Survey,
    folders_below,
    nearest,
    part_told_by,
)
from nnunetv2_gsp.errors import MissingInputError
from nnunetv2_gsp.images import visible_files

FORMAT = DatasetFormat("promise12", ("T2",), {"prostate": 1}, file_ending=".mha")
_PREFIXES = (("live", "Live_"), ("test", "Test_"))  # live first: the live challenge's folder may be called a test too


def survey_promise12(source: Path) -> Survey:
    """Find the cases in the training, test and live folders of a source.

    The same names stand for different patients in each, so cases of the test and live folders get the prefix Test_ or
    Live_.

    Args:
        source: folder that holds the `.mhd` files at any depth.

    Raises:
        MissingInputError: the source holds no case.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as source:
        ...     Path(source, "test").mkdir()
        ...     Path(source, "test", "Case00.mhd").touch()
        ...     [(case.name, case.part) for case in survey_promise12(Path(source)).cases]
        [('Test_Case00', 'Ts')]
    """
    images = [
        file
        for folder in folders_below(source)
        for file in visible_files(folder, "*.mhd")
        if re.fullmatch(r"Case\d+", file.stem)
    ]
    if not images:
        raise MissingInputError(
            "PROMISE12's Case00.mhd and so on", "none", where=source, remedy="give the folder that holds them"
        )
    survey = Survey(FORMAT)
    survey.collect(images, partial(_find_case, source=source), partial(_name, source=source))
    return survey


def convert_promise12(
    source: Path, dataset: Path, *, overwrite: bool = False, strict: bool = False, processes: int = 1
) -> ConversionReport:
    """Make an nnU-Net raw dataset of PROMISE12.

    Cases to train with go to imagesTr and labelsTr, the others, with their labels if they have any, to imagesTs and
    labelsTs.

    Args:
        source: folder that holds the `.mhd` files at any depth.
        dataset: folder to create, `.../nnUNet_raw/DatasetXXX_Name`.
        overwrite: True replaces a dataset of that name once the new one is complete.
        strict: True makes no dataset if a case has to be skipped.
        processes: number of cases converted at the same time, from 1 on; one takes about 0.3 GB.

    Raises:
        InputError: as `survey_promise12` and `conversion.convert`.
    """
    return convert(survey_promise12, source, dataset, overwrite=overwrite, strict=strict, processes=processes)


def challenge_name(case: str) -> str:
    """Return the challenge's name of a case of the dataset.

    Args:
        case: name of the case in the dataset, such as Test_Case00.

    Examples:
        >>> challenge_name("Test_Case00")
        'Case00'
    """
    for _, prefix in _PREFIXES:
        case = case.removeprefix(prefix)
    return case


def _find_case(image: Path, source: Path) -> Case:
    label = image.with_name(f"{image.stem}_segmentation.mhd")
    has_label = label.is_file()
    part = part_told_by(image.parent, source, has_label)
    if part == TRAINING and not has_label:
        raise MissingInputError(f"{label.name} beside an image to train with", "none", where=image)
    return Case(_name(image, source), (image,), label if has_label else None, part or (TRAINING if has_label else TEST))


def _name(image: Path, source: Path) -> str:
    return (nearest(image.parent, source, _prefix) or "") + image.stem


def _prefix(words: list[str]) -> str | None:
    if any(word.startswith("train") for word in words):
        return ""  # whatever the folders above are called
    return next((prefix for beginning, prefix in _PREFIXES if any(word.startswith(beginning) for word in words)), None)
