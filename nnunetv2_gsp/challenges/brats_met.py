"""BraTS-METS: brain metastases, before treatment in 2023, and with resection cavities (RC) from 2024 on."""

from nnunetv2_gsp.challenges.brats import (
    EVALUATION_2025,
    FROM_2024_WITH_CAVITY,
    IN_2023,
    LIKE_2024,
    ORIGIN,
    RC,
    VALIDATOR_2023,
    VALIDATOR_2024,
    WITH_CAVITY,
    WITH_CAVITY_CLASS_ORDER,
    brats,
    from_2023,
    sage_archive,
)
from nnunetv2_gsp.challenges.challenge import Place

_LAYOUT = from_2023(r"BraTS-MET-\d{5}-\d{3}")
_NUMBER = (r"\d{5}-\d{3}", "00000-000")

CHALLENGES = (
    brats(
        "2023-met",
        "metastases",
        layout=_LAYOUT,
        on_disk=IN_2023,
        optional=(RC,),
        origin=ORIGIN,
        archive=sage_archive(*_NUMBER, Place.EXACT),
        container="brats-mlcube",
        scores="brats2023-met",
        source=VALIDATOR_2023,
    ),
    brats(
        "2024-met",
        "metastases",
        layout=_LAYOUT,
        on_disk=FROM_2024_WITH_CAVITY,
        regions=WITH_CAVITY,
        regions_class_order=WITH_CAVITY_CLASS_ORDER,
        optional=(RC,),
        archive=sage_archive(*_NUMBER),
        container="brats-mlcube",
        scores="brats2024-met",
        source=VALIDATOR_2024,
    ),
    brats(
        "2025-met",
        "metastases",
        layout=_LAYOUT,
        on_disk=FROM_2024_WITH_CAVITY,
        regions=WITH_CAVITY,
        regions_class_order=WITH_CAVITY_CLASS_ORDER,
        optional=(RC,),
        archive=sage_archive(*_NUMBER),
        container="brats2025",
        scores="brats2025-met",
        told_by_names=True,  # its labels are those of the earlier ones and more
        source=EVALUATION_2025,
        unconfirmed=LIKE_2024,
    ),
)
