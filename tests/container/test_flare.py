"""The folder that FLARE mounts, where a case lacks an image."""

import pytest

from nnunetv2_gsp.container.flare import FLARE
from nnunetv2_gsp.container.interface import Sockets
from nnunetv2_gsp.files import write_text


@pytest.mark.parametrize(
    ("file", "case", "said"),
    [
        ("liver_0000.nii.gz", "liver", "expected liver_0001.nii.gz, got none"),
        ("liver_0001.nii.gz", "liver", "expected liver_0000.nii.gz, got none"),
        ("liver.nii.gz", "liver.nii.gz", "expected a name that ends in _0000.nii.gz, got liver.nii.gz"),
    ],
)
def test_a_case_that_lacks_a_channel_is_left_out_and_the_others_stay(file, case, said, tmp_path):
    for name in (file, "spleen_0000.nii.gz", "spleen_0001.nii.gz"):
        write_text("an image", tmp_path / name)
    found = FLARE.find(tmp_path, ("CT", "PET"), Sockets())
    assert [whole.name for whole in found.whole] == ["spleen"]
    [skipped] = found.skipped
    assert skipped.case == case
    assert said in skipped.reason
