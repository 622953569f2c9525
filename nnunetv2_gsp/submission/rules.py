"""What does a challenge ask of an archive? One set of rules each, for the archives we write and for anybody's."""
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_gsp.datasets.brats import format_of, survey_brats
from nnunetv2_gsp.datasets.conversion import TEST, visible
from nnunetv2_gsp.datasets.editions import EDITIONS
from nnunetv2_gsp.datasets.labels import LABELS
from nnunetv2_gsp.datasets.promise12 import FORMAT, challenge_name, survey_promise12
from nnunetv2_gsp.errors import InputError

_BRATS_SIZE, _GLI_2024_SIZE = (240, 240, 155), (182, 218, 182)


@dataclass(frozen=True)
class Rules:
    """What a challenge asks.

    Attributes:
        challenge: key of `LABELS`.
        key: finds what tells a case in the name of a file in the archive, as its first group.
        naming: the same in words, for errors.
        names: template of the names that we give.
        size: voxels (X, Y, Z) that every case has, if they are all alike.
        exact_qform: the NIfTI qform is to be the source's to the last bit.
    """

    challenge: str
    key: re.Pattern[str]
    naming: str
    names: str
    size: tuple[int, int, int] | None = None
    exact_qform: bool = False

    @property
    def labels(self) -> list[int]:
        """The labels that a segmentation may hold."""
        return sorted(LABELS[self.challenge])

    @property
    def is_brats(self) -> bool:
        """Tell whether files are `.nii.gz`; PROMISE12's are `.mhd` with `.raw`."""
        return self.challenge in EDITIONS

    @property
    def prediction_endings(self) -> tuple[str, ...]:
        """How nnU-Net's predictions may end."""
        return (format_of(self.challenge).file_ending,) if self.is_brats else (FORMAT.file_ending, ".nii.gz")

    def key_of(self, file_name: str) -> str | None:
        """Return what tells the case in the name of a file in the archive; None if the name is not the challenge's."""
        found = self.key.search(file_name)
        return found.group(1) if found else None

    def check_template(self, template: str | None) -> None:
        """Raise InputError if a template of names has no place for the case."""
        if template is not None and "{case}" not in template:
            raise InputError(f"Expected {{case}} in --names, for {self.naming}, got {template!r}; give a template such "
                             f"as {self.names}.")

    def file_name(self, case: str, template: str | None = None) -> str:
        """Return the name in the archive of a case of nnU-Net's dataset.

        Raises:
            InputError: the challenge would not take it, or would take it for another case.
        """
        name, usual = (each.replace("{case}", challenge_name(case)) for each in (template or self.names, self.names))
        if self.key_of(name) is None or self.key_of(name) != self.key_of(usual) or not re.fullmatch(r"[\w.-]+", name):
            raise InputError(f"Expected {self.naming} for {self.challenge}, found the case {case}, which would be "
                             f"called {name!r}; check that the predictions belong to this challenge.")
        return name


def _whole_name(case: str) -> re.Pattern[str]:
    return re.compile(rf"\A({case})\.nii\.gz\Z")


_RULES = {
    "brats2018": (_whole_name(r"Brats18_\w+"), "Brats18_*.nii.gz", _BRATS_SIZE),
    "brats2019": (_whole_name(r"BraTS19_\w+"), "BraTS19_*.nii.gz", _BRATS_SIZE),
    "brats2020": (_whole_name(r"BraTS20_(?:Training|Validation|Testing)_\d{3}"), "BraTS20_Validation_001.nii.gz",
                  _BRATS_SIZE),
    "brats2021": (re.compile(r"(?<!\d)(\d{5})\.nii\.gz\Z"), "names that end in 00000.nii.gz", _BRATS_SIZE),
    "brats2023": (re.compile(r"(?<!\d)(\d{5}-\d{3})\.nii\.gz\Z"), "names that end in 00000-000.nii.gz", _BRATS_SIZE),
    "brats2024": (re.compile(r"(?<!\d)(\d{5}-\d{3})\.nii\.gz\Z"), "names that end in 00000-100.nii.gz",
                  _GLI_2024_SIZE),
}


def rules_of(challenge: str) -> Rules:
    """Return the rules of one of `editions.CHALLENGES`."""
    if challenge == "promise12":
        # What follows CaseXX we know from memory alone, so it is left to a template.
        return Rules(challenge, re.compile(r"(Case\d+)(?!\d)[\w.-]*\.mhd\Z"), "names with Case00 that end in .mhd",
                     "{case}_segmentation.mhd")
    key, naming, size = _RULES[challenge]
    return Rules(challenge, key, naming, "{case}.nii.gz", size, exact_qform=challenge >= "brats2023")


def find_images(folder: Path, rules: Rules) -> dict[str, Path]:
    """Return an image of each case that is to be predicted, by the case's key.

    Args:
        folder: the challenge's data, of which the cases without label count if there are any, and all otherwise; or an
            imagesTs that `nnUNetv2_gsp convert` made of them.
        rules: of the challenge.

    Raises:
        InputError: there is no case, a case lacks files, two share a key, or they are another challenge's.
    """
    if not folder.is_dir():
        raise InputError(f"Expected a folder of images, found none at {folder}.")
    of_key: dict[str, list[Path]] = defaultdict(list)
    for case, image in _images_of_cases(folder, rules):
        ending = ".nii.gz" if rules.is_brats else ".mhd"
        key = rules.key_of(challenge_name(case) + ending)
        if key is None:
            raise InputError(f"Expected images of {rules.challenge} in {folder}, found the case {case}.")
        of_key[key].append(image)
    for key, images in of_key.items():
        if len(images) > 1:
            raise InputError(f"Expected one case {key} in {folder}, found {' and '.join(map(str, images))}; give the "
                             f"folder of the cases to predict alone.")
    return {key: images[0] for key, images in of_key.items()}


def _images_of_cases(folder: Path, rules: Rules) -> list[tuple[str, Path]]:
    ending = "_0000" + rules.prediction_endings[0]
    of_nnunet = visible(folder, f"*{ending}")
    if of_nnunet:
        return [(file.name.removesuffix(ending), file) for file in of_nnunet]
    survey = survey_brats(folder) if rules.is_brats else survey_promise12(folder)
    if survey.format.edition != rules.challenge:
        raise InputError(f"Expected images of {rules.challenge} in {folder}, found {survey.format.edition}.")
    if survey.skipped:
        raise InputError(f"Expected complete cases in {folder}: {survey.skipped[0].reason}")
    to_predict = [case for case in survey.cases if case.part == TEST] or survey.cases
    return [(case.name, case.images[0]) for case in to_predict]
