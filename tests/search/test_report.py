"""What is written of a search, made of hand-written trials."""

import csv
import io

import pytest

from nnunetv2_gsp.search.report import MILLISECONDS, Report
from nnunetv2_gsp.search.study import Network, TrialOutcome, TrialRecord
from tests.search.landscape import SPACE

RUNGS = ("short", "long")


def trial(number, outcome, macs, *dice, name="", **chosen):
    choice = SPACE.choice(**chosen)
    network = Network(f"plans{number}", SPACE.settings(choice), 1000, macs * 10**9)
    return TrialRecord(number, name, choice, network, dice, outcome)


RECORDS = [
    trial(0, TrialOutcome.FINISHED, 4, 0.5, 0.80, name="default"),
    trial(1, TrialOutcome.PRUNED, 4, 0.95),
    trial(2, TrialOutcome.FINISHED, 2, 0.6, 0.85, shift_ratio=0.0, local_shift_ratio=0.5, width=0.75),
    trial(3, TrialOutcome.OVER_BUDGET, 90, shift_ratio=0.0),
    trial(4, TrialOutcome.FINISHED, 1, 0.5, 0.70, shift_ratio=0.0),
    TrialRecord(5, "", SPACE.choice(), None, (), TrialOutcome.REFUSED),
    trial(6, TrialOutcome.REPEATED, 1),
]


def report(records=RECORDS, **options):
    return Report("Search on Dataset1", SPACE, RUNGS, records, **{"budget": 5, "notes": ["A note."], **options})


def test_the_front_and_the_winner_are_of_the_longest_trainings():
    assert [record.number for record in report().front] == [4, 2]
    assert report().winner.number == 2
    assert report().verdict() == (
        "Best Dice: trial 2, Dice 0.850 at 2 GMACs. Trial 0 (default): Dice 0.800 at 4 GMACs, below the front of 2."
    )


def test_a_default_that_nothing_beats_is_on_the_front():
    assert report([RECORDS[0], RECORDS[4]]).verdict() == "Best Dice: trial 0 (default), Dice 0.800 at 4 GMACs."
    better = trial(7, TrialOutcome.FINISHED, 5, 0.5, 0.9)
    assert report([RECORDS[0], better]).verdict().endswith("Dice 0.800 at 4 GMACs, on the front of 2.")


def test_the_table_has_the_trained_ones_the_best_first():
    table = report().table()
    assert [row[0] for row in table.rows] == ["2", "0 (default)", "4", "1"]
    assert [row[-1] for row in table.rows] == ["on the front", "finished", "on the front", "pruned"]
    assert table.marked == {0, 2}
    local = dict(zip(table.header, table.rows[0], strict=True))
    assert (local["groups"], local["ratio"], local["local ratio"], local["width"]) == ("", "0", "0.5", "0.75")
    assert (local["parameters"], local["GMACs"], local["short"], local["long"]) == ("1,000", "2", "0.600", "0.850")
    pointwise = dict(zip(table.header, table.rows[2], strict=True))
    assert pointwise["groups"] == pointwise["position"] == pointwise["location"] == ""


def test_the_csv_has_all_trials_with_all_digits():
    rows = list(csv.DictReader(io.StringIO(report().csv())))
    assert [row["state"] for row in rows] == [
        "finished",
        "pruned",
        "on the front",
        "over budget",
        "on the front",
        "makes no network",
        "repeated",
    ]
    assert (rows[2]["macs"], rows[2]["plans"], rows[2]["long"]) == ("2000000000", "plans2", "0.85")
    assert rows[5]["plans"] == ""


def test_markdown_counts_what_was_not_trained():
    text = report().markdown()
    assert "- Not trained: 1 over the budget of 5 GMACs, 1 that make no network, 1 repeated.\n- A note.\n" in text
    assert "- Not trained: 1 that make no network, 1 repeated." in report(budget=None).markdown()


def test_the_page_has_verdict_picture_table_and_notes():
    page = report().html()
    assert report().verdict() in page
    assert 'src="data:image/svg+xml;base64,' in page
    assert 'alt="Dice against GMACs of 3 finished trials, 2 of them on the front' in page
    assert page.count('<tr class="marked">') == 2
    assert "<p>A note.</p>" in page


def test_the_template_has_the_winners_settings():
    content = report().template()
    assert content["description"] == "trial 2 of a search: Dice 0.850 at 2 GMACs"
    assert content["source"] == "Search on Dataset1; Dice after long"
    assert content["local_shift_ratio"] == 0.5
    assert content["features_per_stage"] == [12, 24, 48, 96]


def test_before_a_trial_has_finished_there_is_no_winner(tmp_path):
    unfinished = report([trial(0, TrialOutcome.RUNNING, 4, 0.5)])
    assert unfinished.verdict() == "No trial has come to the end of long yet."
    assert {file.name for file in unfinished.write(tmp_path)} == {"search.md", "search.csv", "search.html"}
    with pytest.raises(ValueError, match="no winner"):
        unfinished.template()
    report().write(tmp_path)
    assert (tmp_path / "winner.json").is_file()


def test_milliseconds_have_a_column_and_are_the_cost():
    timed = [
        TrialRecord(
            0, "", SPACE.choice(), Network("a", {}, 10, 10**9, milliseconds=12.34), (0.5, 0.8), TrialOutcome.FINISHED
        )
    ]
    table = report(timed, unit=MILLISECONDS).table()
    assert dict(zip(table.header, table.rows[0], strict=True))["ms"] == "12.3"
    assert report(timed, unit=MILLISECONDS).verdict() == "Best Dice: trial 0, Dice 0.800 at 12.3 ms."
