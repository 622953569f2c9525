"""What the verb passes on, prints and exits with."""

import pytest

from nnunetv2_gsp.experiments import EXECUTORS, experiment
from nnunetv2_gsp.experiments.experiment import Outcome
from nnunetv2_gsp.experiments.tables import TABLES
from nnunetv2_gsp.slurm import SlurmResources
from tests.cli.commands import exit_code


@pytest.fixture
def asked(monkeypatch):
    """Collect what the library is asked for instead of training; the outcome is under "outcome"."""
    asked = {"outcome": Outcome("a table")}

    def run_experiments(table, dataset, **wishes):
        asked.update(wishes, table=table, dataset=dataset)
        return asked["outcome"]

    monkeypatch.setattr(experiment, "run_experiments", run_experiments)
    return asked


def test_every_table_and_executor_is_listed_with_a_line(capsys):
    assert exit_code("experiments", "--help") == 0
    printed = capsys.readouterr().out
    for name, description in [*EXECUTORS.items(), *((name, table.description) for name, table in TABLES.items())]:
        assert any(line.split(maxsplit=1) == [name, description] for line in printed.splitlines())


def test_wishes_are_passed_on(asked, capsys):
    flags = "-d 137 -c 2d -p P -tr A B -f 0 2 --set batch_size=2 -device cpu -n 3 --dry-run"
    of_slurm = "--executor slurm --partition gpu --gpus a100:1 --cpus 4 --time 60"
    assert exit_code("experiments", "table2", *flags.split(), *of_slurm.split()) == 0
    assert (asked["table"], asked["dataset"], asked["settings"]) == ("table2", "137", {"batch_size": 2})
    assert (asked["configuration"], asked["plans_name"], asked["trainers"]) == ("2d", "P", ["A", "B"])
    assert (asked["folds"], asked["device"], asked["executor"]) == ([0, 2], "cpu", "slurm")
    assert (asked["at_a_time"], asked["retry"], asked["dry_run"]) == (3, False, True)
    assert asked["slurm"] == SlurmResources("gpu", "a100:1", 4, 60)
    assert capsys.readouterr().out == "a table\n"


def test_nothing_is_asked_of_slurm_unless_it_is_wished_for(asked):
    assert exit_code("experiments", "ratio", "-d", "1", "--retry") == 0
    assert asked["slurm"] is None
    assert (asked["retry"], asked["dry_run"]) == (True, False)


def test_failed_runs_are_named_and_so_is_the_flag_that_trains_them_again(asked, capsys):
    asked["outcome"] = Outcome("a table", ["CSC failed: log"], is_good=False)
    assert exit_code("experiments", "ratio", "-d", "1") == 1
    assert capsys.readouterr().out == "a table\nCSC failed: log\nFailed runs are trained again with --retry.\n"


def test_resources_of_slurm_without_slurm_are_one_sentence():
    assert exit_code("experiments", "ratio", "-d", "1", "--partition", "gpu").endswith(
        "got them with the executor local; drop them, or choose --executor slurm."
    )
