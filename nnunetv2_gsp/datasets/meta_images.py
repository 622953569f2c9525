"""Finds the cases of a source of MetaImages, as PROMISE12 has them: `CaseXX.mhd` and `CaseXX_segmentation.mhd`."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from nnunetv2_gsp.challenges import Challenge
from nnunetv2_gsp.challenges.challenge import MetaImages
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


def survey_meta_images(family: Sequence[Challenge], source: Path, _edition: str | None = None) -> Survey:
    """Find the cases in the training, test and live folders of a source.

    The same names stand for different patients in each, so cases of the test and live folders get a prefix.

    Args:
        family: the one challenge that is laid out so.
        source: folder that holds the `.mhd` files at any depth.

    Raises:
        MissingInputError: the source holds no case.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> from nnunetv2_gsp.challenges import FAMILIES
        >>> with TemporaryDirectory() as source:
        ...     Path(source, "test").mkdir()
        ...     Path(source, "test", "Case00.mhd").touch()
        ...     [(case.name, case.part) for case in survey_meta_images(FAMILIES["promise12"], Path(source)).cases]
        [('Test_Case00', 'Ts')]
    """
    [challenge] = family
    layout = challenge.layout
    assert isinstance(layout, MetaImages)
    images = [
        file
        for folder in folders_below(source)
        for file in visible_files(folder, "*.mhd")
        if layout.case.fullmatch(file.stem)
    ]
    if not images:
        raise MissingInputError(
            f"{challenge.title}'s Case00.mhd and so on", "none", where=source, remedy="give the folder that holds them"
        )
    survey = Survey(DatasetFormat(challenge, challenge.channels))
    survey.collect(images, partial(_find_case, layout, source), partial(_name, layout, source))
    survey.account_for(source)
    return survey


def _find_case(layout: MetaImages, source: Path, image: Path) -> Case:
    label = image.with_name(f"{image.stem}{layout.segmentation}.mhd")
    has_label = label.is_file()
    part = part_told_by(image.parent, source, has_label)
    if part == TRAINING and not has_label:
        raise MissingInputError(f"{label.name} beside an image to train with", "none", where=image)
    name = _name(layout, source, image)
    return Case(name, (image,), label if has_label else None, part or (TRAINING if has_label else TEST))


def _name(layout: MetaImages, source: Path, image: Path) -> str:
    return (nearest(image.parent, source, partial(_prefix, layout)) or "") + image.stem


def _prefix(layout: MetaImages, words: list[str]) -> str | None:
    if any(word.startswith("train") for word in words):
        return ""  # whatever the folders above are called
    prefixes = layout.prefixes
    return next((prefix for beginning, prefix in prefixes if any(word.startswith(beginning) for word in words)), None)
