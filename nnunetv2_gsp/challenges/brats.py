"""What the tasks of BraTS have in common; the modules beside this one say how they differ.

Inside nnU-Net every edition has the labels of 2023: 1 necrosis (NCR), 2 oedema (ED), 3 enhancing tumour (ET), and where
there is one, a fourth. A 4 on disk is ET up to 2022 and resection cavity (RC) from 2024 on, so values never tell the
edition.
"""

import re
from collections.abc import Mapping
from typing import Any

from nnunetv2_gsp.challenges.challenge import Archive, CaseFolders, Challenge, Place, Tissue

NCR = Tissue(1, "NCR", r"necro|non.?enh|(ncr|netc?)(?![a-z])")
ED = Tissue(2, "ED", r"(peritumou?ral.)?o?edema|(ed|snfh)(?![a-z])")
ET = Tissue(3, "ET", r"(gd.)?enhanc|et(?![a-z])")
RC = Tissue(4, "RC", r"resection|cavity|rc(?![a-z])")
NETC = Tissue(NCR.label, "NETC", NCR.names)  # necrosis and other tumour that does not enhance, as of 2024
SNFH = Tissue(ED.label, "SNFH", ED.names)  # all that is bright around it, as of 2024

CHANNELS = ("t1", "t1ce", "t2", "flair")
REGIONS: Mapping[str, int | tuple[int, ...]] = {
    "whole_tumor": (NCR.label, ED.label, ET.label),
    "tumor_core": (NCR.label, ET.label),
    "enhancing_tumor": (ET.label,),
}
REGIONS_CLASS_ORDER = (ED.label, NCR.label, ET.label)  # what is left of each region once the next is painted over it
WITH_CAVITY: Mapping[str, int | tuple[int, ...]] = {**REGIONS, "resection_cavity": (RC.label,)}
WITH_CAVITY_CLASS_ORDER = (*REGIONS_CLASS_ORDER, RC.label)

UNTIL_2022 = {1: NCR, 2: ED, 4: ET}
IN_2023 = {1: NCR, 2: ED, 3: ET}
FROM_2024 = {1: NETC, 2: SNFH, 3: ET}
FROM_2024_WITH_CAVITY = {**FROM_2024, 4: RC}

SIZE, AFTER_TREATMENT_SIZE = (240, 240, 155), (182, 218, 182)
ORIGIN = (0.0, -239.0, 0.0)

# Sage's validators, Sage-Bionetworks-Challenges/brats2023 at f429fcc: evaluation/lesionwise/validate.py (2023, and GoAT
# of 2024), validate2024.py (the others of 2024) and utils.py (hidden files); wf-segmentation/*.cwl has the patterns.
VALIDATOR_2023 = (
    "labels: rachitsaluja/BraTS-2023-Metrics at 43c9052; archive: validate.py of Sage's brats2023 at f429fcc"
)
VALIDATOR_2024 = (
    "labels: rachitsaluja/BraTS-2024-Metrics at f1131e3; archive: validate2024.py of Sage's brats2023 at f429fcc"
)
EVALUATION_2025 = (
    "labels: configs of BraTS_evaluation 0.0.10; container: brats/core/docker.py of BrainLesion/BraTS at 6c3fb6b"
)
LIKE_2024 = "names and sizes, taken from 2024; what an archive may hold, as predictions are sent in a container"


def until_2022(case: str) -> CaseFolders:
    """Return the layout of editions up to 2022, such as `BraTS2021_00000/BraTS2021_00000_t1ce.nii.gz`.

    Args:
        case: pattern of the cases' names.

    Examples:
        >>> until_2022("BraTS2021_[0-9]{5}").images
        ('_t1', '_t1ce', '_t2', '_flair')
    """
    return CaseFolders(re.compile(case), ("_t1", "_t1ce", "_t2", "_flair"), "_seg")


def from_2023(case: str) -> CaseFolders:
    """Return the layout of editions from 2023 on, such as `BraTS-GLI-00000-000/BraTS-GLI-00000-000-t1c.nii.gz`.

    Args:
        case: pattern of the cases' names.

    Examples:
        >>> from_2023("BraTS-GLI-[0-9]{5}-[0-9]{3}").images
        ('-t1n', '-t1c', '-t2w', '-t2f')
    """
    return CaseFolders(re.compile(case), ("-t1n", "-t1c", "-t2w", "-t2f"), "-seg")


def sage_archive(number: str, example: str, place: Place = Place.ANYWHERE) -> Archive:
    """Return what Sage's validators, from 2023 on, take as an archive.

    Args:
        number: pattern of the number that identifies a case.
        example: such a number, for errors.
        place: how exactly a file has to lie where its image does.

    Examples:
        >>> sage_archive("[0-9]{5}-[0-9]{3}", "00000-000").naming
        'names that end in 00000-000.nii.gz'
    """
    key = re.compile(rf"(?<!\d)({number})\.nii\.gz\Z")
    return Archive(key, f"names that end in {example}.nii.gz", place=place, lenient=True)


def brats(edition: str, task: str, **fields: Any) -> Challenge:
    """Return a challenge of BraTS, with the channels, regions, size and origin that most of them share.

    Args:
        edition: what tells it within BraTS, such as 2023-met.
        task: what is segmented.
        fields: the fields of `Challenge` that are its own.

    Examples:
        >>> brats("2021", "glioma", layout=until_2022("x"), on_disk=UNTIL_2022, scores="captk", source="").name
        'brats2021'
    """
    shared: dict[str, Any] = {
        "name": f"brats{edition}" if edition[:1].isdigit() else edition,
        "family": "brats",
        "title": "BraTS",
        "channels": CHANNELS,
        "regions": REGIONS,
        "regions_class_order": REGIONS_CLASS_ORDER,
        "sizes": (SIZE,),
    }
    return Challenge(edition=edition, task=task, **{**shared, **fields})
