"""`container`: from the arguments to one call, and what it prints."""

from pathlib import Path

import pytest

from nnunetv2_gsp.container import writing
from tests.cli.commands import exit_code


@pytest.fixture
def calls(monkeypatch):
    """The calls of the library, which do nothing."""
    calls = []
    monkeypatch.setattr(writing, "write_container", lambda *arguments, **named: calls.append((arguments, named)))
    return calls


def test_every_argument_reaches_the_library(calls, capsys):
    assert exit_code("container", "a.zip", "b.zip", "-o", "new", "--interface", "brats2025", "--cuda") == 0
    options = ("--input-slugs", "t2", "adc", "--output-slug", "lesion", "--challenge", "brats2023")
    assert exit_code("container", "a.zip", "-o", "new", "--interface", "grand-challenge", *options) == 0
    without = {"challenge": None, "input_slugs": (), "output_slug": None, "cuda": False}
    slugs = {"input_slugs": ["t2", "adc"], "output_slug": "lesion"}
    assert calls == [
        (([Path("a.zip"), Path("b.zip")], Path("new"), "brats2025"), {**without, "cuda": True}),
        (([Path("a.zip")], Path("new"), "grand-challenge"), {**without, "challenge": "brats2023", **slugs}),
    ]
    assert capsys.readouterr().out.startswith("Wrote new. Its README.md has the commands")


@pytest.mark.parametrize("arguments", [("-o", "new"), ("a.zip",), ("a.zip", "-o", "new", "--interface", "kaggle")])
def test_a_wrong_command_line_exits_with_2(arguments, calls):
    assert exit_code("container", *arguments) == 2
    assert not calls


def test_a_refusal_names_the_flag(tmp_path):
    (tmp_path / "mine").mkdir()
    assert exit_code("container", "a.zip", "-o", tmp_path / "mine", "--interface", "flare").endswith(
        "mine exists and is not replaced; choose another with -o."
    )
