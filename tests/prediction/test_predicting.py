"""Cases are read and written while the network works, and no more of them are in memory than is said."""

import json
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from nnunetv2_gsp.errors import DamagedFileError
from nnunetv2_gsp.prediction import predicting
from nnunetv2_gsp.prediction.cases import Case, Preprocessed
from nnunetv2_gsp.prediction.slabs import Logits, Slab, in_one_slab

N_CASES = 6
CASES = [Case(f"case{number}", (Path(f"case{number}_0000.nii.gz"),), None) for number in range(N_CASES)]


class Watched:
    """A predictor and its surroundings; counts what is alive while the network works."""

    plans_manager = configuration_manager = label_manager = None
    device, all_on_device = torch.device("cpu"), True

    def __init__(self, unreadable=()):
        self.unreadable, self.images, self.logits, self.labels = unreadable, [], [], []
        self.counts, self.read, self.wrote = [], [], []

    def get_ready(self): ...

    def preprocessed(self, case, predictor):
        self.read.append(case.name)
        if case.name in self.unreadable:
            raise DamagedFileError("a whole image", "half of one", where=case.images[0])
        return kept(self.images, Preprocessed(torch.zeros(1), {}))

    def logits_of(self, image):
        return Logits((1, 1, 1, 1), self.slabs())

    def slabs(self):
        yield Slab(0, self.compute())

    def compute(self):
        self.counts.append([alive(each) for each in (self.images, self.logits, self.labels)])
        return kept(self.logits, torch.zeros(1, 1, 1, 1))

    def segmentation_of(self, logits, *_):
        labels = kept(self.labels, np.zeros(1, np.uint8))
        for _ in logits.slabs:
            pass
        return labels

    def write_segmentation(self, case, *_):
        self.wrote.append(case.name)

    write_with_probabilities = write_segmentation


def kept(references, thing):
    references.append(weakref.ref(thing))
    return thing


def alive(references):
    return sum(reference() is not None for reference in references)


def predict(watched, monkeypatch, cases=CASES, save_probabilities=False):
    for name in ("preprocessed", "segmentation_of", "write_segmentation", "write_with_probabilities"):
        monkeypatch.setattr(predicting, name, getattr(watched, name))
    return list(predicting._predict(cases, watched, Path("out"), save_probabilities))


def test_at_most_two_images_one_case_s_logits_and_two_cases_labels_are_in_memory(monkeypatch):
    watched = Watched()
    assert predict(watched, monkeypatch) == []
    assert watched.wrote == [case.name for case in CASES]
    images, logits, labels = map(max, zip(*watched.counts, strict=True))
    assert images <= 2
    assert logits == 0  # of the cases before
    assert labels <= 2
    assert alive(watched.images) == alive(watched.logits) == alive(watched.labels) == 0


def test_the_next_case_is_read_while_the_network_works(monkeypatch):
    is_read = threading.Event()

    class Waiting(Watched):
        def preprocessed(self, case, predictor):
            if case.name == "case1":
                is_read.set()
            return super().preprocessed(case, predictor)

        def logits_of(self, image):
            assert is_read.wait(30)
            return super().logits_of(image)

    predict(Waiting(), monkeypatch)


def test_the_predictor_gets_ready_while_the_first_image_is_read(monkeypatch):
    is_ready = threading.Event()

    class Waiting(Watched):
        def get_ready(self):
            is_ready.set()

        def preprocessed(self, case, predictor):
            assert is_ready.wait(30)
            return super().preprocessed(case, predictor)

    assert predict(Waiting(), monkeypatch) == []


@pytest.mark.parametrize("unreadable", [("case0",), ("case2", "case3"), ("case5",), tuple(case.name for case in CASES)])
def test_each_unreadable_case_is_named_and_the_others_are_written(unreadable, monkeypatch):
    watched = Watched(unreadable)
    problems = predict(watched, monkeypatch)
    assert [problem.split(":")[0] for problem in problems] == list(unreadable)
    assert watched.wrote == [case.name for case in CASES if case.name not in unreadable]


def test_of_no_cases_none_is_read(monkeypatch):
    watched = Watched()
    assert predict(watched, monkeypatch, []) == []
    assert watched.read == []


@pytest.mark.parametrize("save_probabilities", [False, True])
def test_an_error_of_the_writer_is_not_lost(save_probabilities, monkeypatch):
    class Full(Watched):
        def write_segmentation(self, case, *_):
            raise OSError("No space left on device")

        write_with_probabilities = write_segmentation

    watched = Full()
    with pytest.raises(OSError, match="No space"):
        predict(watched, monkeypatch, save_probabilities=save_probabilities)
    assert len(watched.counts) <= 3  # it stops


@pytest.mark.parametrize("save_probabilities", [False, True])
def test_a_case_that_cannot_be_written_is_named_and_the_others_are_written(save_probabilities, monkeypatch):
    class Fails(Watched):
        def write_segmentation(self, case, *_):
            assert case.name not in ("case1", "case5"), "more axes than it writes\nand more"
            super().write_segmentation(case)

        write_with_probabilities = write_segmentation

    watched = Fails()
    problems = predict(watched, monkeypatch, save_probabilities=save_probabilities)
    assert problems == [f"{name}: AssertionError: more axes than it writes" for name in ("case1", "case5")]
    assert watched.wrote == ["case0", "case2", "case3", "case4"]


def test_progress_names_the_window():
    shown = []
    predicting._show_window(lambda *what: shown.append(what), 3, "case3", 4, 12)
    assert shown == [(3, "case3, window 5 of 12")]


@pytest.mark.parametrize(("all_on_device", "devices"), [(True, ["meta", "cpu"]), (False, ["cpu"])])
def test_labels_are_made_on_the_device_unless_its_memory_does_not_suffice(all_on_device, devices, monkeypatch):
    tried = []

    def segmentation_of(logits, *_):
        device = logits.whole().device.type
        tried.append(device)
        if device == "meta":
            raise torch.OutOfMemoryError
        return "labels"

    monkeypatch.setattr(predicting, "segmentation_of", segmentation_of)
    predictor = mock.Mock(device=torch.device("meta"), all_on_device=all_on_device)
    assert predicting.labels_of(in_one_slab(torch.zeros(2, 1, 1, 1)), predictor, {}) == "labels"
    assert tried == devices


@pytest.mark.parametrize("error", [RuntimeError("can't allocate memory"), MemoryError()])
@pytest.mark.parametrize("step", ["compute", "segmentation_of"])
def test_a_case_without_enough_memory_is_named_and_the_others_are_written(step, error, monkeypatch):
    class Short(Watched):
        n_calls = 0

    def fails_once(self, *arguments):
        self.n_calls += 1
        if self.n_calls == 2:
            raise type(error)(*error.args)  # the same one would keep its frames
        return getattr(Watched, step)(self, *arguments)

    setattr(Short, step, fails_once)
    watched = Short()
    [problem] = predict(watched, monkeypatch)
    assert problem == f"case1: {type(error).__name__}: {error}"
    assert watched.wrote == [case.name for case in CASES if case.name != "case1"]
    assert alive(watched.images) == alive(watched.logits) == alive(watched.labels) == 0


def test_calls_that_share_a_folder_write_about_it_at_the_same_time(tmp_path):
    about = {"plans": "p" * 200_000}
    predictor = mock.Mock(dataset_json=about, plans_manager=mock.Mock(plans=about))
    with ThreadPoolExecutor(8) as calls:
        list(calls.map(lambda _: predicting._write_about({"part": 1}, predictor, tmp_path), range(200)))
    assert {file.name: json.loads(file.read_text()) for file in tmp_path.iterdir()} == {
        "predict_from_raw_data_args.json": {"part": 1},
        "dataset.json": about,
        "plans.json": about,
    }
