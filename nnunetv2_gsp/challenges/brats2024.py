"""BraTS 2024: glioma after treatment, whose timepoints count from 100 on."""

from nnunetv2_gsp.challenges.brats import (
    AFTER_TREATMENT_SIZE,
    FROM_2024_WITH_CAVITY,
    RC,
    VALIDATOR_2024,
    WITH_CAVITY,
    WITH_CAVITY_CLASS_ORDER,
    brats,
    from_2023,
    sage_archive,
)

CHALLENGES = (
    brats(
        "2024",
        "glioma",
        layout=from_2023(r"BraTS-GLI-\d{5}-[1-9]\d{2}"),
        on_disk=FROM_2024_WITH_CAVITY,
        regions=WITH_CAVITY,
        regions_class_order=WITH_CAVITY_CLASS_ORDER,
        optional=(RC,),
        sizes=(AFTER_TREATMENT_SIZE,),
        archive=sage_archive(r"\d{5}-\d{3}", "00000-100"),
        container="brats-mlcube",
        scores="brats2024",
        told_by_names=True,
        source=VALIDATOR_2024,
    ),
)
