"""BraTS-PEDs: tumours of children. In 2023 its labels were glioma's; from 2024 on they are its own.

A 1 on disk is necrosis in 2023 and enhancing tumour from 2024 on, under the same names of files, so that the edition
has to be told by a folder's name or by the user. Inside nnU-Net the meanings are those of all of BraTS, and 4 is cyst.
"""

from typing import Any

from nnunetv2_gsp.challenges.brats import (
    ED,
    ET,
    EVALUATION_2025,
    IN_2023,
    LIKE_2024,
    NCR,
    NETC,
    ORIGIN,
    REGIONS_CLASS_ORDER,
    VALIDATOR_2023,
    VALIDATOR_2024,
    brats,
    from_2023,
    sage_archive,
)
from nnunetv2_gsp.challenges.challenge import Place, Tissue

CC = Tissue(4, "CC", r"cyst|cc(?![a-z])")

_LAYOUT = from_2023(r"BraTS-PED-\d{5}-\d{3}")
_NUMBER = (r"\d{5}-\d{3}", "00000-000")
_FROM_2024: dict[str, Any] = {
    "layout": _LAYOUT,
    "on_disk": {1: ET, 2: NETC, 3: CC, 4: ED},
    "regions": {
        "whole_tumor": (NCR.label, ED.label, ET.label, CC.label),
        "tumor_core": (NCR.label, ET.label, CC.label),
        "enhancing_tumor": (ET.label,),
        "cystic_component": (CC.label,),
    },
    "regions_class_order": (*REGIONS_CLASS_ORDER, CC.label),
    "archive": sage_archive(*_NUMBER),
}

CHALLENGES = (
    brats(
        "2023-ped",
        "tumours of children",
        layout=_LAYOUT,
        on_disk=IN_2023,
        origin=ORIGIN,
        archive=sage_archive(*_NUMBER, Place.EXACT),
        container="brats-mlcube",
        scores="brats2023",
        source=VALIDATOR_2023,
    ),
    brats(
        "2024-ped",
        "tumours of children",
        container="brats-mlcube",
        scores="brats2024-ped",
        source=VALIDATOR_2024,
        **_FROM_2024,
    ),
    brats(
        "2025-ped",
        "tumours of children",
        container="brats2025",
        scores="brats2025",
        source=EVALUATION_2025,
        unconfirmed=LIKE_2024,
        **_FROM_2024,
    ),
)
