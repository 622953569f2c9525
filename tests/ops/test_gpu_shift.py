"""The shifts' kernels, in Triton's interpreter, against the shifts' definitions; and whoever has no Triton."""

import importlib.util
import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnunetv2_gsp.ops import gpu_shift, group_shift, local_shift
from nnunetv2_gsp.ops.reference import group_shift_reference, local_shift_reference

pytest.importorskip("triton")
WIDTHS = [torch.int8, torch.float16, torch.float32, torch.float64]  # a kernel knows no more of a dtype
few = settings(max_examples=10, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def kernels():
    """The kernels as Triton's interpreter runs them, which decides when it reads them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        spec = importlib.util.find_spec("nnunetv2_gsp.ops.shift_kernels")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture
def as_on_a_gpu(kernels, monkeypatch):
    """What is sent to a GPU's kernels comes to the interpreter's; yields the names of those that ran."""
    ran = []
    for move in (kernels.move_blocks, kernels.move_voxels):

        def run(*args, move=move):
            ran.append(move.__name__)
            return move(*args)

        monkeypatch.setattr(f"nnunetv2_gsp.ops.shift_kernels.{move.__name__}", run)
    monkeypatch.setattr("nnunetv2_gsp.ops.shift_kernels.fits", lambda x, row: True)
    monkeypatch.setattr(gpu_shift, "_is_on_gpu", lambda x: True)
    monkeypatch.setattr(gpu_shift, "_kernels_run", True)
    return ran


def counted(shape, dtype=torch.float64):
    """Number the elements, none of them 0."""
    return (torch.arange(math.prod(shape)) % 113 + 1).reshape(shape).to(dtype)


@st.composite
def group_shifts(draw):
    """Draw (map, spatial_groups, shift_channels)."""
    n_axes = draw(st.integers(2, 3))
    groups = tuple(draw(st.integers(1, 3 if n_axes == 2 else 2)) for _ in range(n_axes))
    spatial = [count * draw(st.integers(1, 5)) for count in groups]
    shift_channels = math.prod(groups) * draw(st.integers(1, 2))
    shape = (draw(st.integers(1, 2)), shift_channels + draw(st.integers(0, 1)), *spatial)
    return counted(shape, draw(st.sampled_from(WIDTHS))), groups, shift_channels


@few
@given(group_shifts())
def test_blocks_move_as_the_paper_says_and_back(kernels, shift):
    x, groups, shift_channels = shift
    moved = kernels.move_blocks(x, groups, shift_channels, 1)
    assert torch.equal(moved, group_shift_reference(x, groups, shift_channels))
    assert torch.equal(kernels.move_blocks(moved, groups, shift_channels, -1), x)


@st.composite
def local_shifts(draw):
    """Draw (map, first_channel, shift_channels), axes of one voxel too."""
    n_axes = draw(st.integers(2, 3))
    first, shift_channels = draw(st.integers(0, 2)), 2 * n_axes * draw(st.integers(1, 2))
    shape = (
        draw(st.integers(1, 2)),
        first + shift_channels + draw(st.integers(0, 1)),
        *(draw(st.integers(1, 5)) for _ in range(n_axes)),
    )
    return counted(shape, draw(st.sampled_from(WIDTHS))), first, shift_channels


@few
@given(local_shifts())
def test_voxels_move_as_defined_and_so_does_their_gradient(kernels, shift):
    x, first, shift_channels = shift
    moved = kernels.move_voxels(x, first, shift_channels, 1)
    assert torch.equal(moved, local_shift_reference(x, first, shift_channels))
    image = x.double().requires_grad_()
    local_shift_reference(image, first, shift_channels).backward(moved.double())
    assert torch.equal(kernels.move_voxels(moved, first, shift_channels, -1).double(), image.grad)


def test_several_tiles_of_rows_that_no_power_of_two_holds(kernels, monkeypatch):
    monkeypatch.setattr(kernels, "_TILE_BYTES", 64)
    x = counted((1, 7, 3, 4, 5), torch.float32)
    assert torch.equal(kernels.move_blocks(x, (1, 2, 1), 4, 1), group_shift_reference(x, (1, 2, 1), 4))
    assert torch.equal(kernels.move_voxels(x, 1, 6, 1), local_shift_reference(x, 1, 6))


def test_a_map_that_begins_in_the_middle_of_a_word(kernels):
    x = counted((1, 4, 4, 9), torch.float16).flatten()[1:129].view(1, 4, 4, 8)
    assert torch.equal(kernels.move_blocks(x, (2, 2), 4, 1), group_shift_reference(x, (2, 2), 4))


@pytest.mark.parametrize(
    ("shift", "reference"),
    [
        (lambda x: group_shift(x, (2, 1), 4), lambda x: group_shift_reference(x, (2, 1), 4)),
        (lambda x: local_shift(x, 1, 4), lambda x: local_shift_reference(x, 1, 4)),
    ],
    ids=["group", "local"],
)
def test_operators_differentiate_and_map(as_on_a_gpu, monkeypatch, shift, reference):
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    x, same_x = (counted((1, 5, 2, 3)).requires_grad_() for _ in range(2))
    shifted, expected = shift(x), reference(same_x)
    assert torch.equal(shifted, expected)
    gradients = [
        torch.autograd.grad(result.square().sum(), leaf, create_graph=True)[0]
        for result, leaf in ((shifted, x), (expected, same_x))
    ]
    assert torch.equal(*gradients)
    assert torch.equal(
        *(
            torch.autograd.grad(gradient.square().sum(), leaf)[0]
            for gradient, leaf in zip(gradients, (x, same_x), strict=True)
        )
    )
    with torch.no_grad():
        assert torch.equal(torch.vmap(shift)(x[None])[0], expected)
        assert torch.equal(torch.func.jvp(shift, (x,), (same_x + 1,))[1], reference(same_x + 1))
    shifted.mul_(2)  # no view of something else
    assert len(as_on_a_gpu) == 7


@pytest.mark.parametrize("step", [1, -1])
def test_padding_does_what_the_kernel_does(kernels, step):
    from nnunetv2_gsp.ops.local_shift import _by_padding

    x = counted((2, 8, 2, 3, 4))
    assert torch.equal(_by_padding(x, 1, 6, step), kernels.move_voxels(x, 1, 6, step))


def test_where_triton_fails_pytorch_shifts_and_says_so(as_on_a_gpu, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr("nnunetv2_gsp.ops.shift_kernels.move_blocks", fail)
    x = counted((1, 8, 4, 4, 4))
    for _ in range(2):
        assert torch.equal(group_shift(x, (2, 2, 2), 8), group_shift_reference(x, (2, 2, 2), 8))
    assert [record.message.endswith("failed: Failed to find C compiler") for record in caplog.records] == [True]


def test_fake_maps_pass_through(as_on_a_gpu):
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        assert group_shift(torch.empty(1, 8, 4, 4, 4), (2, 2, 2), 8).shape == (1, 8, 4, 4, 4)
    assert not as_on_a_gpu


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [*WIDTHS, torch.bfloat16, torch.int64], ids=str)
@pytest.mark.parametrize("shape", [(2, 17, 8, 16, 24), (2, 17, 16, 24)])
def test_on_cuda_the_kernels_are_exact(dtype, shape, monkeypatch):
    monkeypatch.setattr("nnunetv2_gsp.ops.shift_kernels._LEAST_BYTES", 0)
    x, groups, n_axes = counted(shape, dtype), (2, 2, 2)[: len(shape) - 2], len(shape) - 2
    assert torch.equal(group_shift(x.cuda(), groups, 8).cpu(), group_shift_reference(x, groups, 8))
    assert torch.equal(local_shift(x.cuda(), 3, 4 * n_axes).cpu(), local_shift_reference(x, 3, 4 * n_axes))
    assert gpu_shift._kernels_run
