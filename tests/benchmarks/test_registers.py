"""The kernels compile for a card that is not there, and keep in registers and wide loads what they should."""

import re

import pytest
import torch

from nnunetv2_gsp.ops import gpu_layer
from nnunetv2_gsp.ops.gpu_layer import Access
from tests.interpreted import needs_triton

pytestmark = needs_triton


def test_a_layer_of_the_highest_resolution_spills_nothing_and_moves_16_bytes_at_a_time(capsys):
    registers = pytest.importorskip("benchmarks.registers")
    if not registers.TOOL.exists():
        pytest.skip("Triton has no tools for NVIDIA's cards here")
    y, weight = (
        torch.empty(size, device="meta", dtype=dtype)
        for size, dtype in (((2, 32, 128, 128, 128), torch.float16), ((32, 32), torch.float32))
    )
    norm = [torch.empty(2, 32, device="meta") for _ in range(3)]
    with registers._compiling(torch.float16):
        for _ in range(2):  # compiles once
            gpu_layer.compute_layer(y, *norm, weight, None, 0.01, list(Access(2, 2, 2, 16)), torch.float16, True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["_product", "_moments", "_gradients"]
    for line in lines[::2]:
        assert int(re.search(r"registers (\d+)", line)[1]) <= 128
        assert " stack 0 " in line
        assert "'.b16'" not in line
        assert "'.v4.b32'" in line
