"""The page of Dice for cost: its plans, and what stands in its table."""

import json
from dataclasses import asdict, replace
from statistics import mean, stdev

from benchmarks.accuracy import HALF, Cost, Trained, costs, dice_table, draw, half_plans, structures_table
from nnunetv2_gsp.comparison.comparison import compare
from nnunetv2_gsp.comparison.pairing import pair_folders
from nnunetv2_gsp.experiments.tables import TableRow
from nnunetv2_gsp.metrics.definitions import DEFINITIONS
from tests.comparison.contenders import LABELS, write_predictions
from tests.metrics.drawings import write_dataset_json
from tests.planned_dataset import effective, stock_plans, write_stock_plans


def trained(name):
    configuration = effective(stock_plans(), "3d_lowres")
    return Trained(name, TableRow(name, trainer="nnUNetTrainer"), "nnUNetPlans", configuration)


def test_half_plans_have_half_the_channels_and_nothing_else_changes(tmp_path, monkeypatch):
    folder = write_stock_plans(tmp_path, monkeypatch)
    stock_file = folder / "nnUNetPlans.json"
    stock_file.write_text(stock_file.read_text().replace('"batch_size": 2', '"batch_size": 9'))
    plans = json.loads(half_plans("904").read_text())
    assert plans["plans_name"] == HALF
    half, stock = (effective(each, "3d_fullres") for each in (plans, stock_plans()))
    widths = stock["architecture"]["arch_kwargs"]["features_per_stage"]
    assert half["architecture"]["arch_kwargs"].pop("features_per_stage") == [width // 2 for width in widths]
    stock["architecture"]["arch_kwargs"].pop("features_per_stage")
    assert half.pop("batch_size") == 2
    stock.pop("batch_size")
    assert half == stock
    assert (folder / "nnUNetPlans.json").is_file()


def test_costs_are_counted_and_timed():
    [counted] = costs([trained("stock")], channels=1, heads=3, rounds=0)
    [timed] = costs([trained("stock")], channels=1, heads=3, rounds=1)
    assert (counted.parameters, counted.macs) == (timed.parameters, timed.macs)
    assert counted.step is counted.megabytes is None
    assert min(timed.megabytes, timed.prediction.median_ms, timed.step.median_ms) > 0


def test_a_row_has_the_dice_its_spread_and_its_test_beside_the_cost(tmp_path):
    for name, noise in (("gt", 0.0), ("stock", 0.05), ("other", 0.5)):
        write_predictions(tmp_path / name, noise, cases=range(8))
    write_dataset_json(tmp_path, LABELS)
    pairing = pair_folders([tmp_path / name for name in ("stock", "other")], tmp_path / "gt")
    comparison = compare(
        replace(pairing, folds={case: str(number % 2) for number, case in enumerate(pairing.references)}),
        DEFINITIONS["directed"],
        processes=1,
    )
    names = [contender.name for contender in pairing.contenders]
    networks = [trained(name) for name in names]
    table = dice_table("five epochs", comparison, networks, [Cost(100, 4_000_000), Cost(10, 1_000_000)])
    baseline, other = table.rows
    by_region = [comparison.scores_of(names[1], region, "Dice") for region in comparison.regions]
    dice = [mean(scores) for scores in zip(*by_region, strict=True)]
    assert other["Dice"] == f"{mean(dice):.4f}"
    assert other["SD of folds"] == f"{stdev((mean(dice[::2]), mean(dice[1::2]))):.4f}"
    assert baseline.get("difference") is None
    assert other["difference"].startswith("-")
    assert other["p (Holm)"] == "0.0078"  # eight losses of eight: 2 / 2^8
    assert other["wins : losses"] == "0 : 8"
    assert (baseline["stock's MACs"], other["stock's MACs"]) == ("1.0×", "4.0×")
    by_structure = structures_table("by structure", comparison, networks).rows
    first = comparison.regions[0]
    scores = comparison.scores_of(names[1], first, "Dice")
    assert by_structure[1][f"Dice {first}"] == f"{mean(scores):.3f} ± {stdev(scores):.3f}"
    draw(asdict(table), tmp_path / "front.svg")
    assert "mean Dice" in (tmp_path / "front.svg").read_text()
