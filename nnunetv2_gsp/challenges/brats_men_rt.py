"""BraTS-MEN-RT: the target volume of a meningioma's radiotherapy, on one image as the scanner made it."""

import re
from typing import Any

from nnunetv2_gsp.challenges.brats import EVALUATION_2025, LIKE_2024, VALIDATOR_2024, brats, sage_archive
from nnunetv2_gsp.challenges.challenge import CaseFolders, Tissue

GTV = Tissue(1, "GTV", r"gtv|gross|target")

_SHARED: dict[str, Any] = {
    "layout": CaseFolders(re.compile(r"BraTS-MEN-RT-\d{4}-\d{1,3}"), ("_t1c",), "_gtv"),
    "channels": ("t1ce",),
    "on_disk": {1: GTV},
    "regions": {"gross_tumor_volume": GTV.label},
    "regions_class_order": None,
    "sizes": (),
    "archive": sage_archive(r"\d{4}-\d{1,3}", "0000-1"),
}

CHALLENGES = (
    brats(
        "2024-men-rt",
        "meningioma for radiotherapy",
        container="brats-mlcube",
        scores="brats2024-men-rt",
        source=f"{VALIDATOR_2024}; names: score.py there",
        **_SHARED,
    ),
    brats(
        "2025-men-rt",
        "meningioma for radiotherapy",
        container="brats2025",
        scores="brats2025",
        source=EVALUATION_2025,
        unconfirmed=LIKE_2024,
        **_SHARED,
    ),
)
