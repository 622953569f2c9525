"""What the verb passes on, prints and exits with."""

from pathlib import Path

import pytest

from nnunetv2_gsp.cli.hints import hints_for
from nnunetv2_gsp.search import EXECUTORS, N_TRIALS, TRAINERS, search
from nnunetv2_gsp.search.search import SearchOutcome
from nnunetv2_gsp.slurm import SlurmResources
from tests.cli.commands import exit_code


@pytest.fixture
def asked(monkeypatch):
    """Collect what the library is asked for instead of searching; the outcome is under "outcome"."""
    asked = {"outcome": SearchOutcome("a table")}

    def search_networks(dataset, **wishes):
        asked.update(wishes, dataset=dataset)
        return asked["outcome"]

    monkeypatch.setattr(search, "search_networks", search_networks)
    return asked


def test_every_executor_is_listed_with_a_line(capsys):
    assert exit_code("search", "--help") == 0
    printed = capsys.readouterr().out
    for name, description in EXECUTORS.items():
        assert any(line.split(maxsplit=1) == [name, description] for line in printed.splitlines())


def test_without_wishes_the_defaults_are_asked_for(asked, capsys):
    assert exit_code("search", "-d", "137") == 0
    assert (asked["dataset"], asked["configuration"], asked["plans_name"]) == ("137", "3d_fullres", "nnUNetPlans")
    assert (asked["trainers"], asked["n_trials"], asked["folds"]) == (list(TRAINERS), N_TRIALS, [0])
    assert asked["budget_gmacs"] is asked["budget_ms"] is asked["output"] is asked["slurm"] is None
    assert (asked["kept"], asked["seed"], asked["device"], asked["executor"]) == (0.5, 0, "cuda", "local")
    assert (asked["at_a_time"], asked["dry_run"]) == (1, False)
    assert capsys.readouterr().out == "a table\n"


def test_wishes_are_passed_on(asked):
    flags = "-d 1 -c 2d -p P --budget-macs 1.5 --trials 9 -tr A B -f 0 2 --keep 0.3 --seed 4 -n 3 -o folder"
    of_slurm = "--executor slurm --partition gpu --gpus a100:1 --cpus 4 --time 60"
    assert exit_code("search", *flags.split(), *of_slurm.split(), "-device", "cpu", "--dry-run") == 0
    assert (asked["configuration"], asked["plans_name"], asked["budget_gmacs"]) == ("2d", "P", 1.5)
    assert (asked["n_trials"], asked["trainers"], asked["folds"]) == (9, ["A", "B"], [0, 2])
    assert (asked["kept"], asked["seed"], asked["at_a_time"], asked["output"]) == (0.3, 4, 3, Path("folder"))
    assert (asked["executor"], asked["slurm"]) == ("slurm", SlurmResources("gpu", "a100:1", 4, 60))
    assert (asked["device"], asked["dry_run"]) == ("cpu", True)
    assert exit_code("search", "-d", "1", "--budget-ms", "20") == 0
    assert asked["budget_ms"] == 20


def test_failed_trainings_are_named_and_how_they_are_tried_again(asked, capsys):
    asked["outcome"] = SearchOutcome("a table", ["Trial 3 failed: log"])
    assert exit_code("search", "-d", "1") == 1
    assert capsys.readouterr().out == (
        "a table\nTrial 3 failed: log\nFailed trainings are tried again by the same command.\n"
    )


@pytest.mark.parametrize(
    "flags",
    [
        ("--budget-macs", "1", "--budget-ms", "1"),
        ("--budget-macs", "0"),
        ("--budget-ms", "soon"),
        ("--keep", "nan"),
        ("--trials", "0"),
    ],
)
def test_a_wrong_command_line_exits_with_2(flags, capsys):
    assert exit_code("search", "-d", "1", *flags) == 2
    assert "usage: nnUNetv2_gsp search" in capsys.readouterr().err


def test_the_budget_is_mended_with_its_flag():
    from nnunetv2_gsp.cli import parser

    parsed = parser().parse_args(["search", "-d", "1"])
    assert hints_for(["budget_gmacs"], parsed) == ["raise it with --budget-macs"]
    assert hints_for(["budget_ms"], parsed) == ["raise it with --budget-ms"]
