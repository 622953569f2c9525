"""How does PROMISE12 come in? `CaseXX.mhd` and `CaseXX_segmentation.mhd` -> an nnU-Net raw dataset of `.mha` files.

nnU-Net's reader does not list `.mhd`; `.mha` keeps voxels and geometry to the last bit, `.nii.gz` is off by 3e-6.
"""
import re
from pathlib import Path

from nnunetv2_gsp.datasets.conversion import (
    TEST,
    TRAINING,
    Case,
    Format,
    Report,
    Skipped,
    Survey,
    convert,
    drop_repeated,
    folders_below,
    nearest,
    part_told_by,
    visible,
)
from nnunetv2_gsp.errors import InputError

FORMAT = Format("promise12", ("T2",), {"prostate": 1}, file_ending=".mha")
_PREFIXES = (("live", "Live_"), ("test", "Test_"))  # live first: the live challenge's folder may be called a test too


def survey_promise12(source: Path) -> Survey:
    """Find the cases in the training, test and live folders of a source.

    The same names stand for other patients there, so those of the test and live folders begin with Test_ and Live_.

    Raises:
        InputError: there is no case.
    """
    images = [file for folder in folders_below(source) for file in visible(folder, "*.mhd")
              if re.fullmatch(r"Case\d+", file.stem)]
    if not images:
        raise InputError(f"Expected PROMISE12's Case00.mhd and so on in {source}, found none; give the folder that "
                         f"holds them.")
    survey = Survey(FORMAT)
    found = []
    for image in images:
        try:
            found.append(_find_case(image, source))
        except InputError as error:
            survey.skipped.append(Skipped(_name(image, source), str(error)))
    survey.cases, repeated = drop_repeated(found)
    survey.skipped += repeated
    return survey


def convert_promise12(source: Path, dataset: Path, *, overwrite: bool = False, strict: bool = False,
                      processes: int = 1) -> Report:
    """Make an nnU-Net raw dataset of PROMISE12: cases to train with in imagesTr, the others, and their labels if any,
    in imagesTs and labelsTs.

    Args:
        source: folder of the `.mhd` files, however deep.
        dataset: folder to make, `.../nnUNet_raw/DatasetXXX_Name`.
        overwrite: replace a dataset of that name, once the new one is complete.
        strict: make no dataset if a case has to be skipped.
        processes: how many cases are converted at a time.

    Raises:
        InputError: as `survey_promise12` and `conversion.convert`.
    """
    return convert(survey_promise12, source, dataset, overwrite=overwrite, strict=strict, processes=processes)


def challenge_name(case: str) -> str:
    """Return what the challenge calls a case of the dataset: Case00 for Test_Case00."""
    for _, prefix in _PREFIXES:
        case = case.removeprefix(prefix)
    return case


def _find_case(image: Path, source: Path) -> Case:
    label = image.with_name(f"{image.stem}_segmentation.mhd")
    has_label = label.is_file()
    part = part_told_by(image.parent, source, has_label)
    if part == TRAINING and not has_label:
        raise InputError(f"Expected {label} beside the image to train with, found none.")
    return Case(_name(image, source), (image,), label if has_label else None,
                part or (TRAINING if has_label else TEST))


def _name(image: Path, source: Path) -> str:
    return (nearest(image.parent, source, _prefix) or "") + image.stem


def _prefix(words: list[str]) -> str | None:
    if any(word.startswith("train") for word in words):
        return ""  # whatever the folders above are called
    return next((prefix for beginning, prefix in _PREFIXES if any(word.startswith(beginning) for word in words)), None)
