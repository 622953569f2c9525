"""Tables that describe: their rows, and what stands where there is nothing."""

from nnunetv2_gsp.comparison.comparison import compare
from nnunetv2_gsp.comparison.summary_tables import (
    agreement_table,
    case_table,
    rank_table,
    spread_table,
    volume_table,
)
from nnunetv2_gsp.metrics.definitions import DEFINITIONS
from tests.comparison.contenders import N_CASES, paired_models
from tests.comparison.test_summaries import with_values


def test_spread_has_a_row_for_each_region_metric_and_contender(comparison):
    known = with_values(comparison, "core", "HD95", good=[1.0, 2.0, 3.0])
    table = spread_table(known)
    assert len(table.rows) == 2 * 4 * 3
    [row] = [row for row in table.rows if row[:3] == ["core", "HD95 (mm)", "good"]]
    assert row[4:] == ["1.00", "3.00", "3.00", "3.00", "3.00", str(N_CASES), f"2.81 ± 0.54 ({N_CASES})"]


def test_the_best_ranks_first(comparison):
    table = rank_table(comparison)
    assert [row[0] for row in table.rows] == ["good", "poor", "equal"]
    assert table.rows[1][1] == table.rows[2][1] == "2.50"  # they are the same
    assert table.rows[0][2] == f"{N_CASES} of {N_CASES}"


def test_groups_by_volume_have_medians_of_each_contender(comparison):
    known = with_values(comparison, "core", "reference_mm3", poor=[0.0, 1000.0, 2000.0])
    known = with_values(known, "core", "Dice", poor=[0.25, 0.5, 0.75], good=[float("nan"), 0.5])
    rows = [row for row in volume_table(known).rows if row[0] == "core"]
    assert rows[0] == ["core", "empty", "0", "1", "0.2500", "–", rows[0][-1]]
    assert rows[1][1:4] == ["smallest third", "1 to 2", "5"]
    assert rows[1][4:6] == ["0.7500", "0.5000"]


def test_agreement_has_a_row_for_each_region_and_contender(comparison):
    known = with_values(comparison, "core", "prediction_mm3", good=[0.0])
    known = with_values(known, "core", "reference_mm3", good=[0.0])
    rows = agreement_table(known).rows
    assert [row[:2] for row in rows[:2]] == [["whole <tumor>", "poor"], ["whole <tumor>", "good"]]
    assert rows[4] == ["core", "good", "–", "–", "0"]


def test_all_cases_are_listed_with_their_differences(comparison, trained):
    table = case_table(comparison)
    assert table.header == [
        "case",
        "poor",
        "good",
        "equal",
        "good minus poor",
        "equal minus poor",
        "largest region, ml",
        "contenders with a penalty",
    ]
    assert [row[0] for row in table.rows] == comparison.cases
    scores = comparison.endpoint_scores(["poor", "good"])
    assert table.rows[3][1:3] == [f"{score:.4f}" for score in scores[:, 3]]
    assert table.rows[3][4:6] == [f"{scores[1, 3] - scores[0, 3]:+.4f}", "+0.0000"]
    assert table.rows[3][7] == "0"
    of_models = case_table(compare(paired_models(), DEFINITIONS["directed"], 1))
    assert of_models.header[1] == "fold"
    assert of_models.rows[-1][1] == "1"
