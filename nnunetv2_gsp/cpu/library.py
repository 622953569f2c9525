"""Loads the build of the compiled layers that fits this CPU, and declares its structures as in layers/*.h."""

import ctypes
import logging
from collections.abc import Callable
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import NamedTuple

import torch

# as in layers/layer.h
ARENA, IMAGE, GRADIENTS, LOGITS = range(4)
PACKED_MULTIPLE, MAX_CHUNKS = 16, 64
NONE = -1
ALL_ROWS = 30  # log2_rows of a map that is one tile, the layout of PyTorch

_log = logging.getLogger(__name__)
FloatPointer = ctypes.POINTER(ctypes.c_float)
# setup.py's builds by torch's names of CPU capabilities; where one is missing, the next is taken
_BUILDS = {"AVX512": ("avx512", "avx2", "plain"), "AVX2": ("avx2", "plain")}


class Map(ctypes.Structure):
    """A feature map in one of the spaces."""

    _fields_ = [
        ("offset", ctypes.c_int64),
        ("sample_stride", ctypes.c_int64),
        ("tile_stride", ctypes.c_int64),
        ("channel_stride", ctypes.c_int64),
        ("space", ctypes.c_int32),
        ("channels", ctypes.c_int32),
        ("size", ctypes.c_int32 * 3),
        ("log2_rows", ctypes.c_int32),
    ]


class Input(ctypes.Structure):
    """An input of a layer, and the operations applied when it is read."""

    _fields_ = [
        ("map", Map),
        ("scale", ctypes.c_int64),
        ("offset", ctypes.c_int64),
        ("slope", ctypes.c_float),
        ("groups", ctypes.c_int32 * 3),
        ("shift_channels", ctypes.c_int32),
        ("local_axis", ctypes.c_int32),
        ("local_channels", ctypes.c_int32),
        ("pool", ctypes.c_int32 * 3),
    ]


class Target(ctypes.Structure):
    """Where logits are summed up instead of stored."""

    _fields_ = [
        ("sums", FloatPointer),
        ("weights", ctypes.c_void_p),
        ("strides", ctypes.c_int64 * 3),
        ("weight_strides", ctypes.c_int64 * 2),
        ("step", ctypes.c_int64),
    ]


class Layer(ctypes.Structure):
    """One convolution with everything that is computed around it."""

    _fields_ = [
        ("inputs", Input * 2),
        ("low", Map),
        ("out", Map),
        *((name, ctypes.c_void_p) for name in ("weight", "bias")),
        ("target", ctypes.POINTER(Target)),
        *((name, ctypes.c_void_p) for name in ("gamma", "beta")),
        *((name, ctypes.c_int64) for name in ("weight_stride", "packed", "scale", "offset", "moments")),
        ("n_inputs", ctypes.c_int32),
        ("has_low", ctypes.c_int32),
        ("factor", ctypes.c_int32 * 3),
        ("log2_rows", ctypes.c_int32),
        ("eps", ctypes.c_float),
        ("least_deviation", ctypes.c_float),
    ]


class Gradient(ctypes.Structure):
    """The backward pass of one layer."""

    _fields_ = [
        ("of_out", Map),
        ("of_low", Map),
        ("of_inputs", Map * 2),
        *((name, FloatPointer) for name in ("weight", "bias", "gamma", "beta")),
        *((name, ctypes.c_int64) for name in ("packed", "coefficients", "parts", "sums", "totals")),
        ("layer", ctypes.c_int32),
        ("wants_low", ctypes.c_int32),
        ("wants_inputs", ctypes.c_int32 * 2),
        ("adds_to_inputs", ctypes.c_int32 * 2),
        ("norms_of_inputs", ctypes.c_int32 * 2),
    ]


class Taps(ctypes.Structure):
    """The two voxels that a voxel is interpolated between."""

    _fields_ = [("first", ctypes.c_int32), ("second", ctypes.c_int32), ("weight", ctypes.c_float)]


class Labelling(ctypes.Structure):
    """Labels of an image to be made from logits at the network's resolution."""

    _fields_ = [
        ("logits", ctypes.c_void_p),
        ("class_stride", ctypes.c_int64),
        ("taps", ctypes.POINTER(Taps)),
        ("label_of", ctypes.POINTER(ctypes.c_int32)),
        ("out", ctypes.POINTER(ctypes.c_uint8)),
        ("strides", ctypes.c_int64 * 3),
        ("low", ctypes.c_int32 * 3),
        ("size", ctypes.c_int32 * 3),
        *((name, ctypes.c_int32) for name in ("classes", "has_regions", "label_bytes", "threads")),
    ]


class FusedLayers(NamedTuple):
    """A build of layers/ for an instruction set.

    Attributes:
        build: name of the instruction set, avx512, avx2 or plain.
        run: `gsp_run` of prediction.c.
        ask_for_large_pages: `gsp_ask_for_large_pages` of large_pages.c.
        differentiate: `gsp_differentiate` of training.c.
        label: `gsp_label` of labels.c.
    """

    build: str
    run: Callable[..., int]
    ask_for_large_pages: Callable[[int, int], None]
    differentiate: Callable[..., int]
    label: Callable[..., int]

    def new_memory(self, *shape: int) -> torch.Tensor:
        """Return uninitialised fp32 memory, in large pages where the system has them.

        For memory of a single call, as a few large pages are ready sooner than many small ones. Memory that is kept is
        better without: hundreds of large pages may have to be cleared first, which took half a second.
        """
        memory = torch.empty(shape, dtype=torch.float32)
        self.ask_for_large_pages(memory.data_ptr(), memory.numel())
        return memory


@lru_cache(maxsize=1)
def fused_layers() -> FusedLayers | None:
    """Load the build that fits this CPU; return None, and log one line, if there is none."""
    found = find_fused_layers()
    if isinstance(found, FusedLayers):
        return found
    _log.warning(
        "GSP networks run in plain PyTorch on the CPU, several times slower than they could: the fused layers %s.",
        found,
    )
    return None


def find_fused_layers() -> FusedLayers | str:
    """Load the build that fits this CPU, or return the reason why there is none."""
    failures = []
    for build in _BUILDS.get(torch.backends.cpu.get_cpu_capability(), ("plain",)):
        for suffix in EXTENSION_SUFFIXES:
            file = Path(__file__).with_name(f"_layers_{build}{suffix}")
            if not file.is_file():
                continue
            try:
                return load(build, file)
            except (OSError, ValueError) as error:
                failures.append(str(error))
    return f"do not load ({'; '.join(failures)})" if failures else "were not built: no C compiler was found or fitted"


def load(build: str, file: Path) -> FusedLayers:
    """Load one build; raises OSError if it does not load, and ValueError if it is of another version."""
    library = ctypes.CDLL(str(file))
    if any(
        _bytes_in(library, structure) != ctypes.sizeof(structure) for structure in (Layer, Target, Gradient, Labelling)
    ):
        raise ValueError(f"{file.name} was built from another version of the C layers")
    run = library.gsp_run
    spaces = ctypes.POINTER(ctypes.c_void_p)
    run.argtypes = [ctypes.POINTER(Layer), ctypes.c_int32, ctypes.c_int32, ctypes.c_int32, spaces]
    run.restype = ctypes.c_int32
    differentiate = library.gsp_differentiate
    differentiate.argtypes = [
        ctypes.POINTER(Layer),
        ctypes.c_int32,
        ctypes.POINTER(Gradient),
        ctypes.c_int32,
        ctypes.c_int32,
        ctypes.c_int32,
        spaces,
    ]
    differentiate.restype = ctypes.c_int32
    ask_for_large_pages = library.gsp_ask_for_large_pages
    ask_for_large_pages.argtypes = [ctypes.c_void_p, ctypes.c_int64]
    ask_for_large_pages.restype = None
    label = library.gsp_label
    label.argtypes = [ctypes.POINTER(Labelling)]
    label.restype = ctypes.c_int32
    return FusedLayers(build, run, ask_for_large_pages, differentiate, label)


def _bytes_in(library: ctypes.CDLL, structure: type[ctypes.Structure]) -> int | None:
    """Return the size of a structure in a build; None if it does not know the structure."""
    try:
        return ctypes.c_int64.in_dll(library, f"gsp_{structure.__name__.lower()}_bytes").value
    except ValueError:
        return None
