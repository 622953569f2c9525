import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nnunetv2_gsp.challenges import CHALLENGES
from nnunetv2_gsp.datasets.labels import inverse, relabel, whole_labels
from nnunetv2_gsp.errors import InputError

ON_DISK = np.array([[[0, 1, 2, 4], [4, 2, 1, 0], [0, 0, 4, 4]]] * 2, np.uint8)
INSIDE = np.array([[[0, 1, 2, 3], [3, 2, 1, 0], [0, 0, 3, 3]]] * 2, np.uint8)


@pytest.mark.parametrize("edition", ["brats2018", "brats2019", "brats2020", "brats2021"])
def test_until_2022_enhancing_tumour_moves_from_4_to_3_and_nothing_else(edition):
    assert np.array_equal(relabel(ON_DISK, CHALLENGES[edition].labels), INSIDE)


@pytest.mark.parametrize("edition", ["brats2023", "brats2024"])
def test_from_2023_on_the_labels_are_those_inside(edition):
    every = np.array(sorted(CHALLENGES[edition].labels), np.uint8)
    assert every.max() == (3 if edition == "brats2023" else 4)
    assert np.array_equal(relabel(every, CHALLENGES[edition].labels), every)


def test_task01_has_oedema_and_necrosis_the_other_way_round():
    assert relabel(np.array([0, 1, 2, 3]), CHALLENGES["msd_task01"].labels).tolist() == [0, 2, 1, 3]


@given(st.sampled_from(sorted(CHALLENGES)), st.data())
def test_there_and_back_is_the_identity(edition, data):
    table = CHALLENGES[edition].labels
    shape = data.draw(arrays.array_shapes(max_dims=3, max_side=5))
    on_disk = data.draw(arrays.arrays(np.uint8, shape, elements=st.sampled_from(sorted(table))))
    assert np.array_equal(relabel(relabel(on_disk, table), inverse(table)), on_disk)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.float32, np.float64])
def test_labels_of_every_dtype_become_uint8(dtype):
    relabelled = relabel(ON_DISK.astype(dtype), CHALLENGES["brats2018"].labels)
    assert relabelled.dtype == np.uint8
    assert np.array_equal(relabelled, INSIDE)


@pytest.mark.parametrize(("value", "said"), [(3, "3"), (0.5, "0.5"), (np.nan, "nan"), (-1, "-1")])
def test_an_unknown_value_is_named_with_the_file(value, said):
    with pytest.raises(InputError, match=rf"seg\.nii: expected labels among \[0, 1, 2, 4\], got {said};"):
        relabel(np.array([0, value]), CHALLENGES["brats2021"].labels, "seg.nii")


def test_what_a_header_scales_is_whole_again_and_noted():
    """As nibabel writes labels of floats as int16: 1.00002, 2.00003."""
    labels, note = whole_labels(np.array([0, 1.00002, 2.00003, 0.9995, 1.2], np.float32))
    assert labels.tolist() == [0, 1, 2, 1, np.float32(1.2)]
    assert note == "0.9995, 1.00002, 2.00003 are taken as 1, 1, 2: its header scales the labels (scl_slope)"
    for whole in (np.array([0, 4], np.uint8), np.array([0.0, 4.0])):
        labels, note = whole_labels(whole)
        assert labels is whole
        assert note == ""


def test_labels_that_are_scaled_further_are_refused_with_the_headers_field():
    with pytest.raises(InputError, match=r"got 1\.01; save it as integers: a header that scales them \(scl_slope\)"):
        relabel(np.array([0, 1.01]), CHALLENGES["brats2021"].labels)
