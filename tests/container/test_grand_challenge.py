"""The folder that grand-challenge.org mounts, where it does not hold one image of each input."""

import pytest

from nnunetv2_gsp.container.grand_challenge import GRAND_CHALLENGE
from nnunetv2_gsp.container.interface import Sockets
from nnunetv2_gsp.files import write_text


@pytest.mark.parametrize(
    ("slugs", "files", "said"),
    [
        (("t2", "adc"), ("t2/a.mha",), "images/adc: expected one .mha file, got 0"),
        (("t2",), ("t2/a.nii.gz",), "images/t2: expected one .mha file, got 0"),
        (("t2",), ("t2/a.mha", "t2/b.mha"), "images/t2: expected one .mha file, got 2"),
        ((), (), "images: expected one folder of an input's image, got 0"),
        ((), ("t2/a.mha", "adc/a.mha"), "images: expected one folder of an input's image, got 2"),
    ],
)
def test_a_case_without_one_image_of_each_input_is_left_out(slugs, files, said, tmp_path):
    for file in files:
        write_text("an image", tmp_path / "images" / file)
    found = GRAND_CHALLENGE.find(tmp_path, slugs or ("t2",), Sockets(slugs, "prostate"))
    assert found.whole == []
    [skipped] = found.skipped
    assert said in skipped.reason
