"""`check-submission`: from the arguments to one call, and from what it returns to the screen and the exit code."""

from pathlib import Path

import pytest

from nnunetv2_gsp import submission
from tests.cli.commands import exit_code

VIOLATIONS = ["Expected a file for 00001, got none.", "Expected a file for 00002, got none."]


@pytest.fixture
def check(monkeypatch):
    """Run the verb on an archive with some violations; returns what it exits with, and the calls of the library."""

    def run(violations, *arguments):
        calls = []
        monkeypatch.setattr(submission, "check_submission", lambda *given: calls.append(given) or violations)
        return exit_code("check-submission", "a.zip", "--challenge", "promise12", *arguments), calls

    monkeypatch.setattr("nnunetv2_gsp.nnunet.n_processes", lambda: 5)
    return run


def test_every_argument_reaches_the_library(check):
    assert check([], "--images", "raw", "-np", "3") == (0, [(Path("a.zip"), "promise12", Path("raw"), 3)])
    assert check([]) == (0, [(Path("a.zip"), "promise12", None, 5)])


@pytest.mark.parametrize(
    ("n_violations", "code", "summary"),
    [
        (0, 0, "a.zip: no violations of the rules of promise12"),
        (1, 1, "a.zip: 1 violation of the rules of promise12"),
        (2, 1, "a.zip: 2 violations of the rules of promise12"),
    ],
)
def test_every_violation_is_a_line_and_the_exit_code_tells(n_violations, code, summary, check, capsys):
    assert check(VIOLATIONS[:n_violations], "--images", "raw")[0] == code
    assert capsys.readouterr().out.splitlines() == [*VIOLATIONS[:n_violations], summary]


def test_the_screen_says_what_was_not_checked(check, capsys):
    check([])
    assert "Not checked: whether all cases are there" in capsys.readouterr().out.splitlines()[-1]


def test_a_missing_archive_is_named(tmp_path):
    refusal = exit_code("check-submission", tmp_path / "no.zip", "--challenge", "brats2021")
    assert refusal.endswith("no.zip: expected an archive, got no such file; name another archive.")


@pytest.mark.parametrize("arguments", [("a.zip",), ("a.zip", "--challenge", "brats"), ("--challenge", "brats2021")])
def test_a_wrong_command_line_exits_with_2(arguments):
    assert exit_code("check-submission", *arguments) == 2
