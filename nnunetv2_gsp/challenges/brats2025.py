"""BraTS 2025: glioma before and after treatment, mixed; a cavity (RC) is there after treatment alone."""

from nnunetv2_gsp.challenges.brats import (
    AFTER_TREATMENT_SIZE,
    EVALUATION_2025,
    FROM_2024_WITH_CAVITY,
    LIKE_2024,
    RC,
    SIZE,
    WITH_CAVITY,
    WITH_CAVITY_CLASS_ORDER,
    brats,
    from_2023,
    sage_archive,
)

CHALLENGES = (
    brats(
        "2025",
        "glioma",
        layout=from_2023(r"BraTS-GLI-\d{5}-\d{3}"),
        on_disk=FROM_2024_WITH_CAVITY,
        regions=WITH_CAVITY,
        regions_class_order=WITH_CAVITY_CLASS_ORDER,
        optional=(RC,),
        sizes=(SIZE, AFTER_TREATMENT_SIZE),
        archive=sage_archive(r"\d{5}-\d{3}", "00000-000"),
        container="brats2025",
        scores="brats2025",
        source=EVALUATION_2025,
        unconfirmed=f"{LIKE_2024}; that images before treatment keep the size of 2023",
    ),
)
