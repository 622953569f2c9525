"""Triton's kernels without a GPU, in its interpreter."""

import importlib.util
import sys
from contextlib import contextmanager

import pytest

from nnunetv2_gsp.ops import gpu_layer

needs_triton = pytest.mark.skipif(bool(gpu_layer.find_obstacle()), reason=gpu_layer.find_obstacle())


@contextmanager
def layer_kernels(has_fast_sums=True):
    """Load `ops.layer_kernels` as Triton's interpreter runs it, and put it in the place of the compiled one.

    Args:
        has_fast_sums: sum by halves, for the interpreter takes any other reduction number by number.
    """
    import nnunetv2_gsp.ops as ops

    name = "nnunetv2_gsp.ops.layer_kernels"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")  # which is read when a kernel is
        spec = importlib.util.find_spec(name)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        patch.setitem(sys.modules, name, module)
        patch.setattr(ops, "layer_kernels", module, raising=False)
        if has_fast_sums:
            patch.setattr(module, "_sum", _sum_by_halves)
            patch.setattr(module, "_sums", lambda a, b: (_sum_by_halves(a, 1), _sum_by_halves(b, 1)))
        yield module


def _sum_by_halves(x, axis):
    import triton.language as tl

    rows = list(map(int, x.shape))[:axis]
    while x.shape[axis] > 1:
        x = sum(tl.split(tl.reshape(x, (*rows, x.shape[axis] // 2, 2))))
    return tl.reshape(x, tuple(rows))
