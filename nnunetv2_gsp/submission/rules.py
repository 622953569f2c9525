"""The rules of each challenge for its archives, used both to write archives and to check any archive."""

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_gsp.datasets.brats import format_of, survey_brats
from nnunetv2_gsp.datasets.challenges import BRATS
from nnunetv2_gsp.datasets.labels import LABEL_MAPPINGS
from nnunetv2_gsp.datasets.promise12 import FORMAT, challenge_name, survey_promise12
from nnunetv2_gsp.datasets.source import TEST
from nnunetv2_gsp.errors import ConflictingInputError, InputError, MissingInputError, SeveralProblemsError
from nnunetv2_gsp.images import visible_files

_BRATS_SIZE, _GLI_2024_SIZE = (240, 240, 155), (182, 218, 182)


@dataclass(frozen=True)
class Rules:
    """Rules of a challenge for its archives.

    Attributes:
        challenge: name of the challenge, one of `challenges.SUBMISSIONS`.
        key: pattern whose first group is the part of a file's name in the archive that identifies the case.
        naming: the names that `key` matches, in words, for errors.
        names: template with {case} of the names in archives that are written here.
        size: number of voxels (X, Y, Z) of every case; None where cases differ.
        exact_qform: True where the NIfTI qform has to equal the image's to the last bit.
    """

    challenge: str
    key: re.Pattern[str]
    naming: str
    names: str
    size: tuple[int, int, int] | None = None
    exact_qform: bool = False

    @property
    def labels(self) -> list[int]:
        """Labels that a segmentation on disk may hold, in ascending order.

        Examples:
            >>> rules_of("brats2021").labels
            [0, 1, 2, 4]
        """
        return sorted(LABEL_MAPPINGS[self.challenge])

    @property
    def is_brats(self) -> bool:
        """Whether files are `.nii.gz`; PROMISE12's are `.mhd` with `.raw`."""
        return self.challenge in BRATS.full_names

    @property
    def prediction_endings(self) -> tuple[str, ...]:
        """Endings that the names of nnU-Net's predictions may have.

        Examples:
            >>> rules_of("promise12").prediction_endings
            ('.mha', '.nii.gz')
        """
        return (format_of(self.challenge).file_ending,) if self.is_brats else (FORMAT.file_ending, ".nii.gz")

    def key_of(self, file_name: str) -> str | None:
        """Return the part of a file's name that identifies the case; None if the name does not follow the rules.

        Args:
            file_name: name of a file in the archive, without folders.

        Examples:
            >>> rules_of("brats2021").key_of("BraTS2021_00042.nii.gz")
            '00042'
        """
        found = self.key.search(file_name)
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
                f"a template of names with {{case}} (such as {self.names})", repr(template), parameters=["names"]
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
        name, usual = (each.replace("{case}", challenge_name(case)) for each in (template or self.names, self.names))
        if self.key_of(name) is None or self.key_of(name) != self.key_of(usual) or not re.fullmatch(r"[\w.-]+", name):
            raise ConflictingInputError(
                f"{self.naming} for {self.challenge}",
                f"the case {case}, which would be called {name!r}",
                remedy="check that the predictions belong to this challenge",
            )
        return name


def _whole_name(case: str) -> re.Pattern[str]:
    return re.compile(rf"\A({case})\.nii\.gz\Z")


_RULES = {
    "brats2018": (_whole_name(r"Brats18_\w+"), "Brats18_*.nii.gz", _BRATS_SIZE),
    "brats2019": (_whole_name(r"BraTS19_\w+"), "BraTS19_*.nii.gz", _BRATS_SIZE),
    "brats2020": (
        _whole_name(r"BraTS20_(?:Training|Validation|Testing)_\d{3}"),
        "BraTS20_Validation_001.nii.gz",
        _BRATS_SIZE,
    ),
    "brats2021": (re.compile(r"(?<!\d)(\d{5})\.nii\.gz\Z"), "names that end in 00000.nii.gz", _BRATS_SIZE),
    "brats2023": (re.compile(r"(?<!\d)(\d{5}-\d{3})\.nii\.gz\Z"), "names that end in 00000-000.nii.gz", _BRATS_SIZE),
    "brats2024": (re.compile(r"(?<!\d)(\d{5}-\d{3})\.nii\.gz\Z"), "names that end in 00000-100.nii.gz", _GLI_2024_SIZE),
}


def rules_of(challenge: str) -> Rules:
    """Return the rules of a challenge.

    Args:
        challenge: name of the challenge, one of `challenges.SUBMISSIONS`.

    Examples:
        >>> rules_of("brats2024").size
        (182, 218, 182)
    """
    if challenge == "promise12":
        # The part behind CaseXX is from memory and could not be verified, so a template may replace it.
        return Rules(
            challenge,
            re.compile(r"(Case\d+)(?!\d)[\w.-]*\.mhd\Z"),
            "names with Case00 that end in .mhd",
            "{case}_segmentation.mhd",
        )
    key, naming, size = _RULES[challenge]
    return Rules(challenge, key, naming, "{case}.nii.gz", size, exact_qform=challenge >= "brats2023")


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
        ending = ".nii.gz" if rules.is_brats else ".mhd"
        key = rules.key_of(challenge_name(case) + ending)
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
    ending = "_0000" + rules.prediction_endings[0]
    of_nnunet = visible_files(folder, f"*{ending}")
    if of_nnunet:
        return [(file.name.removesuffix(ending), file) for file in of_nnunet]
    survey = survey_brats(folder) if rules.is_brats else survey_promise12(folder)
    if survey.format.edition != rules.challenge:
        raise ConflictingInputError(
            f"images of {rules.challenge}",
            f"those of {survey.format.edition}",
            where=folder,
            parameters=["images", "challenge"],
        )
    if survey.skipped:
        raise SeveralProblemsError(
            "complete cases", [skipped.reason for skipped in survey.skipped], where=folder, parameters=["images"]
        )
    to_predict = [case for case in survey.cases if case.part == TEST] or survey.cases
    return [(case.name, case.images[0]) for case in to_predict]
