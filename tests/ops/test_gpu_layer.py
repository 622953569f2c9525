"""A layer's kernels, in Triton's interpreter, against the shifts' definitions and plain PyTorch in fp64."""

import math
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from nnunetv2_gsp.ops import gpu_layer
from nnunetv2_gsp.ops.gpu_layer import Access, layer
from nnunetv2_gsp.ops.reference import group_shift_reference, local_shift_reference
from tests.interpreted import layer_kernels, needs_triton

pytestmark = needs_triton
POOLS = {2: nn.functional.max_pool2d, 3: nn.functional.max_pool3d}
MODES = {2: "bilinear", 3: "trilinear"}
NO_MOMENTS = {"has_moments": False}
# of the norm, which is that of the largest half-precision rounding of a factor and of what is stored
ALLOWED = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}


@pytest.fixture
def kernels():  # for each test, since those on a GPU take the compiled ones
    with layer_kernels() as module:
        yield module


def by_definition(y, mean, scale, offset, weight, low, slope, access, has_moments):
    n_axes, per_channel = y.ndim - 2, (..., *[None] * (y.ndim - 2))
    if mean is not None:
        y = (y - mean[per_channel]) * scale[per_channel] + offset[per_channel]
    y = nn.functional.leaky_relu(y, slope)
    if access.shift_channels:
        y = group_shift_reference(y, access[3 - n_axes : 3], access.shift_channels)
    if access.local_channels:
        y = local_shift_reference(y, access.first_local, access.local_channels)
    pool = access[-n_axes:]
    z = torch.einsum("oc,nc...->no...", weight, POOLS[n_axes](y, pool, pool))
    if low is not None:
        z = z + nn.functional.interpolate(low, [*map(int, z.shape[2:])], mode=MODES[n_axes])
    return (z, z.flatten(2).mean(2), z.flatten(2).var(2, correction=0)) if has_moments else (z,)


class Layer:
    """Random arguments of a layer, and what its outputs get for a gradient."""

    def __init__(
        self,
        shape,
        channels,
        access,
        dtype=torch.float32,
        has_norm=True,
        low=None,
        slope=0.01,
        has_moments=True,
        device="cpu",
    ):
        torch.manual_seed(0)
        n_axes = len(shape) - 2
        size = [shape[0], channels, *(n // step for n, step in zip(shape[2:], access[-n_axes:], strict=True))]
        norm = [torch.randn(shape[:2]) for _ in range(3)] if has_norm else [None] * 3
        weight = torch.randn(channels, shape[1]) / math.sqrt(shape[1])
        self.tensors = [
            torch.randn(shape).to(dtype),
            *norm,
            weight.to(dtype).float(),
            None if low is None else torch.randn(*size[:2], *low).to(dtype),
        ]
        self.upstream = [torch.randn(size).to(dtype), *(torch.randn(size[:2]) for _ in range(2 * has_moments))]
        self.settings, self.low, self.dtype = (slope, access), low, dtype
        self.has_moments, self.device = has_moments, device

    def ours(self):
        slope, access = self.settings
        return self._with_gradients(
            torch.Tensor.clone,
            lambda *inputs: layer(*inputs, slope, list(access), self.dtype, self.has_moments)[
                : 1 + 2 * self.has_moments
            ],
        )

    def exact(self):
        return self._with_gradients(
            torch.Tensor.double, lambda *inputs: by_definition(*inputs, *self.settings, self.has_moments)
        )

    def errors(self):
        """Norm of each difference, as a part of the norm."""
        pairs = zip(self.ours(), self.exact(), strict=True)
        return [float((ours - exact).norm() / exact.norm()) for ours, exact in pairs]

    def _with_gradients(self, cast, compute):
        inputs = [x if x is None else cast(x.to(self.device)).requires_grad_() for x in self.tensors]
        outputs = compute(*inputs)
        torch.autograd.backward(
            outputs, [gradient.to(output) for gradient, output in zip(self.upstream, outputs, strict=True)]
        )
        gradients = [x.grad for x in inputs if x is not None]
        assert [x.dtype for x in gradients] == [x.dtype for x in inputs if x is not None]
        return [result.detach().cpu().double() for result in (*outputs, *gradients)]


@st.composite
def layers(draw):
    """Draw any layer there can be, of few voxels."""
    n_axes = draw(st.integers(2, 3))
    groups, pool, size = [], [], []
    for _ in range(n_axes):
        groups.append(draw(st.integers(1, 3 if n_axes == 2 else 2)))
        pool.append(draw(st.integers(1, 2)))
        size.append(math.lcm(groups[-1], pool[-1]) * draw(st.integers(1, 3)))
    one, n_groups, n_directions = [1] * (3 - n_axes), math.prod(groups), 2 * n_axes
    shifted = n_groups * draw(st.integers(0, 2))
    moved = n_directions * draw(st.integers(0, 1))
    channels = max(shifted + moved + draw(st.sampled_from([0, 1, 5, 14])), 1)
    low = [
        n // step // draw(st.sampled_from([factor for factor in (1, 2, 3) if n // step % factor == 0]))
        for n, step in zip(size, pool, strict=True)
    ]
    access = Access(*one, *groups, shifted, shifted, moved, *one, *pool)
    return Layer(
        (draw(st.integers(1, 2)), channels, *size),
        draw(st.sampled_from([3, 16, 17])),
        access,
        draw(st.sampled_from([torch.float32, torch.float16])),
        draw(st.booleans()),
        draw(st.sampled_from([None, low])),
        draw(st.sampled_from([0.01, 0.0, 1.0])),
        draw(st.booleans()),
    )


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(layers())
def test_outputs_and_gradients_are_those_of_the_definitions(kernels, layer):
    assert max(layer.errors()) < ALLOWED[layer.dtype]


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), min_size=2, max_size=3),
    st.sampled_from([torch.float32, torch.float16]),
    st.sampled_from([16, 256]),
)
def test_what_an_interpolated_map_gets_is_what_autograd_gives(kernels, sizes_and_factors, dtype, low_voxels):
    size, factors = zip(*sizes_and_factors, strict=True)
    torch.manual_seed(0)
    low = torch.zeros(2, 2, *size, dtype=torch.float64, requires_grad=True)
    high = nn.functional.interpolate(low, scale_factor=tuple(map(float, factors)), mode=MODES[len(size)])
    gradient = torch.randn_like(high).to(dtype)
    high.backward(gradient.double())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "_LOW_VOXELS", low_voxels)
        ours = kernels._gradient_of_low(gradient, factors)
    assert ours.dtype is dtype
    torch.testing.assert_close(ours.double(), low.grad, rtol=0, atol=ALLOWED[dtype] * float(low.grad.abs().max()))


TILED = {
    "rows of one group": Layer((1, 16, 2, 16, 16), 16, Access(2, 2, 2, 16)),
    "rows of one group, local shift too": Layer((1, 24, 2, 16, 16), 16, Access(2, 2, 2, 8, 8, 12)),
    "blocks of channels": Layer((1, 70, 3, 4, 4), 130, Access(1, 2, 2, 64), low=(3, 2, 1)),
    "blocks of channels, pooled": Layer((1, 70, 2, 4, 4), 66, Access(1, 2, 2, 64, 0, 0, 1, 2, 2)),
    "a rest of a tile": Layer((1, 16, 5, 5, 5), 16, Access()),
}


@pytest.mark.parametrize("most_tiles", [1, 4])
@pytest.mark.parametrize("name", TILED)
def test_several_tiles_and_parts(kernels, monkeypatch, name, most_tiles):
    monkeypatch.setattr(kernels, "_ENOUGH_PROGRAMS", 1)
    monkeypatch.setattr(kernels, "_ENOUGH_WITH_WEIGHTS", 1)
    monkeypatch.setattr(kernels, "_MOST_TILES", most_tiles)
    assert max(TILED[name].errors()) < ALLOWED[torch.float32]


NEIGHBOURS = {
    **{name: TILED[name] for name in ("rows of one group", "blocks of channels")},
    "groups along every axis": Layer((2, 16, 4, 8, 8), 16, Access(2, 2, 2, 16), low=(2, 4, 4)),
    "one group a row": Layer((2, 16, 4, 8, 16), 16, Access(2, 2, 1, 16)),
    "in 2D": Layer((1, 32, 16, 32), 24, Access(1, 4, 2, 32)),
    "thirds of rows": Layer((1, 27, 3, 6, 24), 17, Access(3, 3, 3, 27)),
    "nothing moves": Layer((1, 8, 3, 5, 4), 17, Access()),
}


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_runs_of_addresses_lie_together_as_the_compiler_is_told(kernels, monkeypatch, name):
    """The interpreter loads each address by itself, and would be right all the same."""
    promises = []

    def aligned(at, align):
        run = int(getattr(align, "value", align))
        runs = at.handle.data.reshape(-1, run)
        promises.append(run)
        assert (runs[:, 0] % run == 0).all()
        assert (runs == runs[:, :1] + np.arange(run)).all()
        return at

    monkeypatch.setattr(kernels, "_aligned", aligned)
    NEIGHBOURS[name].ours()
    assert max(promises) > 1


def test_tiles_of_rows_are_taken_where_they_fit(kernels):
    runs = {
        name: kernels._tiling(each.tensors[0], each.upstream[0], each.settings[1], 64, 1)[0].run
        for name, each in TILED.items()
    }
    assert runs == {
        "rows of one group": 8,
        "rows of one group, local shift too": 8,
        "blocks of channels": 0,
        "blocks of channels, pooled": 0,
        "a rest of a tile": 0,
    }


def test_bfloat16(kernels, monkeypatch):
    import triton.language as tl

    def dot(a, b, acc):  # of which the interpreter multiplies the bits
        return tl.dot(a.to(tl.float32), b.to(tl.float32), acc)

    monkeypatch.setattr(kernels, "_dot", dot)
    assert max(Layer((2, 16, 4, 6, 8), 20, Access(2, 1, 2, 8), torch.bfloat16).errors()) < ALLOWED[torch.bfloat16]


def test_sums_of_pairs_are_sums():
    with layer_kernels(has_fast_sums=False):
        assert max(Layer((1, 3, 2, 3), 2, Access()).errors()) < ALLOWED[torch.float32]


def test_moments_far_from_zero_do_not_cancel(kernels):
    far = Layer((1, 4, 4, 5, 6), 3, Access(), has_norm=False, low=(4, 5, 6))
    far.tensors[-1] += 1e4
    z, mean, variance = (result for result in far.ours()[:3])
    exact = z.flatten(2)
    torch.testing.assert_close(mean, exact.mean(2), rtol=3e-7, atol=0)
    torch.testing.assert_close(variance, exact.var(2, correction=0), rtol=1e-4, atol=0)


def test_the_first_of_equal_voxels_gets_the_gradient_of_a_pooling(kernels):
    access = Access(pool_d=2, pool_h=2, pool_w=2)
    y = torch.ones(1, 2, 4, 4, 4)
    y[0, 1] = torch.randint(2, (4, 4, 4))
    gradients = []
    for compute in (
        lambda y, w: layer(y, None, None, None, w, None, 1.0, list(access), torch.float32, False)[0],
        lambda y, w: by_definition(y, None, None, None, w, None, 1.0, access, False)[0],
    ):
        image = y.clone().requires_grad_()
        compute(image, torch.eye(2)).sum().backward()
        gradients.append(image.grad)
    assert torch.equal(*gradients)


def test_what_is_not_a_number_stays_none(kernels):
    y = torch.randn(1, 2, 4, 4, 4)
    y[0, 0, 1, 1, 1] = torch.nan
    for access in (Access(), Access(pool_d=2, pool_h=2, pool_w=2)):
        z, mean, _ = layer(y, None, None, None, torch.eye(2), None, 0.01, list(access), torch.float32, True)
        assert z.isnan().flatten(2).sum(2).tolist() == [[1, 1]]
        assert mean.isnan().all()


def test_an_image_in_fp32_is_multiplied_in_half_precision_and_gets_no_gradient(kernels):
    each = Layer((2, 4, 3, 5), 8, Access(), torch.float16, has_norm=False, slope=1.0)
    image, *_, weight, _ = each.tensors
    exact = each.exact()[-1]
    weight.requires_grad_()
    z, mean, variance = layer(image.float(), None, None, None, weight, None, 1.0, list(Access()), torch.float16, True)
    torch.autograd.backward([z, mean, variance], [each.upstream[0].half(), *each.upstream[1:]])
    assert z.dtype is torch.float16
    assert (weight.grad.double() - exact).norm() < ALLOWED[torch.float16] * exact.norm()


@pytest.mark.filterwarnings("ignore")
def test_the_operator_keeps_the_rules_of_operators(kernels):
    def arguments(**changes):
        each = Layer((2, 4, 2, 4), 3, Access(1, 1, 2, 2, 0, 0, 1, 2, 1), low=(1, 2), **changes)
        slope, access = each.settings
        return (
            *(x if x is None else x.requires_grad_() for x in each.tensors),
            slope,
            list(access),
            each.dtype,
            each.has_moments,
        )

    for changes in ({}, {"has_norm": False, **NO_MOMENTS}):
        torch.library.opcheck(layer, arguments(**changes))


@pytest.mark.parametrize(
    ("found", "obstacle"), [("3.6.0", ""), ("3.10.1+git5", ""), ("3.1.0", "Triton 3.1.0 is older than 3.6")]
)
def test_an_old_triton_is_named(monkeypatch, found, obstacle):
    monkeypatch.setattr(gpu_layer, "version", lambda package: found)
    assert gpu_layer.find_obstacle() == obstacle


def test_a_missing_triton_is_named(monkeypatch):
    def fail(package):
        raise PackageNotFoundError

    monkeypatch.setattr(gpu_layer, "version", fail)
    assert gpu_layer.find_obstacle() == "Triton is not installed"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(
    ("name", "dtype"),
    [  # each compiles kernels of its own
        *((name, torch.float16) for name in TILED),
        *(("rows of one group, local shift too", dtype) for dtype in (torch.float32, torch.bfloat16)),
        *(("blocks of channels, pooled", dtype) for dtype in (torch.float32, torch.bfloat16)),
    ],
    ids=str,
)
def test_on_cuda_outputs_and_gradients_are_those_of_the_definitions(name, dtype):
    tiled = TILED[name]
    shape, (_, access) = tiled.tensors[0].shape, tiled.settings
    on_gpu = Layer(shape, tiled.upstream[0].shape[1], access, dtype, low=tiled.low, device="cuda")
    assert max(on_gpu.errors()) < max(ALLOWED[dtype], 1e-5)  # three products of TF32 for one of fp32
