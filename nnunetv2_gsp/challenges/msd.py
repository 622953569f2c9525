"""The brain and the prostate task of the Medical Segmentation Decathlon.

Task01 (BraTS 2016/17) gets the channels, labels and regions of BraTS, so that it can be mixed with those editions.

Task05 keeps PZ and TZ as plain labels, with no region for the whole prostate: that is how the Decathlon scores it and
how nnU-Net's published figures were made, the zones exclude each other, and regions would change the loss. The prostate
is the union of both, in any evaluation.
"""

from nnunetv2_gsp.challenges.brats import CHANNELS, ED, ET, NCR, REGIONS, REGIONS_CLASS_ORDER
from nnunetv2_gsp.challenges.challenge import Challenge, Decathlon, Tissue

PZ, TZ = Tissue(1, "PZ", "pz|peripheral"), Tissue(2, "TZ", "tz|transition")

CHALLENGES = (
    Challenge(
        name="msd_task01",
        family="msd",
        title="MSD",
        edition="",
        task="glioma of the Decathlon",
        layout=Decathlon("Task01_BrainTumour", ("t1w", "t1gd", "t2w", "flair")),
        channels=CHANNELS,
        on_disk={1: ED, 2: NCR, 3: ET},
        regions=REGIONS,
        regions_class_order=REGIONS_CLASS_ORDER,
        scores="nnunet",
        source="dataset.json of Task01_BrainTumour",
    ),
    Challenge(
        name="msd_task05",
        family="msd",
        title="MSD",
        edition="",
        task="zones of the prostate",
        layout=Decathlon("Task05_Prostate", ("t2", "adc"), keeps_order=True),
        channels=("T2", "ADC"),
        on_disk={1: PZ, 2: TZ},
        regions={"PZ": 1, "TZ": 2},
        regions_class_order=None,
        scores="nnunet",
        source="dataset.json of Task05_Prostate",
    ),
)
