"""The search on the effect task: its networks are those of the table, and finished runs are not trained again."""

import json

import pytest

from benchmarks import effect_search
from benchmarks.effect import MAIN_SETTINGS, PATCH, network_of, stock_entry
from benchmarks.effect_search import EffectTask, architecture_of, report_of
from nnunetv2_gsp.architectures.from_plans import read_stages
from nnunetv2_gsp.errors import RefusedSettingsError
from nnunetv2_gsp.search.space import Space
from nnunetv2_gsp.search.study import Search


@pytest.fixture
def task(tmp_path):
    return EffectTask(tmp_path, steps=(10, 40), seeds=2, processes=1)


@pytest.mark.parametrize(
    ("name", "in_the_table"),
    [("default", "CSC"), ("decoder alone", "CSC-decoder"), ("default_local", "CSC+local-.375")],
)
def test_the_first_networks_are_those_of_the_table(name, in_the_table):
    space = Space(read_stages(stock_entry(), PATCH))
    settings = architecture_of(space.settings(space.first()[name]))["arch_kwargs"]
    wanted = network_of(MAIN_SETTINGS[in_the_table]).shift_settings
    assert [tuple(groups) for groups in settings["spatial_groups"]] == list(wanted.spatial_groups)
    assert tuple(settings["shift_channels"]) == wanted.shift_channels
    assert tuple(settings["local_shift_channels"]) == wanted.local_shift_channels
    assert (settings["shift_position"], settings["shift_location"]) == (wanted.shift_position, wanted.shift_location)


def test_settings_that_make_no_network_are_refused():
    with pytest.raises(RefusedSettingsError, match="must be at most 1"):
        architecture_of({"shift_ratio": 1, "local_shift_ratio": 0.5})


def test_runs_that_have_a_file_are_not_trained_and_their_mean_counts(task, monkeypatch):
    network = task.network({})
    for seed, dice in ((0, 0.7), (1, 0.8)):
        (task.folder / f"{network.name}_seed{seed}_steps40.json").write_text(json.dumps({"dice": dice}))
    monkeypatch.setattr(effect_search, "ProcessPoolExecutor", None)
    assert task.train([network], rung=1) == [pytest.approx(0.75)]


def test_the_report_counts_steps(task, monkeypatch):
    monkeypatch.setattr(EffectTask, "train", lambda self, networks, rung: [0.5] * len(networks))
    search = Search(Space(read_stages(stock_entry(), PATCH)), task, task.folder / "journal")
    search.run(1)
    assert "100 steps, as many as 2.5 trainings of 40 steps." in report_of(search, task, 1.0).markdown()
