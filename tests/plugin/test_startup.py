"""What happens at each start of an interpreter: one folder is added, behind the user's own.

Each child is without site-packages (-S), so that no .pth has run before, and all that is not in the standard library
would be missed.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nnunetv2_gsp.plugin import startup

OURS = str(Path(startup.__file__).parent / "ext_trainer")
START = f"import os, runpy; start = lambda: runpy.run_path({startup.__file__!r})\n"


def printed_by_child(code, variable=None):
    """Return the lines that the code prints in an interpreter that sees the variable with this value, or none."""
    environment = {name: value for name, value in os.environ.items() if name != "nnUNet_extTrainer"}
    if variable is not None:
        environment["nnUNet_extTrainer"] = variable
    return subprocess.run(
        [sys.executable, "-S", "-c", START + code], env=environment, check=True, capture_output=True, text=True
    ).stdout.splitlines()


def joined(*folders):
    return os.pathsep.join(folders)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, OURS),
        ("", OURS),
        (os.pathsep, OURS),
        ("/of/the/user", joined("/of/the/user", OURS)),
        (joined("/z", "/a", "/z"), joined("/z", "/a", "/z", OURS)),
        (joined("/a", "", "/b"), joined("/a", "/b", OURS)),  # an empty entry would be the working directory
        (OURS, OURS),
        (joined(OURS, "/a"), joined(OURS, "/a")),  # the user's order counts
        (joined("/a", OURS + "s"), joined("/a", OURS + "s", OURS)),  # another folder whose name begins alike
    ],
)
def test_our_folder_comes_behind_the_users_and_once(before, after):
    code = "for _ in range(2): start(); print(os.environ['nnUNet_extTrainer'])"
    assert printed_by_child(code, before) == [after] * 2


def test_processes_that_are_started_inherit_it_and_add_nothing():
    code = f"start(); import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {START!r} + CODE])"
    code = code.replace("CODE", repr("start(); print(os.environ['nnUNet_extTrainer'])"))
    assert printed_by_child(code, "/of/the/user") == [joined("/of/the/user", OURS)]


@pytest.mark.parametrize("before", [None, "", "/of/the/user"])
def test_what_was_there_before_is_kept_for_the_doctor(before):
    assert printed_by_child("print(repr(start()['INHERITED_VALUE']))", before) == [repr(before)]


def test_the_folder_holds_what_nnunet_imports_by_path():
    assert [file.name for file in Path(OURS).glob("*.py")] == ["nnunetv2_gsp_trainers.py"]


def test_a_start_stays_cheap():
    """Nothing is imported that Python has not imported at its start."""
    code = "import sys; before = {*sys.modules}; start(); print({*sys.modules} - before)"
    assert printed_by_child("runpy.run_path(os.devnull); " + code) == ["set()"]
