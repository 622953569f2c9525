"""A wheel holds what the tree holds: every module, template and JSON, the startup line, and what was compiled."""

import re
import shutil
import subprocess
import sys
from email import message_from_bytes
from zipfile import ZipFile

import pytest

import nnunetv2_gsp


def packed_files(wheel):
    with ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def metadata_of(wheel):
    with ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(name))


def is_compiled(name):
    return name.startswith("nnunetv2_gsp/cpu/_layers_")


def files_to_pack(tree):
    package = {
        path.relative_to(tree).as_posix()
        for path in (tree / "nnunetv2_gsp").rglob("*")
        if path.is_file() and path.suffix not in (".c", ".h")
    }
    return {name for name in package if not is_compiled(name)} | {"nnunetv2_gsp.pth"}


def test_wheel_holds_every_file_of_the_package_and_the_startup_line(wheel, tree):
    assert {name for name in packed_files(wheel) if not is_compiled(name)} == files_to_pack(tree)


def test_wheel_tells_type_checkers_that_the_package_has_types(wheel):
    assert "nnunetv2_gsp/py.typed" in packed_files(wheel)


def test_wheel_has_the_version_that_the_package_says(wheel):
    assert metadata_of(wheel)["Version"] == nnunetv2_gsp.__version__
    assert f"-{nnunetv2_gsp.__version__}-" in wheel.name


def test_changelog_begins_with_this_version(tree):
    headings = [line for line in (tree / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")]
    assert re.fullmatch(rf"## {re.escape(nnunetv2_gsp.__version__)} \((unreleased|\d{{4}}-\d\d-\d\d)\)", headings[0])


def test_version_is_written_in_one_place(wheel, older_tree, build_wheel):
    assert metadata_of(build_wheel(older_tree))["Version"] == f"0.0.{nnunetv2_gsp.__version__}"


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_wheel_holds_the_fused_layers(wheel):
    assert any(map(is_compiled, packed_files(wheel)))


def test_without_a_compiler_the_wheel_is_whole_but_for_the_fused_layers(tree, build_wheel, monkeypatch, tmp_path):
    monkeypatch.setenv("CC", "false")
    clean = shutil.copytree(tree, tmp_path / "tree", ignore=shutil.ignore_patterns("build", "_layers_*"))
    assert packed_files(build_wheel(clean)) == files_to_pack(tree)


def test_sdist_makes_the_same_wheel(wheel, tree, build_wheel, tmp_path):
    build_sdist = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build_sdist, tmp_path], cwd=tree, check=True, stdout=subprocess.DEVNULL)
    sdist = next(tmp_path.glob("*.tar.gz"))
    assert packed_files(build_wheel(sdist)) == packed_files(wheel)
