"""What passes as equal, and what does not."""

import numpy as np
import pytest

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.runtimes.parity import Parity, compared, sample_patches

LOGITS = np.zeros((1, 2, 100, 100), np.float32)
LOGITS[:, 0] = 4
LOGITS[:, 1, :, 0] = 5


def changed(index, value):
    logits = LOGITS.copy()
    logits[index] = value
    return logits


def test_differences_are_parts_of_the_largest_logit_and_of_the_voxels():
    assert compared({"random": LOGITS}, {"random": LOGITS}, has_regions=False) == Parity(0, 0)
    parity = compared({"random": LOGITS}, {"random": changed((0, 0, 0, 0), 4.004)}, has_regions=False)
    assert parity.logit_difference == pytest.approx(0.004 / 5, rel=1e-3)
    assert parity.label_difference == 0


@pytest.mark.parametrize(
    ("got", "has_regions", "said"),
    [
        (changed((0, 0, 0, 0), 4.006), False, r"extreme patches, got logits that differ by 0\.0012"),
        (changed((0, 1, 5, 5), np.nan), False, "differ by nan"),
    ],
)
def test_logits_that_are_off_are_refused(got, has_regions, said):
    with pytest.raises(InputError, match=said):
        compared({"random": LOGITS, "extreme": LOGITS}, {"random": LOGITS, "extreme": got}, has_regions)


@pytest.mark.parametrize("has_regions", [True, False])
def test_labels_that_are_off_are_refused(has_regions):
    """Two voxels of ten thousand, decided by less than logits may differ."""
    expected = LOGITS * 0 if has_regions else np.zeros_like(LOGITS)
    expected[:, 0, 0, 0] = 1  # the largest logit
    got = expected.copy()
    got[:, 1, 3, 3:5] = 1e-4
    with pytest.raises(InputError, match=r"0\.02 % other labels"):
        compared({"random": expected}, {"random": got}, has_regions)
    got[:, 1, 3, 4] = 0
    assert compared({"random": expected}, {"random": got}, has_regions).label_difference == pytest.approx(1e-4)


def test_patches_are_the_same_each_time_and_of_every_kind():
    first, again = (sample_patches(2, (8, 10, 12)) for _ in range(2))
    for kind, patches in first.items():
        assert patches.shape[1:] == (2, 8, 10, 12)
        assert patches.dtype == np.float32
        assert (patches == again[kind]).all()
    assert len(np.unique(first["constant"][1])) == 1
    assert (first["real-like"][..., 0, 0, 0] == 0).all()  # outside of the body
    assert np.abs(first["extreme"]).max() > 1e4
