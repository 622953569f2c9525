"""The rules of each challenge for its archives, used both to write archives and to check any archive."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_gsp.challenges import CHALLENGES, FAMILIES, SUBMISSIONS
from nnunetv2_gsp.challenges.challenge import Archive, CaseFolders, Challenge
from nnunetv2_gsp.datasets.challenges import survey
from nnunetv2_gsp.datasets.source import TEST, Case
from nnunetv2_gsp.errors import ConflictingInputError, InputError, MissingInputError, SeveralProblemsError, check_name
from nnunetv2_gsp.images import visible_files


@dataclass(frozen=True)
class Rules:
    """Rules of a challenge for its archives.

    Attributes:
        of: the challenge.
        archive: what it takes.
    """

    of: Challenge
    archive: Archive

    @property
    def challenge(self) -> str:
        """Name of the challenge.

        Examples:
            >>> rules_of("brats2021").challenge
            'brats2021'
        """
        return self.of.name

    @property
    def labels(self) -> list[int]:
        """Labels that a segmentation on disk may hold, in ascending order.

        Examples:
            >>> rules_of("brats2021").labels
            [0, 1, 2, 4]
        """
        return sorted(self.of.labels)

    @property
    def prediction_endings(self) -> tuple[str, ...]:
        """Endings that the names of nnU-Net's predictions may have.

        Examples:
            >>> rules_of("promise12").prediction_endings
            ('.mha', '.nii.gz')
        """
        return tuple(dict.fromkeys((self.of.file_ending, ".nii.gz")))

    def key_of(self, file_name: str) -> str | None:
        """Return the part of a file's name that identifies the case; None if the name does not follow the rules.

        Args:
            file_name: name of a file in the archive.

        Examples:
            >>> rules_of("brats2021").key_of("BraTS2021_00042.nii.gz")
            '00042'
        """
        found = self.archive.key.search(file_name)
        return found.group(1) if found else None

    def check_template(self, template: str | None) -> None:
        """Check that a template of names has a place for the case.

        Args:
            template: template of the names in the archive; None stands for the challenge's own.

        Raises:
            InputError: the template has no {case}.

        Examples:
            >>> rules_of("brats2021").check_template("prediction.nii.gz")
            Traceback (most recent call last):
                ...
            nnunetv2_gsp.errors.InputError: Expected a template of names with {case} (such as {case}.nii.gz), got...
        """
        if template is not None and "{case}" not in template:
            raise InputError(
                f"a template of names with {{case}} (such as {self.archive.names})",
                repr(template),
                parameters=["names"],
            )

    def file_name(self, case: str, template: str | None = None) -> str:
        """Return the name that a case of nnU-Net's dataset has in the archive.

        Args:
            case: name of the case in the dataset.
            template: template with {case} of the names in the archive; None takes the challenge's own.

        Raises:
            ConflictingInputError: the challenge would refuse the name, or take it for another case's.

        Examples:
            >>> rules_of("promise12").file_name("Test_Case07")
            'Case07_segmentation.mhd'
        """
        own, usual = self.of.layout.challenges_name(case), self.archive.names
        name, usual = (each.replace("{case}", own) for each in (template or usual, usual))
        if self.key_of(name) is None or self.key_of(name) != self.key_of(usual) or not re.fullmatch(r"[\w.-]+", name):
            raise ConflictingInputError(
                f"{self.archive.naming} for {self.challenge}",
                f"the case {case}, which would be called {name!r}",
                remedy="check that the predictions belong to this challenge",
            )
        return name


def rules_of(challenge: str) -> Rules:
    """Return the rules of a challenge.

    Args:
        challenge: name of the challenge, one of `challenges.SUBMISSIONS`.

    Raises:
        InputError: there is no such challenge, or it takes no archives.

    Examples:
        >>> rules_of("brats2024").of.sizes
        ((182, 218, 182),)
    """
    check_name("a challenge that takes archives", challenge, SUBMISSIONS, parameters=["challenge"])
    chosen = CHALLENGES[challenge]
    assert chosen.archive is not None  # as for all of SUBMISSIONS
    return Rules(chosen, chosen.archive)


def find_images(folder: Path, rules: Rules) -> dict[str, Path]:
    """Return the key of each case that is to be predicted -> one of its images.

    Args:
        folder: folder of the challenge's data, of which the cases without label count (all cases if every one has a
            label); or an imagesTs that was made of them.
        rules: rules of the challenge, which say how cases are named.

    Raises:
        MissingInputError: the folder does not exist or holds no case, or a case lacks files.
        ConflictingInputError: two cases share a key, or the cases belong to another challenge.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     Path(folder, "BraTS2021_00042_0000.nii.gz").touch()
        ...     list(find_images(Path(folder), rules_of("brats2021")))
        ['00042']
    """
    if not folder.is_dir():
        raise MissingInputError("a folder of images", "none", where=folder, parameters=["images"])
    of_key: dict[str, list[Path]] = defaultdict(list)
    for case, image in _images_of_cases(folder, rules):
        key = rules.key_of(rules.of.layout.challenges_name(case) + rules.archive.ending)
        if key is None:
            raise ConflictingInputError(
                f"images of {rules.challenge}", f"the case {case}", where=folder, parameters=["images"]
            )
        of_key[key].append(image)
    for key, images in of_key.items():
        if len(images) > 1:
            raise ConflictingInputError(
                f"one case {key}",
                " and ".join(map(str, images)),
                where=folder,
                remedy="give the folder of the cases to predict alone",
            )
    return {key: images[0] for key, images in of_key.items()}


def _images_of_cases(folder: Path, rules: Rules) -> list[tuple[str, Path]]:
    """Return the name of each case in nnU-Net's dataset, and the image of its first channel."""
    ending = "_0000" + rules.of.file_ending
    of_nnunet = visible_files(folder, f"*{ending}")
    if of_nnunet:
        return [(file.name.removesuffix(ending), file) for file in of_nnunet]
    found = survey(rules.of.family, folder, rules.of.edition or None)
    _check_names(found.cases, rules.of, folder)
    problems = found.skipped or ([] if found.cases else found.left_over)
    if problems:
        raise SeveralProblemsError(
            "complete cases", [skipped.reason for skipped in problems], where=folder, parameters=["images"]
        )
    to_predict = [case for case in found.cases if case.part == TEST] or found.cases
    return [(case.name, case.images[0]) for case in to_predict]


def _check_names(cases: Iterable[Case], challenge: Challenge, folder: Path) -> None:
    """Refuse cases that another challenge of the family names so."""
    for case in cases:
        fitting = [
            each
            for each in FAMILIES[challenge.family]
            if isinstance(each.layout, CaseFolders) and each.layout.case.fullmatch(case.name)
        ]
        if fitting and challenge not in fitting:
            raise ConflictingInputError(
                f"images of {challenge.name}",
                f"those of {fitting[0].name}",
                where=folder,
                parameters=["images", "challenge"],
            )
