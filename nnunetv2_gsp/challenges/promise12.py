"""PROMISE12: the prostate on T2 images."""

import re

from nnunetv2_gsp.challenges.challenge import Archive, Challenge, MetaImages, Tissue

CHALLENGES = (
    Challenge(
        name="promise12",
        family="promise12",
        title="PROMISE12",
        edition="",
        task="prostate",
        # live first: the live challenge's folder may be called a test too
        layout=MetaImages(re.compile(r"Case\d+"), "_segmentation", (("live", "Live_"), ("test", "Test_"))),
        channels=("T2",),
        on_disk={1: Tissue(1, "prostate", "prostate")},
        regions={"prostate": 1},
        regions_class_order=None,
        file_ending=".mha",  # nnU-Net's reader has no .mhd; .mha keeps geometry to the last bit, .nii.gz is off by 3e-6
        archive=Archive(
            re.compile(r"(Case\d+)(?!\d)[\w.-]*\.mhd\Z"),
            "names with Case00 that end in .mhd",
            "{case}_segmentation.mhd",
            ".mhd",
        ),
        scores="promise12",
        source="the data set; nnU-Net v1's Task024_Promise2012.py and V-Net, which name uploads in two ways",
        unconfirmed="what uploads are called behind the case's name: a template may replace it",
    ),
)
