"""A search on a dataset: what it trains, writes and refuses; nnU-Net's trainings are replaced by a known function."""

import csv
import json
import shutil

import pytest

from nnunetv2_gsp.counting import count_architecture
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.experiments import executors
from nnunetv2_gsp.experiments.runs import RunState, locked
from nnunetv2_gsp.plans import gsp_plans, write_gsp_plans
from nnunetv2_gsp.plans_templates import Template, load_template
from nnunetv2_gsp.search import study, trainings
from nnunetv2_gsp.search.trainings import Trainings, slurm_training
from nnunetv2_gsp.slurm import SlurmResources
from tests.planned_dataset import DATASET
from tests.search.conftest import TRAINERS, search
from tests.search.landscape import known_dice

BUDGET = 0.02  # the default takes 0.031


def rows(stand_in):
    return list(csv.DictReader((stand_in.results / "search" / "search.csv").open()))


def plans_of(stand_in, name):
    return json.loads((stand_in.preprocessed / f"{name}.json").read_text())


def test_the_files_say_what_was_found(stand_in):
    outcome = search()
    folder = stand_in.results / "search"
    for name in ("search.md", "search.csv", "search.html", "winner.json"):
        assert str(folder / name) in outcome.text
        assert (folder / name).stat().st_size > 100
    assert outcome.failed == []
    default, *_ = rows(stand_in)
    assert (default["name"], float(default[TRAINERS[1]])) == ("default", pytest.approx(known_dice({}, rung=1)))


def test_the_winners_template_gives_the_plans_that_were_trained(stand_in):
    search()
    file = stand_in.results / "search" / "winner.json"
    finished = {row["trial"]: row for row in rows(stand_in) if row[TRAINERS[1]]}
    best = finished[load_template(str(file)).description.split()[1]]
    assert float(best[TRAINERS[1]]) == max(float(row[TRAINERS[1]]) for row in finished.values())
    written = write_gsp_plans(DATASET, template=str(file), output_name="of_winner", configurations=["3d_fullres"])
    trained = plans_of(stand_in, best["plans"])["configurations"]
    assert json.loads(written.read_text())["configurations"] == trained


def test_what_exceeds_the_budget_gets_no_plans(stand_in):
    search(budget_gmacs=BUDGET)
    over = [row for row in rows(stand_in) if row["state"] == "over budget"]
    assert {row["name"] for row in over} >= {"default", "pointwise"}
    assert all(float(row["macs"]) > BUDGET * 1e9 for row in over)
    trained = {run.plans for run in stand_in.trained}
    assert trained == {file.stem for file in stand_in.preprocessed.glob("nnUNetGSPPlans_search-*.json")}
    assert not trained & {row["plans"] for row in over}


@pytest.mark.parametrize("chosen", [{}, {"local_shift_ratio": 0.375, "width": 0.75, "stages": 2}])
def test_costs_are_those_of_the_network_with_its_shifts(chosen, stand_in):
    task = Trainings(stand_in.preprocessed, stand_in.results, "3d_fullres", "nnUNetPlans", TRAINERS, [0], "cpu", None)
    network = task.network(task.space().settings(task.space().choice(**chosen)))
    plans = gsp_plans(task.plans, "x", Template("", "", "", network.settings), ["3d_fullres"])
    configuration = plans["configurations"]["3d_fullres"]
    counts = count_architecture(configuration["architecture"], configuration["patch_size"], 2, 4)
    assert (network.parameters, network.macs) == counts


def test_folds_are_instances_whose_mean_counts(stand_in):
    search(folds=[1, 3], n_trials=1)
    assert [(run.row.trainer, run.row.fold) for run in stand_in.trained] == [
        (trainer, fold) for trainer in TRAINERS for fold in (1, 3)
    ]
    assert float(rows(stand_in)[0][TRAINERS[1]]) == pytest.approx(known_dice({}, rung=1) + 0.02)


@pytest.mark.parametrize("ends_after", [0, 1, 6])
def test_a_search_that_is_killed_trains_nothing_again(ends_after, stand_in):
    stand_in.ends_after = ends_after
    with pytest.raises(KeyboardInterrupt):
        search()
    stand_in.ends_after = None
    search()
    names = [run.name for run in stand_in.trained]
    assert len(names) == len(set(names))
    killed = rows(stand_in)
    shutil.rmtree(stand_in.results)
    search()
    assert rows(stand_in) == killed


def test_networks_that_another_search_has_trained_are_not_trained_again(stand_in, tmp_path):
    search()
    n_trained = len(stand_in.trained)
    search(output=tmp_path / "another")
    assert len(stand_in.trained) == n_trained


def test_milliseconds_are_the_cost_where_they_are_the_budget(stand_in, monkeypatch):
    class Measured:
        median_ms = 2.5

    monkeypatch.setattr(trainings, "time_architecture", lambda *_: Measured)
    search(budget_ms=3, n_trials=2)
    assert {row["milliseconds"] for row in rows(stand_in)} == {"2.5"}
    assert "at 2.5 ms" in json.loads((stand_in.results / "search" / "winner.json").read_text())["description"]
    with pytest.raises(InputError, match=r"got 2 ms, where the cheapest network takes 2\.5 ms"):
        search(budget_ms=2, output=stand_in.results / "other")


def test_failed_trainings_are_named_with_their_log(stand_in):
    stand_in.fails = True
    assert search().failed == ["Trial 0 (default) failed: the.log"]
    stand_in.fails = False
    assert search().failed == []


def test_a_dry_run_lists_and_writes_nothing(stand_in):
    before = sorted(stand_in.preprocessed.parents[1].rglob("*"))
    text = search(budget_gmacs=BUDGET, dry_run=True).text
    assert "default: 0.0309 GMACs, over the budget" in text
    assert f"cpu_training {DATASET} 3d_fullres 0 -p nnUNetGSPPlans_search-" in text
    assert sorted(stand_in.preprocessed.parents[1].rglob("*")) == before
    assert stand_in.trained == []


def test_a_dry_run_of_a_search_shows_its_table(stand_in):
    search()
    table = (stand_in.results / "search" / "search.md").read_text()
    assert search(dry_run=True).text == table


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            {"budget_gmacs": 1e-6},
            r"Expected a budget that a network meets, got 1e-06 GMACs, where the cheapest network ",
        ),
        ({"budget_gmacs": 1, "budget_ms": 1}, "Expected one budget, got two"),
        ({"budget_ms": 0}, "Expected a budget above 0, got 0; change budget_ms"),
        ({"trainers": ["nnUNetTrainerOfNobody"]}, "a trainer that nnU-Net finds here, got nnUNetTrainerOfNobody"),
        ({"trainers": TRAINERS[:1] * 2}, "Expected different trainers, at least one"),
        ({"folds": [0, 5]}, "Expected folds from 0 to 4, got 0 5"),
        ({"kept": 2}, "Expected a fraction above 0, up to 1, of the trials that go on, got 2"),
        ({"configuration": "3d_low"}, "a configuration of nnUNetPlans .*, got 3d_low"),
        ({"plans_name": "nnUNetOtherPlans"}, "nnUNetOtherPlans.json: expected plans"),
        ({"slurm": SlurmResources()}, "with Slurm alone, got them with the executor local"),
    ],
)
def test_bad_input_is_one_sentence(arguments, sentence, stand_in):
    with pytest.raises(InputError, match=sentence) as refusal:
        search(**arguments)
    assert "\n" not in str(refusal.value)
    assert not stand_in.results.exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"configuration": "3d_lowres"}, "expected a search with configuration 3d_lowres, got one with 3d_fullres"),
        (
            {"trainers": TRAINERS[1:]},
            "a search with trainers nnUNetTrainer_5epochs, got one with nnUNetTrainer_1epoch ",
        ),
        ({"folds": [1]}, "a search with folds 1, got one with 0"),
        ({"budget_gmacs": 1}, "a search with budget 1, got one with none"),
    ],
)
def test_the_folder_of_another_search_is_refused(arguments, sentence, stand_in):
    search(n_trials=1)
    with pytest.raises(InputError, match=sentence):
        search(**arguments)


def test_a_folder_of_another_dataset_is_refused(stand_in):
    search(n_trials=1)
    file = stand_in.results / "search" / "search.json"
    file.write_text(file.read_text().replace(DATASET, "Dataset001_Other"))
    with pytest.raises(
        InputError,
        match=f"a search with dataset {DATASET}, got one with Dataset001_Other; move it away, or change output",
    ):
        search()
    file.write_text("{")
    with pytest.raises(InputError, match=r"search\.json: expected the description of a search in JSON"):
        search()


def test_plans_that_were_planned_anew_are_another_search(stand_in):
    search(n_trials=1)
    file = stand_in.preprocessed / "nnUNetPlans.json"
    file.write_text(file.read_text().replace("64]", "128]"))
    with pytest.raises(InputError, match="of 3 stages of 16 32 128 channels, got one with of 3 stages of 16 32 64"):
        search()


def test_one_call_at_a_time(stand_in):
    with (
        locked(stand_in.results / "search" / "lock"),
        pytest.raises(InputError, match="one call at a time, got another one at work"),
    ):
        search()


def test_without_optuna_nothing_is_written(stand_in, monkeypatch):
    monkeypatch.setattr(study, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'nnunetv2_gsp\[search\]'"):
        search()
    assert not stand_in.results.exists()


class Run:
    """A run in a state that Slurm's answer gives it."""

    finished = False

    def __init__(self, name):
        self.name = name

    def state(self, in_slurm):
        return in_slurm.get(self.name, RunState.NOT_STARTED)


def test_slurm_gets_what_it_does_not_have(monkeypatch):
    submitted = []
    monkeypatch.setattr(trainings, "slurm_states", lambda runs: {"queued": RunState.QUEUED, "works": RunState.RUNNING})
    monkeypatch.setattr(trainings, "submit_to_slurm", lambda runs, *_: submitted.extend(run.name for run in runs))
    monkeypatch.setattr(trainings, "wait_for_slurm", lambda runs, title: submitted.append(f"{title}: {len(runs)}"))
    slurm_training(2, SlurmResources())([Run("queued"), Run("works"), Run("new")], "rung")
    assert submitted == ["new", "rung: 3"]


def test_waiting_for_slurm_ends_when_it_has_none_of_the_runs(monkeypatch):
    answers = [{"a": RunState.QUEUED, "b": RunState.RUNNING}, {"b": RunState.RUNNING}, {}]
    slept = []
    monkeypatch.setattr(executors, "slurm_states", lambda _: answers.pop(0))
    monkeypatch.setattr(executors.time, "sleep", slept.append)
    executors.wait_for_slurm([Run("a"), Run("b")])
    assert (answers, slept) == ([], [30, 30])
