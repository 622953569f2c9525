"""BraTS 2021: glioma before treatment; FeTS 2022 has the same patients under other names."""

import re

from nnunetv2_gsp.challenges.brats import ORIGIN, RC, UNTIL_2022, brats, until_2022
from nnunetv2_gsp.challenges.challenge import Archive

ARCHIVE = Archive(re.compile(r"(?<!\d)(\d{5})\.nii\.gz\Z"), "names that end in 00000.nii.gz")

CHALLENGES = (
    brats(
        "2021",
        "glioma",
        layout=until_2022(r"BraTS2021_\d{5}"),
        on_disk=UNTIL_2022,
        optional=(RC,),
        origin=ORIGIN,
        archive=ARCHIVE,
        scores="captk",
        told_by_names=True,
        source="the data set and arXiv 2107.02314 (labels)",
        unconfirmed="the uploads' rules, from descriptions",
    ),
    brats(
        "fets2022",
        "glioma",
        layout=until_2022(r"FeTS2022_\d{5}"),
        on_disk=UNTIL_2022,
        optional=(RC,),
        origin=ORIGIN,
        scores="captk",
        told_by_names=True,
        source="names: loaders of several public repositories",
        unconfirmed="that labels, size and origin are those of BraTS 2021",
    ),
)
