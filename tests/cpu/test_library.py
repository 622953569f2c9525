"""Every build computes the same, and where there is none PyTorch predicts."""
from pathlib import Path

import pytest
import torch

from nnunetv2_gsp.cpu import library
from nnunetv2_gsp.engines import fused as engine
from tests.engines.networks import PATCH, assert_close, fused, needs_build, plain, small_network

builds = sorted(file for file in Path(library.__file__).parent.glob("_layers_*") if file.suffix != ".py")


@needs_build
@pytest.mark.parametrize("file", builds, ids=lambda file: file.name.split(".")[0])
def test_every_build_that_this_cpu_runs_agrees(file, monkeypatch):
    name = file.name.split(".")[0].removeprefix("_layers_")
    if name not in library._BUILDS.get(torch.backends.cpu.get_cpu_capability(), ("plain",)):
        pytest.skip("this CPU cannot run it")
    monkeypatch.setattr(engine, "fused_layers", lambda: library.load(name, file))
    network = small_network(shift_position="CSCSUpShift", local_shift_channels=[0, 6, 6])
    image = torch.randn(2, 2, *PATCH)
    with torch.no_grad():
        assert_close(fused(network, image), plain(network, image))


def test_without_a_build_one_line_is_logged_and_pytorch_predicts(monkeypatch, caplog):
    monkeypatch.setattr(library, "EXTENSION_SUFFIXES", [".missing"])
    library.fused_layers.cache_clear()
    network, image = small_network(), torch.randn(1, 2, *PATCH)
    with torch.no_grad():
        for _ in range(3):
            assert torch.equal(network(image), plain(network, image))
    library.fused_layers.cache_clear()
    assert [record.message.startswith("GSP networks run in plain PyTorch") for record in caplog.records] == [True]
