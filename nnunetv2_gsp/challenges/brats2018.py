"""BraTS 2018: glioma before treatment."""

import re

from nnunetv2_gsp.challenges.brats import ORIGIN, RC, UNTIL_2022, brats, until_2022
from nnunetv2_gsp.challenges.challenge import Archive

CHALLENGES = (
    brats(
        "2018",
        "glioma",
        layout=until_2022(r"Brats18_\w+"),
        on_disk=UNTIL_2022,
        optional=(RC,),
        origin=ORIGIN,
        archive=Archive(re.compile(r"\A(Brats18_\w+)\.nii\.gz\Z"), "Brats18_*.nii.gz"),
        scores="captk",
        told_by_names=True,
        source="the data sets and www.med.upenn.edu/cbica/brats2020/data.html (labels)",
        unconfirmed="the uploads' rules, from descriptions",
    ),
)
