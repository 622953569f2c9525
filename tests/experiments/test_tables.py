"""The tables ask for the paper's runs. Values and settings are typed from its Tables 1 and 2 and Sec. 3.1 and 3.2."""

import pytest

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.experiments.tables import TABLES, rows_of
from nnunetv2_gsp.plans_templates import load_template

PROMISE12, BRATS18 = 1, 4  # channels
BRATS_GROUPS = [[2, 2, 2], [2, 2, 2], [2, 2, 2], [4, 4, 4], [5, 5, 5]]


def settings(row):
    """Return what a row asks of the shifts, the paper's defaults filled in."""
    defaults = {"shift_position": "CSC", "shift_location": "both", "shift_ratio": 0.5, "kernel": 1}
    return {**defaults, **load_template(row.template, row.settings).settings}


def asked(table, keys, channels=PROMISE12):
    """Return the rows as {values of the settings: the paper's mDice}."""
    return {tuple(str(settings(row)[key]) for key in keys): row.paper["mDice"] for row in rows_of(table, channels)}


def test_table1_of_either_dataset():
    pointwise, conv3d = rows_of("table1", BRATS18)
    assert dict(pointwise.paper) == {"WT": 86.4, "TC": 79.7, "ET": 72.7, "mDice": 79.6}
    assert dict(conv3d.paper) == {"WT": 89.0, "TC": 78.7, "ET": 73.7, "mDice": 80.5}
    assert {settings(row)["batch_size"] for row in (pointwise, conv3d)} == {4}
    for channels, patch in ((BRATS18, [64, 128, 128]), (PROMISE12, [16, 128, 128])):
        rows = rows_of("table1", channels)
        assert [settings(row)["shift_position"] for row in rows] == ["none", "none"]
        assert [settings(row)["kernel"] for row in rows] == [1, 3]
        assert all(settings(row)["patch_size"] == patch for row in rows)
    assert [row.paper["mDice"] for row in rows_of("table1", PROMISE12)] == [65.5, 87.3]


def test_table1_of_another_dataset_is_refused():
    with pytest.raises(InputError, match=r"4 channels \(BraTS18\) or 1 \(PROMISE12\) for table1, got one of 2"):
        rows_of("table1", 2)


def test_table2():
    v1 = "[[2, 2, 2], [2, 2, 2], [2, 4, 4], [1, 8, 8], [1, 8, 8]]"
    v2 = "[[1, 2, 2], [1, 4, 4], [2, 4, 4], [1, 8, 8], [1, 8, 8]]"
    v3 = "[[2, 2, 2], [1, 4, 4], [1, 4, 4], [1, 8, 8], [1, 8, 8]]"
    v4 = "[[1, 2, 2], [2, 2, 2], [2, 4, 4], [1, 8, 8], [1, 8, 8]]"
    assert asked("table2", ["spatial_groups", "shift_position"]) == {
        (v1, "CSC"): 84.9,
        (v1, "CCS"): 84.0,
        (v1, "CSCS"): 83.1,
        (v1, "CSCSUpShift"): 83.0,
        (v2, "CSC"): 84.5,
        (v2, "CCS"): 85.4,
        (v2, "CSCS"): 85.2,
        (v2, "CSCSUpShift"): 84.5,
        (v3, "CSC"): 85.6,
        (v3, "CCS"): 84.3,
        (v3, "CSCS"): 84.8,
        (v3, "CSCSUpShift"): 83.6,
        (v4, "CSC"): 85.0,
        (v4, "CCS"): 84.3,
        (v4, "CSCS"): 85.3,
        (v4, "CSCSUpShift"): 84.6,
    }


def test_ratio():
    v3 = "[[2, 2, 2], [1, 4, 4], [1, 4, 4], [1, 8, 8], [1, 8, 8]]"
    keys = ["spatial_groups", "shift_position", "shift_ratio"]
    assert asked("ratio", keys) == {(v3, "CSC", "0.5"): 85.6, (v3, "CSC", "1"): 81.4}


def test_brats_positions_and_location():
    keys = ["shift_position", "shift_location"]
    assert asked("brats-positions", keys, BRATS18) == {
        ("CSC", "both"): 81.2,
        ("CCS", "both"): 80.7,
        ("CSCS", "both"): 80.1,
        ("CSCSUpShift", "both"): 80.2,
    }
    assert asked("brats-location", keys, BRATS18) == {
        ("CSC", "encoder"): 81.5,
        ("CSC", "decoder"): 82.6,
        ("CSC", "both"): 81.2,
    }
    for table in ("brats-positions", "brats-location"):
        assert all(settings(row)["spatial_groups"] == BRATS_GROUPS for row in rows_of(table, BRATS18))


def test_cross_validation_compares_stock_and_gsp_in_five_folds():
    rows = rows_of("cross-validation", 3)
    assert {(row.trainer, row.fold) for row in rows} == {
        (trainer, fold) for trainer in ("nnUNetTrainer", "nnUNetTrainerGSP") for fold in range(5)
    }
    assert not any(row.template or row.paper for row in rows)
    assert [row.trainer for row in rows_of("cross-validation", 3, ["A", "B", "C"])] == ["A"] * 5 + ["B"] * 5 + ["C"] * 5


def test_cross_validation_takes_each_trainer_once():
    with pytest.raises(InputError, match="Expected different trainers for cross-validation, got A B A; name each once"):
        rows_of("cross-validation", 3, ["A", "B", "A"])


def test_networks_are_trained_in_the_same_folds():
    rows = rows_of("networks", 3)
    assert len({(row.network, row.fold) for row in rows}) == len(rows) == 65
    assert {row.network for row in rows if row.template is None} == {"stock"}
    of_fold_0 = [row for row in rows_of("networks", 3, folds=[0]) if row.template]
    asked = {row.network: settings(row) for row in of_fold_0}
    assert len({str(each) for each in asked.values()}) == len({row.name_of_setting for row in of_fold_0}) == 12
    assert [name for name, each in asked.items() if each["kernel"] == 3] == ["3×3×3"]
    assert [name for name, each in asked.items() if each["shift_position"] == "none"] == ["3×3×3", "pointwise"]
    assert asked["local shifts"]["shift_ratio"] == 0


def test_presets_cost_what_they_say_and_move_no_blocks():
    asked = {row.network: settings(row) for row in rows_of("networks", 3, folds=[0]) if row.template}
    assert [asked[name].get("width_multiplier", 1) for name in ("gsp_s", "gsp_m", "gsp_l")] == [0.5, 1, 1.5]
    assert {asked[name]["shift_ratio"] for name in ("gsp_s", "gsp_m", "gsp_l")} == {0}


def test_variations_are_other_networks_than_the_first():
    rows = rows_of("variations", 3, folds=[0])
    networks = rows_of("networks", 3, folds=[0])
    names = {row.name_of_setting for row in [*rows, *networks]}
    assert len(names) == len(rows) + len(networks)
    assert not any(character in name for name in names for character in " [],")  # they become names of files


@pytest.mark.parametrize(("table", "folds"), [("networks", [0, 7]), ("ratio", [1])])
def test_folds_that_a_table_does_not_have_are_named(table, folds):
    with pytest.raises(InputError, match=f"Expected folds that {table} has: 0.* got {', '.join(map(str, folds))}"):
        rows_of(table, PROMISE12, folds=folds)


@pytest.mark.parametrize(
    "table", [table for table in TABLES if table not in ("cross-validation", "networks", "variations")]
)
def test_a_run_of_the_paper_has_one_name_and_its_trainer(table):
    rows = rows_of(table, PROMISE12)
    assert len({row.name_of_setting for row in rows}) == len(rows) == len({str(settings(row)) for row in rows})
    assert {(row.trainer, row.fold) for row in rows} == {("nnUNetTrainerGSPPaper", 0)}
    with pytest.raises(InputError, match="Expected one trainer"):
        rows_of(table, PROMISE12, ["A", "B"])


def test_what_two_tables_share_is_one_run():
    [positions, location] = (
        {row.name_of_setting for row in rows_of(table, BRATS18)} for table in ("brats-positions", "brats-location")
    )
    assert positions & location == {"brats18_csc"}
    ratio = {row.name_of_setting for row in rows_of("ratio", PROMISE12)}
    assert ratio == {"promise12_prosgv3", "promise12_prosgv3_ratio1"}
