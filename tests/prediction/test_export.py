"""Labels of the image are those that nnU-Net's export makes of the same logits; they differ at ties alone."""

from itertools import pairwise
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunetv2_gsp.prediction import labels
from nnunetv2_gsp.prediction.export import segmentation_of
from nnunetv2_gsp.prediction.slabs import Logits, Slab, in_one_slab
from tests.conftest import torch_threads
from tests.cpu.test_library import builds, load_if_it_runs
from tests.prediction.cases import LINEAR, case_of, cases

TIE = 1e-5  # of logits of about 1 in fp32


def layers_of(file):
    """Return a build's layers, or the reason why there are none, with which torch does the same."""
    return load_if_it_runs(file) if file else "were not built"


@pytest.fixture(scope="module", params=[*builds, None], ids=lambda file: file.name.split(".")[0] if file else "torch")
def way(request):
    """Each build of the compiled layers, and torch."""
    layers = layers_of(request.param)
    with mock.patch.object(labels, "find_fused_layers", return_value=layers):
        yield


def labels_of(case):
    return segmentation_of(in_one_slab(case.logits), *case.arguments[1:])


def in_slabs(case):
    """Return the logits in slabs of a few slices, in a buffer that each of them overwrites."""
    n_slices = case.logits.shape[1]
    buffer = torch.empty_like(case.logits)

    def slabs():
        for first, stop in pairwise([0, *range(case.slab, n_slices, case.slab), n_slices]):
            begin = max(first - 1, 0)
            buffer.fill_(torch.nan)
            here = buffer[:, : stop - begin]
            yield Slab(begin, here.copy_(case.logits[:, begin:stop]))

    return Logits(tuple(case.logits.shape), slabs())


def in_all_ways(case):
    """Yield the labels that each build and torch make, as nnU-Net's take most of the time."""
    for file in [*builds, None]:
        try:
            layers = layers_of(file)
        except pytest.skip.Exception:
            continue
        with mock.patch.object(labels, "find_fused_layers", return_value=layers):
            yield segmentation_of(in_slabs(case), *case.arguments[1:])


@given(case=cases())
@settings(max_examples=80)
def test_they_are_nnunets(case):
    nnunets, margins = case.nnunets_labels(), case.margins()
    for ours in in_all_ways(case):
        assert (ours.shape, ours.dtype) == (nnunets.shape, nnunets.dtype)
        assert (ours != nnunets).mean() <= 1e-4
        assert (margins[ours != nnunets] < TIE).all()


@given(case=cases(steps=2))
@settings(max_examples=60)
def test_where_logits_are_often_equal_they_differ_at_ties_alone(case):
    nnunets, margins = case.nnunets_labels(), case.margins()
    for ours in in_all_ways(case):
        assert (margins[ours != nnunets] < TIE).all()


def test_classes_that_are_equal_everywhere_give_the_first(way):
    case = case_of(classes=4)
    case.logits = case.logits[:2].repeat(2, 1, 1, 1)
    ours = labels_of(case)
    assert np.array_equal(ours, case.nnunets_labels())
    assert set(np.unique(ours)) == {0, 1}


@pytest.mark.parametrize("order", [None, [300, 7, 2]])
def test_labels_of_many_classes_take_two_bytes(way, order):
    case = case_of(size=(4, 5, 6), classes=300, order=order and [*range(4, 301), *order])
    ours = labels_of(case)
    assert ours.dtype == np.uint16
    assert ours.max() > 255
    assert np.array_equal(ours, case.nnunets_labels())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("order", [None, [1, 2, 3]])
def test_labels_are_made_on_cuda_as_well(order):
    case = case_of(size=(40, 30, 50), classes=3, order=order)
    case.logits = case.logits.cuda()
    ours = labels_of(case)
    case.logits = case.logits.cpu()
    margins = case.margins()
    assert (margins[ours != case.nnunets_labels()] < TIE).all()


def test_any_number_of_threads_gives_the_same(way):
    case = case_of(size=(40, 30, 50), classes=5)
    found = []
    for threads in (1, 2, 5):
        with torch_threads(threads):
            found.append(labels_of(case))
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


@pytest.mark.parametrize(
    "resampling", [{**LINEAR, "order": 3}, {**LINEAR, "force_separate_z": True, "order_z": 3}, {"is_seg": True}]
)
def test_another_resampling_is_nnunets(resampling):
    case = case_of(spacing_mm=(4.0, 1.5, 1.5), resampling=resampling)
    assert np.array_equal(labels_of(case), case.nnunets_labels())


def test_another_label_manager_decides_itself():
    class AllOnes(LabelManager):
        def convert_logits_to_segmentation(self, predicted_logits):
            return np.ones(predicted_logits.shape[1:], int)

    case = case_of()
    case.label_manager = AllOnes({"background": 0, "one": 1, "two": 2}, None)
    assert (labels_of(case) == 1).all()


def test_another_function_than_the_sigmoid_decides_itself():
    case = case_of(order=[1, 2, 3])
    case.label_manager.inference_nonlin = torch.zeros_like
    assert (labels_of(case) == 0).all()


def test_logits_in_half_precision_are_read_whole():
    case = case_of()
    case.logits = case.logits.half()
    labels, case.logits = labels_of(case), case.logits.float()
    assert np.array_equal(labels, labels_of(case))


def test_logits_of_another_number_of_classes_are_nnunets_to_refuse():
    case = case_of(classes=3)
    case.logits = case.logits[:2]
    with pytest.raises(AssertionError, match="unexpected number of channels"):
        labels_of(case)
