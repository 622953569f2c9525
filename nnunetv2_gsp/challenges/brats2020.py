"""BraTS 2020: glioma before treatment."""

import re

from nnunetv2_gsp.challenges.brats import ORIGIN, RC, UNTIL_2022, brats, until_2022
from nnunetv2_gsp.challenges.challenge import Archive

CHALLENGES = (
    brats(
        "2020",
        "glioma",
        layout=until_2022(r"BraTS20_(Training|Validation)_\d{3}"),
        on_disk=UNTIL_2022,
        optional=(RC,),
        origin=ORIGIN,
        archive=Archive(
            re.compile(r"\A(BraTS20_(?:Training|Validation|Testing)_\d{3})\.nii\.gz\Z"), "BraTS20_Validation_001.nii.gz"
        ),
        scores="captk",
        told_by_names=True,
        source="the data sets and www.med.upenn.edu/cbica/brats2020/data.html (labels)",
        unconfirmed="the uploads' rules, from descriptions",
    ),
)
