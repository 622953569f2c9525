"""The module in a process of its own, as an image runs it: without network, as a user with no name and no home.

Everything but the results and a folder for temporary files is read-only, and what the image leaves out is missing.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from nnunetv2_gsp.container.registry import INTERFACES
from nnunetv2_gsp.container.wheel import UNUSED
from nnunetv2_gsp.files import write_text
from tests.container.models import (
    CASES,
    SPACING_MM,
    container,
    dockerfile,
    environment_of,
    noise,
    write_brats_case,
)
from tests.datasets.sources import write_image

REPOSITORY = Path(__file__).parents[2]
NOBODY = 43210
ALONE = """
set -e
mount --bind "$OUT" "$OUT"
mount --bind "$TMPDIR" "$TMPDIR"
mount -o remount,bind,ro /
! touch "$IN/new" 2>/dev/null
exec setpriv --reuid {uid} --regid {uid} --clear-groups --inh-caps=-all,+dac_read_search \
    --ambient-caps=-all,+dac_read_search "$@"
"""  # so that a user who may write nothing can still read an interpreter in another one's home


def why_not():
    """Return the reason why processes can't be shut in here, or an empty string."""
    if not all(map(shutil.which, ("unshare", "setpriv"))) or os.getuid() != 0:
        return "needs unshare, setpriv and the right to use them"
    with TemporaryDirectory() as folder:
        tried = subprocess.run(
            ["unshare", "-mn", "sh", "-c", ALONE.format(uid=NOBODY), "sh", "true"],
            env={**os.environ, "IN": "/", "OUT": folder, "TMPDIR": folder},
            capture_output=True,
            check=False,
        )
    return "" if tried.returncode == 0 else f"unshare: {tried.stderr.decode().strip()}"


def command_of(folder):
    """Return what the Dockerfile starts, with this interpreter and the folder where it lies here."""
    [start] = [rest for step, rest in dockerfile(folder) if step in ("ENTRYPOINT", "CMD")]
    words = re.findall(r'"([^"]*)"', start)
    if words[0] == "sh":
        words = (folder / words[1]).read_text().split()[1:]
    return [sys.executable, *words[1:-1], str(folder)]


def write_input(name, folder):
    if name == "flare":
        write_image(noise(0), folder / "case_0000.nii.gz", SPACING_MM)
    elif name == "grand-challenge":
        write_image(noise(0), folder / "images" / "t2" / "case.mha", SPACING_MM)
    else:
        write_brats_case(folder / CASES[0])


RESULTS = {
    "brats2025": f"{CASES[0]}.nii.gz",
    "brats-mlcube": f"{CASES[0]}.nii.gz",
    "grand-challenge": "images/prostate/case.mha",
    "flare": "case.nii.gz",
}


@pytest.mark.skipif(bool(why_not()), reason=why_not())
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.contract] * (name != "brats2025")) for name in INTERFACES]
)
def test_a_container_needs_no_network_no_name_and_no_writing(name, brats_models, plain_model, tmp_path):
    interface = INTERFACES[name]
    options = {"output_slug": "prostate"} if name == "grand-challenge" else {}
    model = brats_models[0] if interface.challenge else plain_model
    folder = container([model], tmp_path / "algorithm", name, **options)
    write_input(name, tmp_path / "in")
    for package in UNUSED:
        write_text("raise ImportError", tmp_path / "missing" / f"{package.replace('-', '_')}.py")
    for part in ("out", "scratch"):
        (tmp_path / part).mkdir()
        os.chown(tmp_path / part, NOBODY, NOBODY)
    variables = {
        key: re.sub("^/tmp", str(tmp_path / "scratch"), value) for key, value in environment_of(folder).items()
    }
    variables |= {"TMPDIR": str(tmp_path / "scratch"), "OUT": str(tmp_path / "out"), "IN": str(tmp_path / "in")}
    words = ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    if name == "brats-mlcube":
        words = ["infer", f"--data_path={tmp_path / 'in'}", f"--output_path={tmp_path / 'out'}"]
    ran = subprocess.run(
        ["unshare", "-mn", "sh", "-c", ALONE.format(uid=NOBODY), "sh", *command_of(folder), *words],
        env={**variables, "PATH": os.environ["PATH"], "PYTHONPATH": f"{tmp_path / 'missing'}:{REPOSITORY}"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    results = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert [file.relative_to(tmp_path / "out").as_posix() for file in results] == [RESULTS[name]]
    assert {file.stat().st_uid for file in results} == {NOBODY}
    assert "1 of 1 cases have a result." in ran.stdout
