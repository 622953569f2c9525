"""What came out beside the paper, typed by hand."""

from nnunetv2_gsp.experiments.report import as_csv, as_markdown, cells_of
from nnunetv2_gsp.experiments.runs import RunState, TrainingRun
from nnunetv2_gsp.experiments.tables import TableRow

LABELS = {"background": 0, "prostate": 1}


def test_figures_stand_beside_the_papers_and_what_is_missing_is_blank(tmp_path):
    rows = [TableRow("CSC", paper={"mDice": 85.6}), TableRow("CCS", fold=1, paper={"mDice": 84.3})]
    runs = [TrainingRun(row, "Dataset001_Any", "3d_fullres", "nnUNetPlans", "cpu", tmp_path) for row in rows]
    runs[0].summary.parent.mkdir(parents=True)
    runs[0].summary.write_text('{"mean": {"1": {"Dice": 0.875}}}')
    table = cells_of(runs, [RunState.FINISHED, RunState.NOT_STARTED], LABELS)
    lines = as_markdown("Table 2", table, runs).splitlines()
    assert [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]] == [
        ["run", "mDice", "mDice, paper", "prostate", "state"],
        ["-----", "------:", "-------------:", "---------:", "------------:"],
        ["CSC", "87.5", "85.6", "87.5", "finished"],
        ["CCS", "", "84.3", "", "not started"],
    ]
    assert lines[:2] == ["Table 2", ""]
    assert as_csv(table).splitlines()[1:] == ["CSC,87.5,85.6,87.5,finished", "CCS,,84.3,,not started"]


def test_over_folds_a_label_that_one_of_them_lacks_is_blank(tmp_path):
    rows = [TableRow("CSC, fold 0", network="CSC"), TableRow("CSC, fold 1", fold=1, network="CSC")]
    runs = [TrainingRun(row, "Dataset001_Any", "3d_fullres", "nnUNetPlans", "cpu", tmp_path) for row in rows]
    for run, rare in zip(runs, ("0.5", "NaN"), strict=True):  # as nnU-Net writes it
        run.summary.parent.mkdir(parents=True)
        run.summary.write_text(f'{{"mean": {{"1": {{"Dice": 0.75}}, "2": {{"Dice": {rare}}}}}}}')
    labels = {**LABELS, "rare": 2}
    table = cells_of(runs, [RunState.FINISHED] * 2, labels)
    last = as_markdown("Folds", table, runs).splitlines()[-1]
    assert [cell.strip() for cell in last.strip("|").split("|")] == [
        "CSC, mean ± SD of 2 folds",
        "",
        "75.0 ± 0.0",
        "",
        "",
    ]
