"""The search on a known landscape: what is trained, what is not, and that a kill loses nothing."""

import importlib.metadata

import pytest

from nnunetv2_gsp.errors import UnavailableError
from nnunetv2_gsp.search import study
from nnunetv2_gsp.search.halving import goes_on
from nnunetv2_gsp.search.study import Search, TrialOutcome, check_optuna
from tests.search.landscape import SPACE, Landscape, known_dice

N_TRIALS = 12


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "search" / "trials.journal"


def searched(journal, task=None, n_trials=N_TRIALS, **options):
    search = Search(SPACE, task or Landscape(), journal, **options)
    search.run(n_trials)
    return search


def test_so_many_networks_are_trained_the_first_ones_first(journal):
    task = Landscape()
    records = searched(journal, task).records()
    assert sum(record.is_trained for record in records) == N_TRIALS
    assert [record.name for record in records][:9] == [*SPACE.first(), ""]
    assert {name for name, rung in task.trained if rung == 0} == {
        record.network.name for record in records if record.is_trained
    }
    assert len(task.trained) == len(set(task.trained))


def test_dice_and_cost_are_what_the_task_says(journal):
    for record in searched(journal).records():
        if record.outcome is TrialOutcome.FINISHED:
            assert record.dice == tuple(known_dice(record.network.settings, rung) for rung in (0, 1))
            assert record.network.cost == record.network.macs / 1e9


class Reversing(Landscape):
    """In the second rung the best are the worst."""

    def train(self, networks, rung):
        return [1.5 - dice if rung == 1 else dice for dice in super().train(networks, rung)]


def test_each_rung_prunes_by_its_own_dice(journal):
    records = searched(journal, Reversing(n_rungs=3), kept=0.3).records()
    records = [record for record in records if record.is_trained]
    assert {len(record.dice) for record in records} == {1, 2, 3}
    for number, record in enumerate(records[1:], 1):
        for rung in range(2):
            rivals = [point for earlier in records[:number] if (point := earlier.point(rung))]
            on = goes_on(record.point(rung), rivals, kept=0.3)
            assert (len(record.dice) > rung + 1) is on
            if not on:
                assert record.outcome is TrialOutcome.PRUNED
                break


def test_the_first_is_never_pruned(journal):
    """With the second one, which is better and costs the same, in one batch."""
    first, second, *_ = searched(journal, kept=0.5, at_a_time=2, n_trials=2).records()
    assert first.dice[0] < second.dice[0]
    assert first.network.cost == second.network.cost
    assert first.outcome is TrialOutcome.FINISHED


def test_a_network_that_was_tried_is_not_trained_again(journal):
    task = Landscape()
    search = Search(SPACE, task, journal)
    journal.parent.mkdir()
    search._study.enqueue_trial(SPACE.first()["default"])
    search.run(6)
    again = [record for record in search.records() if record.outcome is TrialOutcome.REPEATED]
    assert [record.network.settings for record in again] == [{**SPACE.settings(SPACE.first()["default"])}]
    assert len(task.trained) == len(set(task.trained))
    assert sum(record.is_trained for record in search.records()) == 6


def test_what_exceeds_the_budget_is_never_trained(journal):
    task = Landscape()
    records = searched(journal, task, budget=20).records()
    over = [record for record in records if record.outcome is TrialOutcome.OVER_BUDGET]
    assert {record.name for record in over} >= set(SPACE.first()) - {"gsp_s"}  # 43.5, the widths of the plans
    trained = {name for name, _ in task.trained}
    for record in records:
        if record.network is not None:
            assert (record.network.cost > 20) == (record.outcome is TrialOutcome.OVER_BUDGET)
            assert record.network.name not in trained or record.network.cost <= 20
    assert sum(record.is_trained for record in records) == N_TRIALS  # others do not count


def test_optuna_knows_what_violates_the_budget(journal):
    search = searched(journal, budget=20)
    for trial, record in zip(search._study.trials, search.records(), strict=False):
        is_out = record.outcome in (TrialOutcome.OVER_BUDGET, TrialOutcome.REFUSED)
        assert (max(trial.constraints.values(), default=0) > 0) is is_out


def test_a_space_that_is_used_up_ends_the_search(journal, monkeypatch):
    monkeypatch.setattr(study, "_MOST_ATTEMPTS", 5)
    task = Landscape()
    cheapest = task.network(SPACE.settings(SPACE.cheapest())).cost
    search = searched(journal, task, n_trials=100, budget=cheapest)
    assert sum(record.is_trained for record in search.records()) < 3


def test_it_finds_what_the_first_ones_are_not(journal):
    best = max(
        (record for record in searched(journal, n_trials=30).records() if record.outcome is TrialOutcome.FINISHED),
        key=lambda record: record.dice[-1],
    )
    assert best.dice[-1] > max(known_dice(SPACE.settings(choice)) for choice in SPACE.first().values())


@pytest.mark.parametrize("ends_after", [0, 1, 4, 7, 10, 13])
def test_a_search_that_is_killed_goes_on_as_one_that_is_not(ends_after, journal, tmp_path):
    whole = searched(tmp_path / "whole" / "journal").records()
    task = Landscape(ends_after=ends_after)
    with pytest.raises(KeyboardInterrupt):
        searched(journal, task)
    task.ends_after = None
    with journal.open("a") as file:  # a line that the killed process has begun
        file.write('{"op_code": 4, "worker')
    assert searched(journal, task).records() == whole
    assert len(task.trained) == len(set(task.trained))  # nothing twice


def test_the_same_call_again_trains_nothing_and_more_trials_add(journal):
    task = Landscape()
    before = searched(journal, task).records()
    n_trained = len(task.trained)
    assert searched(journal, task).records() == before
    assert len(task.trained) == n_trained
    assert searched(journal, task, n_trials=N_TRIALS + 2).records()[: len(before)] == before
    assert len(task.trained) > n_trained


def test_several_at_a_time_are_trained_together(journal):
    batches = []

    class Batches(Landscape):
        def train(self, networks, rung):
            batches.append((rung, len(networks)))
            return super().train(networks, rung)

    records = searched(journal, Batches(), at_a_time=3).records()
    assert [size for rung, size in batches if rung == 0] == [3, 3, 3, 3]
    assert sum(record.is_trained for record in records) == N_TRIALS


def test_a_failed_training_is_tried_again_by_the_next_call_alone(journal):
    task = Landscape(failing=[4])
    records = searched(journal, task).records()
    [failed] = [record for record in records if record.outcome is TrialOutcome.FAILED]
    assert sum(record.is_trained for record in records) == N_TRIALS
    assert [name for name, _ in task.trained].count(failed.network.name) == len(failed.dice) + 1
    again = searched(journal, task).records()
    assert again[failed.number].outcome in (TrialOutcome.FINISHED, TrialOutcome.PRUNED)
    assert len(again) == len(records)


def test_if_nothing_can_be_trained_the_search_ends_at_once(journal):
    task = Landscape(failing=range(100))
    searched(journal, task)
    assert len(task.trained) == 1


def test_times_are_measured_once(journal):
    class Clock(Landscape):
        def network(self, settings):
            network = super().network(settings)
            return type(network)(network.name, settings, network.parameters, network.macs, milliseconds=self.asked)

    task = Clock(ends_after=3)
    with pytest.raises(KeyboardInterrupt):
        searched(journal, task)
    before = [record.network.milliseconds for record in Search(SPACE, task, journal).records()]
    task.ends_after = None
    after = searched(journal, task).records()
    assert [record.network.milliseconds for record in after][: len(before)] == before


@pytest.mark.parametrize(("spec", "version"), [(None, "none"), (True, "4.9.0")])
def test_without_optuna_one_sentence_says_what_to_install(spec, version, monkeypatch):
    monkeypatch.setattr(study, "find_spec", lambda _: spec)
    monkeypatch.setattr(study, "version", lambda _: version)
    with pytest.raises(UnavailableError) as refusal:
        check_optuna()
    assert str(refusal.value) == (
        f"Expected Optuna 5.0 or newer to be installed, got {version}; run: pip install 'nnunetv2_gsp[search]'."
    )


def test_the_optuna_of_these_tests_is_new_enough():
    assert importlib.metadata.version("optuna")
    check_optuna()
