"""The command line: its help, its exit codes, and one sentence for what a user can mend."""
import os
import subprocess
import sys

import pytest

from nnunetv2_gsp import cli
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.plugin import doctor

FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")


def exit_code(*arguments):
    with pytest.raises(SystemExit) as exited:
        cli.main(list(arguments))
    return exited.value.code


@pytest.fixture
def environment_in_order(monkeypatch, tmp_path):
    """All that training needs is there; what depends on how we are installed is tested in tests/plugin."""
    for look in ("_startup_line", "_trainer_search"):
        monkeypatch.setattr(doctor, look, lambda: doctor.Finding(True, "in order"))
    monkeypatch.setattr(doctor, "_packages", list)
    for name in FOLDERS:
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path


def test_help_names_the_verbs_and_nnunets_own_command(capsys):
    assert exit_code("--help") == 0
    printed = capsys.readouterr().out
    for name in ("doctor", "plan", "templates", "profile", "experiments", "export", "import", "convert", "evaluate",
                 "compare", "submit", "check-submission", "demo", "nnUNetv2_train", "nnUNetTrainerGSP"):
        assert name in printed


@pytest.mark.parametrize("arguments", [
    (), ("cure",), ("doctor", "--harder"), ("experiments", "table9", "-d", "1"),
    ("experiments", "ratio", "-d", "1", "-n", "0"), ("plan", "-d", "1", "--set", "shift_ratio")])
def test_a_wrong_command_line_exits_with_2(arguments, capsys):
    assert exit_code(*arguments) == 2
    assert "usage: nnUNetv2_gsp" in capsys.readouterr().err


def test_doctor_exits_with_0_if_all_is_in_order(environment_in_order, capsys):
    assert exit_code("doctor") == 0
    assert "FAIL" not in capsys.readouterr().out


@pytest.mark.parametrize("missing", FOLDERS)
def test_doctor_exits_with_1_and_says_which_folder_is_missing(missing, environment_in_order, capsys):
    (environment_in_order / missing).rmdir()
    assert exit_code("doctor") == 1
    [failing] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    assert missing in failing


@pytest.mark.parametrize("error", [InputError("expected a folder, got a file"), FileNotFoundError(2, "Not there", "x")])
def test_what_a_user_can_mend_is_one_sentence(error, monkeypatch):
    def verb(_):
        raise error
    monkeypatch.setattr(cli.doctor, "run", verb)
    # Python prints a text that it exits with to stderr, without a traceback, and exits with 1
    assert exit_code("doctor") == f"nnUNetv2_gsp doctor: {error}"


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
        ended = subprocess.run([sys.executable, "-c", "from nnunetv2_gsp.cli import main; main(['templates'])"],
                               stdout=writer, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "PYTHONUNBUFFERED": unbuffered})
    finally:
        os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, "")
