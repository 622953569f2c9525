"""Puts the .pth that makes nnU-Net find our trainers into the wheel; everything else stands in setup.cfg."""
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithStartupLine(build_py):
    """A .pth works only at the top of site-packages, where setuptools' package data cannot put it."""

    STARTUP_LINE = "nnunetv2_gsp.pth"

    def run(self):
        """Copy the startup line to the top of the wheel, where pip records it and removes it again."""
        super().run()
        # an editable wheel is not made from build_lib: what does not stay in the tree is "installed" straight into it
        top = self.get_finalized_command("install").install_lib if self.editable_mode else self.build_lib
        self.copy_file(self.STARTUP_LINE, str(Path(top) / self.STARTUP_LINE))


setup(cmdclass={"build_py": BuildWithStartupLine})
