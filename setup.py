"""The .pth that makes nnU-Net find our trainers, and the fused layers for CPUs; everything else stands in setup.cfg."""

import platform
from glob import glob
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_py import build_py

LAYERS = "nnunetv2_gsp/cpu/layers"


class BuildWithStartupLine(build_py):
    """A .pth works only at the top of site-packages, where setuptools' package data cannot put it."""

    STARTUP_LINE = "nnunetv2_gsp.pth"

    def run(self):
        """Copy the startup line to the top of the wheel, where pip records it and removes it again."""
        super().run()
        # an editable wheel is not made from build_lib: what does not stay in the tree is "installed" straight into it
        top = self.get_finalized_command("install").install_lib if self.editable_mode else self.build_lib
        self.copy_file(self.STARTUP_LINE, str(Path(top) / self.STARTUP_LINE))


def fused_layers(build: str, *instruction_sets: str) -> Extension:
    """Compile nnunetv2_gsp/cpu/layers; without a compiler that can, the package does without."""
    return Extension(
        f"nnunetv2_gsp.cpu._layers_{build}",
        sorted(glob(f"{LAYERS}/*.c")),
        depends=sorted(glob(f"{LAYERS}/*.h")),
        optional=True,
        libraries=["m"],
        # nobody reads the flags of floating-point exceptions, and for their sake GCC keeps a branch in
        # every voxel's leaky ReLU: vectors of it raise flags for values that are not taken
        extra_compile_args=["-O3", "-std=gnu11", "-pthread", "-fno-trapping-math", *instruction_sets],
        extra_link_args=["-pthread"],
    )


# which of them fits is found out at run time, so that a wheel works on every CPU of its architecture
BUILDS = [fused_layers("plain")]
if platform.machine() in ("x86_64", "AMD64"):
    BUILDS += [
        fused_layers("avx2", "-mavx2", "-mfma"),
        fused_layers("avx512", "-mavx512f", "-mfma", "-mprefer-vector-width=512"),
    ]

setup(cmdclass={"build_py": BuildWithStartupLine}, ext_modules=BUILDS)
