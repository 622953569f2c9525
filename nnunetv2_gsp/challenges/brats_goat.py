"""BraTS-GoAT: tumours of all the other tasks under one set of labels; its names have no timepoint."""

from nnunetv2_gsp.challenges.brats import (
    EVALUATION_2025,
    FROM_2024,
    LIKE_2024,
    ORIGIN,
    brats,
    from_2023,
    sage_archive,
)
from nnunetv2_gsp.challenges.challenge import Place

_LAYOUT = from_2023(r"BraTS-GoAT-\d{5}")
_NUMBER = (r"\d{5}", "00000")

CHALLENGES = (
    brats(
        "2024-goat",
        "all tumours",
        layout=_LAYOUT,
        on_disk=FROM_2024,
        origin=ORIGIN,
        archive=sage_archive(*_NUMBER, Place.EXACT),
        container="brats-mlcube",
        scores="brats2023",
        source="archive: goat-validate.cwl, which runs validate.py, of Sage's brats2023 at f429fcc; names: loaders of "
        "several public repositories",
        unconfirmed="labels, taken from 2025, and scores, from what 2023 ran",
    ),
    brats(
        "2025-goat",
        "all tumours",
        layout=_LAYOUT,
        on_disk=FROM_2024,
        archive=sage_archive(*_NUMBER),
        container="brats2025",
        scores="brats2025",
        source=EVALUATION_2025,
        unconfirmed=LIKE_2024,
    ),
)
