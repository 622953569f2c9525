"""What do the kernels of the triton engine take of a card? Compiled for one that need not be there.

    python -m benchmarks.registers [float16 | bfloat16 | float32]

prints registers, stack (what they do not hold), shared memory and the width of loads of each kernel of a training step.
"""

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from unittest.mock import patch

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from benchmarks.models import CHANNELS, Plan, gsp
from nnunetv2_gsp.engines import triton as engine
from nnunetv2_gsp.ops import gpu_layer, layer_kernels
from nnunetv2_gsp.ops.gpu_layer import Access, Affine, Through, interpolation_factors

CAPABILITY = 90  # H100, H200
KERNELS = ("_product", "_moments", "_norm", "_gradients", "_gradient_of_weight", "_low_gradient")
NAMES = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}
TOOL = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


class Compiled:
    """A kernel in the place of another: a launch compiles it, the first time with these constants, and prints."""

    def __init__(self, kernel: Any):
        self.kernel, self.seen = kernel, set[tuple[Any, ...]]()

    def __getitem__(self, grid: object) -> Callable[..., None]:
        """Return what a launch calls."""
        return self._launch

    def _launch(self, *arguments: Any, num_warps: int = 4, **constants: Any) -> None:
        names = self.kernel.arg_names
        types = ["*" + NAMES[each.dtype] if isinstance(each, Tensor) else "fp32" for each in arguments]
        key = num_warps, *types, *constants.items()
        if key in self.seen:
            return
        self.seen.add(key)
        signature = dict(zip(names, types, strict=False)) | dict.fromkeys(constants, "constexpr")
        aligned = {(place,): [["tt.divisibility", 16]] for place, kind in enumerate(types) if kind.startswith("*")}
        built = triton.compile(
            ASTSource(self.kernel, signature, constants, aligned),
            target=GPUTarget("cuda", CAPABILITY, 32),
            options={"num_warps": num_warps},
        )
        sizes = _sizes(**constants)
        widths = Counter(re.findall(r"(?:ld|st)\.global[\w.:]*?((?:\.v\d)?\.[bu]\d+)", built.asm["ptx"]))
        print(
            f"{self.kernel.fn.__name__:20}",
            *(f"{size:>7}" for size in sizes),
            f"warps {num_warps}",
            _usage(built.asm["cubin"]),
            f"shared {built.metadata.shared}",
            dict(widths),
            flush=True,
        )


def _sizes(MAP: Any = None, TILES: Any = None, CO: int = 0, V: int = 0, **_: Any) -> tuple[int, ...]:  # noqa: N803
    """Return what tells the launches of a kernel apart."""
    if MAP is None:
        return (V,) if V else ()
    return MAP.channels, CO, TILES.voxels, MAP.access.shift_channels, MAP.access.pool_w, TILES.size, MAP.run


def main(dtype_name: str = "float16") -> None:
    """Walk through nnU-Net's largest network without memory, each layer there and back."""
    dtype = getattr(torch, dtype_name)
    with torch.device("meta"):
        network, image = gsp(Plan(), deep_supervision=True).to("meta"), torch.zeros(2, CHANNELS, *Plan().patch)
    print("kernel, channels in and out, voxels, shifted channels, pooling, tile, voxels of a row of it; ...")
    with _compiling(dtype), torch.no_grad():
        network.walk(engine.TRITON.begin(image), engine.TRITON)


@contextmanager
def _compiling(dtype: torch.dtype) -> Iterator[None]:
    def layer(
        y: Tensor,
        mean: Tensor | None,
        scale: Tensor | None,
        offset: Tensor | None,
        weight: Tensor,
        low: Tensor | None,
        slope: float,
        access: list[int],
        _: torch.dtype,
        has_moments: bool,
    ) -> Any:
        affine = None if mean is None or scale is None or offset is None else Affine(mean, scale, offset)
        where = Access(*access)
        z, *moments = layer_kernels.product(y, affine, weight, low, slope, where, dtype, has_moments)
        through = Through(z, moments[0], *moments) if has_moments else None
        if affine is None:
            layer_kernels.gradient_of_weight(z, through, y, affine, weight, slope, where)
        else:
            factors = [] if low is None else interpolation_factors(low.shape[2:], z.shape[2:])
            layer_kernels.gradients(z, through, y, affine, weight, slope, where, factors)
        return z, *moments

    with ExitStack() as changes:
        for name in KERNELS:
            changes.enter_context(patch.object(layer_kernels, name, Compiled(getattr(layer_kernels, name))))
        changes.enter_context(patch.object(layer_kernels, "_is_fenced", lambda dz: dz.element_size() == 2))
        changes.enter_context(patch.object(gpu_layer, "compute_layer", layer))
        changes.enter_context(patch.object(engine, "_dtype_of", lambda y, weight: dtype))
        yield


def _usage(binary: bytes) -> str:
    with NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        said = subprocess.run([TOOL, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    registers, stack = (re.findall(rf"{key}:(\d+)", said)[-1] for key in ("REG", "STACK"))
    return f"registers {registers} stack {stack}"


if __name__ == "__main__":
    main(*sys.argv[1:])
