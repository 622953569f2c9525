"""Interpolation is PyTorch's, forward and backward, in whatever way it is computed."""

import pytest
import torch
from functorch.compile import make_boxed_func
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._dynamo.backends.common import aot_autograd

from nnunetv2_gsp.ops.interpolation import (
    LinearUpsampling,
    _by_products,
    linear_upsampling,
)

WAYS = {"by slices": linear_upsampling, "by products": _by_products}
MODES = {2: "bilinear", 3: "trilinear"}


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 4)), min_size=2, max_size=3))
def test_values_and_gradients_are_those_of_pytorch(way, sizes_and_factors):
    size, factors = zip(*sizes_and_factors, strict=True)
    torch.manual_seed(0)
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.interpolate(x, scale_factor=tuple(map(float, factors)), mode=MODES[len(size)])
    computed = WAYS[way](x, factors)
    torch.testing.assert_close(computed, expected)
    gradient = torch.randn_like(expected)
    torch.testing.assert_close(torch.autograd.grad(computed, x, gradient), torch.autograd.grad(expected, x, gradient))


@settings(max_examples=100)
@given(
    st.floats(-1e6, 1e6, width=32), st.integers(2, 7), st.sampled_from([torch.float32, torch.float16, torch.bfloat16])
)
def test_a_constant_map_stays_constant(value, factor, dtype):
    x = torch.full((1, 1, 3, 4, 2), value).clamp(-6e4, 6e4).to(dtype)
    high = linear_upsampling(x, (factor, 1, factor))
    assert torch.equal(high, x[..., :1, :1, :1].expand(high.shape))
    if factor == 2:
        assert torch.equal(_by_products(x, (2, 2, 2)), x[..., :1, :1, :1].expand(1, 1, 6, 8, 4))


def test_autocast_changes_no_dtype():
    upsampling, x = LinearUpsampling(scale_factor=(2.0, 2.0, 2.0), mode="trilinear"), torch.randn(1, 2, 3, 4, 5)
    with torch.autocast("cpu", torch.bfloat16):
        assert upsampling(x.bfloat16()).dtype is torch.bfloat16
        assert upsampling(x).dtype is torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("factors", [(2.0, 2.0, 2.0), (1.0, 2.0, 3.0)])
def test_on_cuda_as_by_pytorch(factors):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 5, 6, device="cuda", dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.interpolate(x, scale_factor=factors, mode="trilinear")
    computed = LinearUpsampling(scale_factor=factors, mode="trilinear")(x)
    torch.testing.assert_close(computed, expected)
    gradient = torch.randn_like(expected)
    torch.testing.assert_close(torch.autograd.grad(computed, x, gradient), torch.autograd.grad(expected, x, gradient))


def test_the_compiler_adds_up_without_atomics():
    """A scatter with accumulation becomes atomics on a GPU."""
    graphs = []

    def keep(graph, _):
        graphs.append(graph)
        return graph

    x = torch.randn(1, 2, 3, 4, 5, requires_grad=True)
    upsampling = LinearUpsampling(scale_factor=(2.0, 2.0, 2.0), mode="trilinear")
    torch._dynamo.reset()
    compiled = torch.compile(
        upsampling,
        fullgraph=True,
        backend=aot_autograd(
            fw_compiler=lambda graph, inputs: make_boxed_func(keep(graph, inputs)),
            bw_compiler=lambda graph, inputs: make_boxed_func(keep(graph, inputs)),
        ),
    )
    compiled(x).sum().backward()
    torch._dynamo.reset()
    names = {str(node.target) for graph in graphs for node in graph.graph.nodes}
    assert len(graphs) == 2
    assert not {
        name
        for name in names
        if "index_put" in name
        or "upsample" in name
        or "scatter" in name.replace("slice_scatter", "").replace("select_scatter", "")
    }
