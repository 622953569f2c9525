"""The command itself: its help, its exit codes, and one sentence for what a user can mend."""

import os
import runpy
import subprocess
import sys

import pytest

from nnunetv2_gsp import __version__, cli
from nnunetv2_gsp.errors import InputError, TargetExistsError
from tests.cli.commands import exit_code


def test_help_names_the_verbs_and_nnunets_own_command(capsys):
    assert exit_code("--help") == 0
    printed = capsys.readouterr().out
    for name in (
        "doctor",
        "plan",
        "predict",
        "templates",
        "profile",
        "experiments",
        "search",
        "export",
        "import",
        "convert",
        "evaluate",
        "compare",
        "submit",
        "check-submission",
        "demo",
        "nnUNetv2_train",
        "nnUNetTrainerGSP",
    ):
        assert name in printed


def test_it_tells_its_version(capsys):
    assert exit_code("--version") == 0
    assert capsys.readouterr().out == f"nnUNetv2_gsp {__version__}\n"


def test_python_runs_the_package_as_the_command(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["__main__.py", "--version"])
    with pytest.raises(SystemExit) as exited:
        runpy.run_module("nnunetv2_gsp", run_name="__main__")
    assert exited.value.code == 0
    assert capsys.readouterr().out == f"nnUNetv2_gsp {__version__}\n"


def test_the_help_needs_no_torch():
    """A shell asks for completions and help often, and torch takes seconds to import."""
    code = "import sys; from nnunetv2_gsp.cli import parser; parser().format_help(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("cure",),
        ("doctor", "--harder"),
        ("experiments", "table9", "-d", "1"),
        ("experiments", "ratio", "-d", "1", "-n", "0"),
        ("plan", "-d", "1", "--set", "shift_ratio"),
    ],
)
def test_a_wrong_command_line_exits_with_2(arguments, capsys):
    assert exit_code(*arguments) == 2
    assert "usage: nnUNetv2_gsp" in capsys.readouterr().err


@pytest.mark.parametrize("error", [InputError("a folder", "a file"), FileNotFoundError(2, "Not there", "x")])
def test_what_a_user_can_mend_is_one_sentence(error, monkeypatch):
    def verb(_):
        raise error

    monkeypatch.setattr(cli.doctor, "run", verb)
    # Python prints a text that it exits with to stderr, without a traceback, and exits with 1
    assert exit_code("doctor") == f"nnUNetv2_gsp doctor: {error}"


def test_hints_of_the_verb_stand_behind_the_sentence(monkeypatch):
    def verb(_):
        raise TargetExistsError("model.zip")

    monkeypatch.setattr(cli.export, "run", verb)
    assert exit_code("export", "MODEL", "-o", "model.zip") == (
        "nnUNetv2_gsp export: model.zip exists and is not replaced; choose another with -o, or replace it with "
        "--overwrite."
    )


def test_an_interrupt_is_one_line(monkeypatch):
    def verb(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.doctor, "run", verb)
    assert exit_code("doctor").strip() == "nnUNetv2_gsp doctor: interrupted"


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch):
    def verb(_):
        raise ZeroDivisionError

    monkeypatch.setattr(cli.doctor, "run", verb)
    with pytest.raises(ZeroDivisionError):
        cli.main(["doctor"])


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_who_has_seen_enough_ends_it_quietly(unbuffered):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(
            [sys.executable, "-c", "from nnunetv2_gsp.cli import main; main(['templates'])"],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    finally:
        os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, "")
