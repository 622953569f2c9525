"""Puts the .pth that makes nnU-Net find our trainers into the wheel; everything else stands in setup.cfg."""
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithStartupLine(build_py):
    """A .pth works only at the top of site-packages, where setuptools' package data cannot put it."""

    STARTUP_LINE = "nnunetv2_gsp.pth"

    def run(self):
        """Copy the startup line beside the packages; an editable install has no such place and goes without."""
        super().run()
        if not self.editable_mode:
            self.copy_file(self.STARTUP_LINE, str(Path(self.build_lib) / self.STARTUP_LINE))

    def get_outputs(self, include_bytecode=True):
        """List the startup line too, so that pip records it and removes it again."""
        startup_line = [] if self.editable_mode else [str(Path(self.build_lib) / self.STARTUP_LINE)]
        return super().get_outputs(include_bytecode) + startup_line


setup(cmdclass={"build_py": BuildWithStartupLine})
