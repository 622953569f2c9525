"""Tables of a comparison: a row for each test, digits, marks, and costs where they are known."""

from dataclasses import replace

import pytest

from nnunetv2_gsp.comparison.comparison import Comparison
from nnunetv2_gsp.comparison.costs import ModelCost
from nnunetv2_gsp.comparison.paired import Location
from nnunetv2_gsp.comparison.result_tables import result_tables, score_text, with_prefix
from nnunetv2_gsp.metrics.definitions import DICE, HD95


def by_heading(comparison):
    return {titled.heading: titled.table for titled in result_tables(comparison)}


def test_the_primary_endpoint_comes_first_then_each_contender(comparison):
    tables = by_heading(comparison)
    primary = "Primary endpoint: mean Dice over regions"
    assert list(tables) == [
        primary,
        "good against poor, by region",
        "equal against poor, by region",
        "good against poor, by region: NSD at 1 mm, ABD",
        "equal against poor, by region: NSD at 1 mm, ABD",
    ]
    assert [titled.is_folded for titled in result_tables(comparison)] == [False, False, False, True, True]
    assert [row[0] for row in tables[primary].rows] == ["good against poor", "equal against poor", "equal against good"]
    assert [(row[0], row[1]) for row in tables["good against poor, by region"].rows[:2]] == [
        ("whole <tumor>", "Dice ↑"),
        ("whole <tumor>", "HD95 (mm) ↓"),
    ]
    assert {len(table.rows) for heading, table in tables.items() if "by region" in heading} == {2 * 2}


def test_the_families_are_named_with_their_numbers_of_tests(comparison):
    assert result_tables(comparison)[0].words == (
        "Families of tests, each corrected by itself: primary, against the baseline (2); primary, among the others "
        "(1); Dice by region (4); HD95 by region (4); NSD at 1 mm by region (4); ABD by region (4)."
    )


def test_what_is_significant_is_marked_and_has_a_star(comparison):
    table = by_heading(comparison)["good against poor, by region"]
    starred = {number for number, row in enumerate(table.rows) if row[table.header.index("p, Holm")].endswith(" *")}
    of_good = [each for each in comparison.paired if each.contender == "good" and each.metric in ("Dice", "HD95")]
    significant = [each.is_significant for each in of_good]
    assert table.marked == starred == {number for number, is_so in enumerate(significant) if is_so}
    assert starred
    assert not by_heading(comparison)["equal against poor, by region"].marked


def test_what_was_found_is_written_out(comparison):
    first, *others = comparison.paired
    odd = replace(
        first,
        p_holm=0.0004,
        dropped=2,
        typical_interval=(0.25, 0.5),
        confidence=1 - 0.05 / 3,
        baseline_median=0.5,
        baseline_mean=0.25,
        effect_size=0.875,
        wins=9,
        ties=1,
        losses=4,
    )
    [_, titled, *_] = result_tables(replace(comparison, paired=[odd, *others]))
    row = dict(zip(titled.table.header, titled.table.rows[0], strict=True))
    assert row["poor: median (mean)"] == "0.5000 (0.2500)"
    assert row["p, Holm"] == "< 0.001 *"
    assert row["pairs (dropped)"] == f"{first.n} (2)"
    assert row["its interval"] == "+0.2500 to +0.5000 (98.3 %)"
    assert row["effect size"] == "+0.88"
    assert row["wins / ties / losses"] == "9 / 1 / 4"


def test_where_there_are_penalties_a_row_leaves_them_out(comparison):
    first, *others = comparison.paired
    without = Location(11, 0.5, 0.75, 0.6, 0.8, 0.25, 0.2, 0.125, (0.0625, 0.1875))
    odd = replace(first, baseline_penalties=2, contender_penalties=3, without_penalties=without)
    [_, titled, *_] = result_tables(replace(comparison, paired=[odd, *others]))
    table = titled.table
    assert table.rows[0][table.header.index("penalty cases, each")] == "2, 3"
    assert table.rows[1][:2] == ["whole <tumor>", "Dice ↑, no penalties"]
    row = dict(zip(table.header, table.rows[1], strict=True))
    assert row["good: median (mean)"] == "0.8000 (0.7500)"
    assert row["typical difference"] == "+0.1250"
    assert (row["p, Holm"], row["pairs (dropped)"]) == ("", "11")
    assert len(table.rows) == 2 * 2 + 1
    of_good = [each for each in (odd, *others) if each.contender == "good" and each.metric in ("Dice", "HD95")]
    assert table.marked == {place + (place > 0) for place, each in enumerate(of_good) if each.is_significant}


def test_costs_are_shown_where_any_is_known(comparison):
    cost = ModelCost(31_195_784, 7_910_000_000, 1234.5, 3.14159, None, 5_000_000)
    pairing = comparison.pairing
    contenders = [replace(pairing.contenders[0], cost=cost), *pairing.contenders[1:]]
    known = Comparison(
        replace(pairing, contenders=contenders), comparison.definition, comparison.scores, comparison.paired
    )
    titled = result_tables(known)[-1]
    assert titled.heading == "What it cost"
    table = titled.table
    assert table.text().splitlines()[0].split() == ["poor", "good", "equal"]
    assert [row[1:3] for row in table.rows] == [
        ["31.2 M", ""],
        ["7.91 G", ""],
        ["1234", ""],
        ["3.14", ""],
        ["", ""],
        ["5", ""],
    ]


def test_scores_have_the_digits_that_their_metric_needs():
    assert score_text(0.123456, DICE) == "0.1235"
    assert score_text(-3.14159, HD95, signed=True) == "-3.14"
    assert score_text(0.5, DICE, signed=True) == "+0.5000"
    assert score_text(float("nan"), HD95) == "–"


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (None, ""),
        (0, "0"),
        (999, "999"),
        (1000, "1 k"),
        (999_499, "999 k"),
        (999_600, "1 M"),
        (10**9, "1 G"),
        (31_195_784, "31.2 M"),
    ],
)
def test_counts_are_rounded_to_three_digits(count, shown):
    assert with_prefix(count) == shown
