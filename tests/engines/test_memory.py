"""Memory is kept between calls and given back, and calls do not disturb each other."""

import copy
import ctypes
import gc
import multiprocessing
import os
import pickle
import re
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest
import torch

from nnunetv2_gsp.cpu import library
from nnunetv2_gsp.engines import fused as engine
from nnunetv2_gsp.engines import recorder
from tests.conftest import torch_threads
from tests.engines.networks import PATCH, assert_close, fused, needs_build, plain, small_network

LARGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.fixture
def two_threads():
    with torch_threads(2):
        yield


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@needs_build
@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_a_thousand_patches_leave_nothing_behind():
    network, image = small_network(), torch.randn(1, 2, *PATCH)
    with torch.inference_mode():
        for _ in range(100):
            network(image)
        before = resident_bytes()
        for _ in range(1000):
            network(image)
    assert resident_bytes() - before < 4 << 20


@needs_build
@pytest.mark.parametrize("kernel", [1, 3])
def test_a_network_and_its_images_are_forgotten_with_the_last_reference(kernel):
    network, image = small_network(kernel=kernel), torch.randn(1, 2, *PATCH)
    kept = [weakref.ref(network), weakref.ref(image)]
    with torch.no_grad():
        for _ in range(2):
            network(image)
    del network, image
    gc.collect()  # torch's modules hold themselves
    assert [reference() for reference in kept] == [None, None]


@needs_build
def test_memory_is_of_floats_whatever_else_is_the_default():
    network, image = small_network(), torch.randn(1, 2, *PATCH)
    torch.set_default_dtype(torch.float16)
    try:
        with torch.no_grad():
            logits = fused(network, image)
            assert {arena.dtype for arena in engine._arenas.idle(network)} == {torch.float32}
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.no_grad():
        assert_close(logits, plain(network, image))


@needs_build
def test_memory_is_reused_and_grows_with_the_batch():
    network, image = small_network(), torch.randn(1, 2, *PATCH)
    with torch.no_grad():
        places = []
        for batch in (1, 1, 4, 1, 4):
            fused(network, image.expand(batch, -1, -1, -1, -1))
            places.append([arena.data_ptr() for arena in engine._arenas.idle(network)])
    assert [len(place) for place in places] == [1] * 5
    assert places[0] == places[1]
    assert places[2] == places[3] == places[4]


@needs_build
def test_threads_do_not_disturb_each_other():
    networks, images = [small_network(), small_network(shift_position="none")], torch.randn(16, 1, 2, *PATCH)
    with torch.no_grad():
        expected = [[network(image) for image in images] for network in networks]

    def predict(index):
        with torch.no_grad():
            return fused(networks[index % 2], images[index // 2 % 16])

    with ThreadPoolExecutor(4) as pool:
        for index, ours in enumerate(pool.map(predict, range(128))):
            assert torch.equal(ours, expected[index % 2][index // 2 % 16])


def test_there_are_as_many_threads_as_torch_takes(monkeypatch):
    asked = []
    layers = library.FusedLayers(
        "none", lambda *arguments: asked.append(arguments[3]) or 0, lambda *_: None, lambda *_: 0, lambda *_: 0
    )
    monkeypatch.setattr(recorder, "fused_layers", lambda: layers)
    for threads in (3, 1):
        with torch_threads(threads), torch.no_grad():
            fused(small_network(), torch.randn(1, 2, *PATCH))
    assert asked == [3, 1]


def n_threads():
    return len(os.listdir("/proc/self/task"))


@needs_build
@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_pytorch_s_threads_do_the_work(two_threads):
    if not hasattr(ctypes.CDLL(None), "GOMP_parallel"):
        pytest.skip("PyTorch has no OpenMP here")
    network, image = small_network(), torch.randn(16, 2, *PATCH)

    def predict(run, times=1):
        with torch.no_grad():
            return run(network, image.repeat(times, 1, 1, 1, 1))

    with ThreadPoolExecutor(1) as pool:
        for run in (plain, fused):
            pool.submit(predict, run).result()  # this thread has others beside it from now on
        before = most = n_threads()
        call = pool.submit(predict, fused, times=8)
        while not call.done():
            most = max(most, n_threads())
        assert call.result() is not None
    assert most == before


@needs_build
@pytest.mark.skipif(not LARGE_PAGES.is_file() or "[never]" in LARGE_PAGES.read_text(), reason="there are none")
def test_memory_is_in_large_pages_if_the_system_has_them():
    memory = library.fused_layers().new_memory(8 << 20)
    inside = memory.data_ptr() + 4 * memory.numel() // 2
    regions = re.findall(
        r"^(\w+)-(\w+) .*?^VmFlags: (.*?)$", Path("/proc/self/smaps").read_text(), re.MULTILINE | re.DOTALL
    )
    assert any(int(begin, 16) <= inside < int(end, 16) and "hg" in flags.split() for begin, end, flags in regions)


@needs_build
def test_a_network_that_has_run_can_be_copied_and_saved():
    network, image = small_network(), torch.randn(1, 2, *PATCH)
    with torch.no_grad():
        expected = network(image)
        file = BytesIO()
        torch.save(network, file)
        file.seek(0)
        for copied in (
            copy.deepcopy(network),
            pickle.loads(pickle.dumps(network)),
            torch.load(file, weights_only=False),
        ):
            assert torch.equal(fused(copied, image), expected)


def predict_into(network, image, logits):
    with torch.no_grad():
        logits.copy_(fused(network, image))


@needs_build
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="there is no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python 3.12 on: forking beside threads
def test_a_forked_child_predicts_too(two_threads):
    network, image = small_network(), torch.randn(1, 2, *PATCH)
    with torch.no_grad():
        expected = fused(network, image)
        logits = torch.zeros_like(expected).share_memory_()
        child = multiprocessing.get_context("fork").Process(target=predict_into, args=(network, image, logits))
        child.start()
        child.join(60)
        assert child.exitcode == 0
        assert torch.equal(logits, expected)
