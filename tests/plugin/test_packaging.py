"""A wheel holds what the tree holds: every module, template and JSON, and the startup line."""
import subprocess
import sys
from zipfile import ZipFile


def packed_files(wheel):
    with ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_wheel_holds_every_file_of_the_package_and_the_startup_line(wheel, tree):
    package = {path.relative_to(tree).as_posix() for path in (tree / "nnunetv2_gsp").rglob("*") if path.is_file()}
    assert packed_files(wheel) == package | {"nnunetv2_gsp.pth"}


def test_sdist_makes_the_same_wheel(wheel, tree, build_wheel, tmp_path):
    build_sdist = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build_sdist, tmp_path], cwd=tree, check=True, stdout=subprocess.DEVNULL)
    sdist = next(tmp_path.glob("*.tar.gz"))
    assert packed_files(build_wheel(sdist)) == packed_files(wheel)
