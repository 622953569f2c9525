"""BraTS-MEN: meningioma before treatment."""

from nnunetv2_gsp.challenges.brats import (
    EVALUATION_2025,
    FROM_2024,
    IN_2023,
    LIKE_2024,
    ORIGIN,
    VALIDATOR_2023,
    brats,
    from_2023,
    sage_archive,
)
from nnunetv2_gsp.challenges.challenge import Place

_LAYOUT = from_2023(r"BraTS-MEN-\d{5}-\d{3}")
_NUMBER = (r"\d{5}-\d{3}", "00000-000")

CHALLENGES = (
    brats(
        "2023-men",
        "meningioma",
        layout=_LAYOUT,
        on_disk=IN_2023,
        origin=ORIGIN,
        archive=sage_archive(*_NUMBER, Place.EXACT),
        container="brats-mlcube",
        scores="brats2023-men",
        source=VALIDATOR_2023,
    ),
    brats(
        "2025-men",
        "meningioma",
        layout=_LAYOUT,
        on_disk=FROM_2024,
        archive=sage_archive(*_NUMBER),
        container="brats2025",
        scores="brats2025",
        source=EVALUATION_2025,
        unconfirmed=f"{LIKE_2024}; that the two data sets name their cases alike",
    ),
)
