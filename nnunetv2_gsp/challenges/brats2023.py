"""BraTS 2023: glioma before treatment."""

from nnunetv2_gsp.challenges.brats import IN_2023, ORIGIN, RC, VALIDATOR_2023, brats, from_2023, sage_archive
from nnunetv2_gsp.challenges.challenge import Place

CHALLENGES = (
    brats(
        "2023",
        "glioma",
        layout=from_2023(r"BraTS-GLI-\d{5}-0\d{2}"),
        on_disk=IN_2023,
        optional=(RC,),
        origin=ORIGIN,
        archive=sage_archive(r"\d{5}-\d{3}", "00000-000", Place.EXACT),
        container="brats-mlcube",
        scores="brats2023",
        told_by_names=True,
        source=VALIDATOR_2023,
    ),
)
