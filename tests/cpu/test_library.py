"""Every build computes the same, C and Python mean the same structures, and without a build PyTorch predicts."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from nnunetv2_gsp.cpu import library
from nnunetv2_gsp.engines import recorder
from tests.engines.networks import PATCH, assert_close, by_engine, fused, needs_build, plain, small_network

HEADER = Path(library.__file__).parent / "layers" / "labelling.h"  # includes layer.h
CONSTANTS = ("ARENA", "IMAGE", "GRADIENTS", "LOGITS", "PACKED_MULTIPLE", "MAX_CHUNKS")
C_TYPES = {
    ctypes.c_int32: "int32_t",
    ctypes.c_int64: "int64_t",
    ctypes.c_float: "float",
    ctypes.c_void_p: "const float *",
    library.FloatPointer: "float *",
    ctypes.POINTER(library.Taps): "const Taps *",
    ctypes.POINTER(ctypes.c_int32): "const int32_t *",
    ctypes.POINTER(library.Target): "const Target *",
    ctypes.POINTER(ctypes.c_uint8): "uint8_t *",
}
PROBE = """
#include <stddef.h>
#include <stdio.h>
#define PRINT_FIELD(structure, field, type) \\
    printf("%s %zu %zu %s\\n", #field, offsetof(structure, field), sizeof((structure *)0)->field, \\
           __builtin_types_compatible_p(__typeof__(((structure *)0)->field), type) ? #type : "another type")
int main(void) {{ {statements} }}
"""
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
builds = sorted(file for file in Path(library.__file__).parent.glob("_layers_*") if file.suffix != ".py")


@needs_build
@pytest.mark.parametrize("file", builds, ids=lambda file: file.name.split(".")[0])
def test_every_build_that_this_cpu_runs_agrees(file, monkeypatch):
    layers = load_if_it_runs(file)
    monkeypatch.setattr(recorder, "fused_layers", lambda: layers)
    network = small_network(shift_position="CSCSUpShift", local_shift_channels=[0, 6, 6])
    image = torch.randn(2, 2, *PATCH)
    with torch.no_grad():
        assert_close(fused(network, image), plain(network, image))


@needs_build
@pytest.mark.parametrize("file", builds, ids=lambda file: file.name.split(".")[0])
def test_every_build_that_this_cpu_runs_has_the_same_gradients(file, monkeypatch):
    layers = load_if_it_runs(file)
    monkeypatch.setattr(recorder, "fused_layers", lambda: layers)
    network = small_network(shift_position="CSCSUpShift", local_shift_channels=[0, 6, 6]).train()
    image, gradients = torch.randn(2, 2, *PATCH), []
    for name in ("fused_training", "plain"):
        network.zero_grad()
        by_engine(name, network, image).square().mean().backward()
        gradients.append(torch.cat([each.grad.flatten() for each in network.parameters() if each.grad is not None]))
    assert (gradients[0] - gradients[1]).norm() <= 1e-4 * gradients[1].norm()


def load_if_it_runs(file):
    name = file.name.split(".")[0].removeprefix("_layers_")
    if name not in library._BUILDS.get(torch.backends.cpu.get_cpu_capability(), ("plain",)):
        pytest.skip("this CPU cannot run it")
    return library.load(name, file)


def test_without_a_build_one_line_is_logged_and_pytorch_predicts(monkeypatch, caplog):
    monkeypatch.setattr(library, "EXTENSION_SUFFIXES", [".missing"])
    library.fused_layers.cache_clear()
    network, image = small_network(), torch.randn(1, 2, *PATCH)
    with torch.no_grad():
        for _ in range(3):
            assert torch.equal(network(image), plain(network, image))
    library.fused_layers.cache_clear()
    assert [record.message.startswith("GSP networks run in plain PyTorch") for record in caplog.records] == [True]


def c_type(field_type):
    if issubclass(field_type, ctypes.Array):
        return f"{c_type(field_type._type_)}[{field_type._length_}]"
    return C_TYPES.get(field_type, field_type.__name__)


def printed_by_c(statements, folder):
    """Run C statements that know the header of the structures, and return the lines that they print."""
    program = folder / "probe"
    subprocess.run(
        ["cc", "-x", "c", "-std=gnu11", "-include", HEADER, "-o", program, "-"],
        check=True,
        text=True,
        input=PROBE.format(statements=" ".join(statements)),
    )
    return subprocess.run([program], check=True, text=True, capture_output=True).stdout.splitlines()


@needs_compiler
@pytest.mark.parametrize(
    "structure",
    [library.Map, library.Input, library.Target, library.Layer, library.Gradient, library.Taps, library.Labelling],
)
def test_python_s_structures_are_those_of_c(structure, tmp_path):
    fields = [(name, getattr(structure, name), c_type(field_type)) for name, field_type in structure._fields_]
    printed = printed_by_c(
        [
            *(f"PRINT_FIELD({structure.__name__}, {name}, {kind});" for name, _, kind in fields),
            f'printf("%zu\\n", sizeof({structure.__name__}));',
        ],
        tmp_path,
    )
    assert printed == [
        *(f"{name} {field.offset} {field.size} {kind}" for name, field, kind in fields),
        str(ctypes.sizeof(structure)),
    ]
    # in a hole C could have a field that Python does not know
    assert sum(field.size for _, field, _ in fields) == ctypes.sizeof(structure)


@needs_compiler
def test_python_s_constants_are_those_of_c(tmp_path):
    printed = printed_by_c([f'printf("%d\\n", {name});' for name in CONSTANTS], tmp_path)
    assert dict(zip(CONSTANTS, map(int, printed), strict=True)) == {name: getattr(library, name) for name in CONSTANTS}
