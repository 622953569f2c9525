"""Dice for cost: the trained networks of the tables `networks` and `variations` on one page.

    python -m benchmarks.accuracy plans -d 904                          # nnUNetPlansHalf: a plan for two CPU cores
    nnUNetv2_gsp experiments networks -d 904 -p nnUNetPlansHalf -tr nnUNetTrainer_5epochs -device cpu -n 2
    nnUNetv2_gsp experiments networks -d 904 -p nnUNetPlansHalf -tr nnUNetTrainerGSP_5epochs -device cpu -n 2
    python -m benchmarks.accuracy page -d 904 -tr nnUNetTrainer_5epochs nnUNetTrainerGSP_5epochs -o docs/results

The first trainer's stock network is the baseline. A network that was not trained in every fold stands in a table of the
first fold alone, if it was trained there.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from matplotlib.figure import Figure
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor, nn

from benchmarks.measuring import Contender, environment, peak_megabytes
from benchmarks.page import Cell, Row, Table, markdown, measured_on
from benchmarks.training import training_step
from nnunetv2_gsp.comparison.comparison import Comparison, compare
from nnunetv2_gsp.comparison.paired import PairedDifference
from nnunetv2_gsp.comparison.pictures import style_of
from nnunetv2_gsp.comparison.trained_models import pair_trained_models
from nnunetv2_gsp.counting import count_architecture
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.experiments.experiment import Experiment
from nnunetv2_gsp.experiments.runs import TrainingRun
from nnunetv2_gsp.experiments.tables import TableRow
from nnunetv2_gsp.files import whole, write_json, write_text
from nnunetv2_gsp.metrics.definitions import DEFINITIONS, DICE, HD95, nsd_at
from nnunetv2_gsp.nnunet import N_FOLDS
from nnunetv2_gsp.plans import effective_configurations, load_dataset_json, load_plans, preprocessed_folder
from nnunetv2_gsp.timing import Timing, interleaved

CONFIGURATION, HALF = "3d_fullres", "nnUNetPlansHalf"
TABLES = ("networks", "variations")


@dataclass(frozen=True)
class Trained:
    """A network of the tables that was trained in every fold.

    Attributes:
        name: name in the table, such as "CSC".
        row: the row of one of its folds.
        plans: name of its plans.
        configuration: its configuration, with the network.
    """

    name: str
    row: TableRow
    plans: str
    configuration: Mapping[str, Any]


@dataclass(frozen=True)
class Cost:
    """What a network costs.

    Attributes:
        parameters: number of learnt parameters.
        macs: multiply-accumulates of a forward pass of one patch.
        megabytes: peak memory of a forward pass of one patch, weights included; None where it was not measured.
        prediction: time of a forward pass of one patch; None where it was not measured.
        step: time of a training step of the plan's batch; None where it was not measured.
    """

    parameters: int
    macs: int
    megabytes: float | None = None
    prediction: Timing | None = None
    step: Timing | None = None


def half_plans(dataset: str) -> Path:
    """Write nnU-Net's plans with half the channels and batches of two patches, which two CPU cores train in minutes."""
    folder = preprocessed_folder(dataset)
    plans = deepcopy(load_plans(folder, "nnUNetPlans"))
    configuration = plans["configurations"][CONFIGURATION]
    kwargs = configuration["architecture"]["arch_kwargs"]
    kwargs["features_per_stage"] = [channels // 2 for channels in kwargs["features_per_stage"]]
    configuration["batch_size"] = 2
    file = folder / f"{HALF}.json"
    write_json({**plans, "plans_name": HALF, "configurations": {CONFIGURATION: configuration}}, file)
    return file


def trained_networks(dataset: str, plans: str, trainers: Sequence[str], folds: Sequence[int]) -> list[Trained]:
    """Return the networks that were trained in every fold; the planned one by the first trainer comes first."""
    found = []
    for trainer, table in product(trainers, TABLES):
        experiment = Experiment(
            table, preprocessed_folder(dataset), CONFIGURATION, plans, [trainer], device="cpu", folds=folds
        )
        runs_of: dict[str, list[TrainingRun]] = {}
        for run in experiment.runs:
            runs_of.setdefault(str(run.row.network), []).append(run)
        for name, runs in runs_of.items():
            if all(run.finished for run in runs):
                configuration = effective_configurations(experiment.plans[runs[0].plans])[CONFIGURATION]
                found.append(Trained(name, runs[0].row, runs[0].plans, configuration))
    return found


def compared(dataset: str, networks: Sequence[Trained], folds: Sequence[int]) -> Comparison:
    """Score the validation of every network; the first one is the baseline."""
    pairing = pair_trained_models(
        dataset,
        [network.row.trainer for network in networks],
        configuration=CONFIGURATION,
        plans_names=[network.plans for network in networks],
        folds=[str(fold) for fold in folds],
    )
    return compare(pairing, DEFINITIONS["directed"])


def costs(networks: Sequence[Trained], channels: int, heads: int, rounds: int) -> list[Cost]:
    """Count parameters and MACs, and time a patch and a training step of all networks in turns."""
    of_plans = {each.plans: each for each in networks}  # what a network costs is the same for all trainers
    counted = {
        plans: count_architecture(
            dict(each.configuration["architecture"]), each.configuration["patch_size"], channels, heads
        )
        for plans, each in of_plans.items()
    }
    if not rounds:
        return [Cost(*counted[each.plans]) for each in networks]
    megabytes, predictions, steps = dict[str, float](), {}, {}
    for plans, each in of_plans.items():
        shape = (each.configuration["batch_size"], channels, *each.configuration["patch_size"])
        megabytes[plans] = peak_megabytes(partial(_prediction, each, channels, heads))
        predictions[plans] = _prediction(each, channels, heads)
        steps[plans] = training_step(_network(each, channels, heads, is_training=True), shape, heads)
    timed, stepped = interleaved(predictions, rounds), interleaved(steps, rounds)
    return [
        Cost(*counted[each.plans], megabytes[each.plans], timed[each.plans], stepped[each.plans]) for each in networks
    ]


def _network(network: Trained, channels: int, heads: int, is_training: bool) -> nn.Module:
    torch.manual_seed(0)
    architecture = network.configuration["architecture"]
    built: nn.Module = get_network_from_plans(
        architecture["network_class_name"],
        architecture["arch_kwargs"],
        architecture["_kw_requires_import"],
        channels,
        heads,
        deep_supervision=is_training,
    )
    return built.train(is_training)


def _prediction(of: Trained, channels: int, heads: int) -> Contender:
    network = _network(of, channels, heads, is_training=False)
    image = torch.randn(1, channels, *of.configuration["patch_size"])

    def predict() -> Tensor:
        with torch.inference_mode():
            logits: Tensor = network(image)
        return logits

    return predict


def dice_table(title: str, comparison: Comparison, networks: Sequence[Trained], cost: Sequence[Cost]) -> Table:
    """Return a row for each network: Dice with its spread and its test against the first one, and what it costs."""
    names = [contender.name for contender in comparison.pairing.contenders]
    of_name = {test.contender: test for test in comparison.primary if test.baseline == names[0]}
    beside: list[Row] = [{}, *(_test_cells(of_name[name]) for name in names[1:])]
    rows: list[Row] = []
    for network, name, of_test, of_cost in zip(networks, names, beside, cost, strict=True):
        dice = _mean_dice(comparison, name)
        rows.append(
            {
                **_name_cells(network, networks),
                "Dice": f"{mean(dice.values()):.4f}",
                "SD of folds": _fold_deviation(comparison, dice),
                **{key: of_test.get(key) for key in ("difference", "p (Holm)", "wins : losses")},
                "parameters": f"{of_cost.parameters:,}",
                "MMACs": f"{of_cost.macs / 1e6:,.0f}",
                "stock's MACs": f"{cost[0].macs / of_cost.macs:.1f}×",
                "patch, MB": of_cost.megabytes,
                "patch, ms": of_cost.prediction,
                "step, ms": of_cost.step,
            }
        )
    note = (
        f"{len(comparison.cases)} cases. The difference is the typical one (Hodges and Lehmann), not that of the "
        f"means, with an interval at the level of Holm's step; p is that of Wilcoxon's signed ranks. "
        f"{comparison.definition.in_words}"
    )
    return Table(title, rows, note)


def structures_table(title: str, comparison: Comparison, networks: Sequence[Trained]) -> Table:
    """Return a row for each network: mean and standard deviation over cases of each score of each structure."""
    names = [contender.name for contender in comparison.pairing.contenders]
    rows = [
        {**_name_cells(each, networks), **_by_structure(comparison, name)}
        for each, name in zip(networks, names, strict=True)
    ]
    return Table(title, rows, "Mean ± standard deviation over the cases; HD95 in mm, NSD at 1 mm.")


def _name_cells(network: Trained, networks: Sequence[Trained]) -> Row:
    """Return the name, which no other row has, and the trainer."""
    is_only = sum(other.name == network.name for other in networks) == 1
    return {
        "": network.name if is_only else f"{network.name}, {network.row.trainer}",
        "trainer": network.row.trainer,
    }


def _test_cells(test: PairedDifference) -> Row:
    low, high = test.typical_interval
    return {
        "difference": f"{test.typical_difference:+.4f} ({low:+.4f} to {high:+.4f})",
        "p (Holm)": f"{test.p_holm:.2g}",
        "wins : losses": f"{test.wins} : {test.losses}",
    }


def _by_structure(comparison: Comparison, name: str) -> Row:
    values: dict[str, Cell] = {}
    for region in comparison.regions:
        for metric, digits in ((DICE, 3), (HD95, 2), (nsd_at(1.0), 3)):
            scores = [score for score in comparison.scores_of(name, region, metric.name) if score == score]
            values[f"{metric.name} {region}"] = f"{mean(scores):.{digits}f} ± {stdev(scores):.{digits}f}"
    return values


def _mean_dice(comparison: Comparison, name: str) -> dict[str, float]:
    """Return the mean Dice over the structures of every case."""
    by_region = [comparison.scores_of(name, region, DICE.name) for region in comparison.regions]
    return {case: mean(values) for case, values in zip(comparison.cases, zip(*by_region, strict=True), strict=True)}


def _fold_deviation(comparison: Comparison, dice: Mapping[str, float]) -> str | None:
    folds: dict[str, list[float]] = {}
    for case, value in dice.items():
        folds.setdefault(comparison.pairing.folds[case], []).append(value)
    return f"{stdev(map(mean, folds.values())):.4f}" if len(folds) > 1 else None


def draw(table: Mapping[str, Any], file: Path) -> None:
    """Draw the Dice of every row over its multiply-accumulates: above and to the left is better."""
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, trainer in enumerate(dict.fromkeys(row["trainer"] for row in table["rows"])):
        rows = [row for row in table["rows"] if row["trainer"] == trainer]
        places = [(float(row["MMACs"].replace(",", "")), float(row["Dice"])) for row in rows]
        style = {key: style_of(number)[key] for key in ("color", "marker")}
        axes.plot(*zip(*places, strict=True), linestyle="none", label=trainer, **style)
        for row, place in zip(rows, places, strict=True):
            name = row[""].removesuffix(f", {trainer}")
            axes.annotate(name, place, xytext=(6, -3), textcoords="offset points", fontsize=8)
    axes.legend(loc="lower right", fontsize=8)
    axes.set(xscale="log", xlabel="10⁶ multiply-accumulates of a patch", ylabel="mean Dice", title=table["title"])
    axes.margins(x=0.2)
    axes.grid(alpha=0.3)
    with whole(file) as unfinished:
        figure.savefig(unfinished, format="svg", metadata={"Date": None})


def write_page(arguments: argparse.Namespace) -> None:
    """Score, measure and write the page, with its numbers in JSON and its picture beside it."""
    folder = preprocessed_folder(arguments.d)
    tables = [table for trainers in arguments.tr for table in _tables(arguments, trainers)]
    if not tables:
        raise InputError("a planned network and another one that have finished", "none", where=folder)
    measured = {"date": date.today().isoformat(), **environment()}
    splits = json.loads((folder / "splits_final.json").read_text(encoding="utf-8"))
    validated = {fold: splits[fold]["val"] for fold in arguments.f}
    content = json.loads(json.dumps({"measured": measured, "tables": tables, "cases": validated}, default=asdict))
    picture = arguments.o / f"{folder.name}.svg"
    text = [
        f"# {folder.name}: Dice for cost\n",
        f"![Mean Dice over multiply-accumulates of every network]({picture.name})\n",
        *map(markdown, content["tables"]),
        measured_on(measured),
    ]
    write_json(content, arguments.o / f"{folder.name}.json")
    draw(content["tables"][0], picture)
    write_text("\n".join(text), arguments.o / f"{folder.name}.md")


def _tables(arguments: argparse.Namespace, trainers: Sequence[str]) -> list[Table]:
    """Return the tables of what was trained in every fold, and of what was trained in the first fold alone."""
    tables: list[Table] = []
    shown: set[tuple[str, str]] = set()
    for folds in dict.fromkeys((tuple(arguments.f), tuple(arguments.f[:1]))):
        found = trained_networks(arguments.d, arguments.p, trainers, folds)
        networks = [each for each in found if each.row.template is None or (each.plans, each.row.trainer) not in shown]
        is_new = any((each.plans, each.row.trainer) not in shown for each in networks)
        if len(networks) < 2 or not is_new or networks[0].row.template is not None:  # without it, no baseline
            continue
        comparison = compared(arguments.d, networks, folds)
        rounds = 0 if tables else arguments.rounds  # what a network costs does not depend on the fold
        cost = costs(networks, *_channels_and_heads(arguments), rounds)
        which = f"folds {', '.join(map(str, folds))}" if len(folds) > 1 else f"fold {folds[0]} alone"
        title = f"{trainers[0]}, {which}"
        tables += [
            dice_table(title, comparison, networks, cost),
            structures_table(f"{title}, by structure", comparison, networks),
        ]
        shown |= {(each.plans, each.row.trainer) for each in networks}
    return tables


def _channels_and_heads(arguments: argparse.Namespace) -> tuple[int, int]:
    folder = preprocessed_folder(arguments.d)
    dataset_json = load_dataset_json(folder)
    manager = PlansManager(load_plans(folder, arguments.p))
    channels: int = determine_num_input_channels(manager, CONFIGURATION, dataset_json)
    return channels, manager.get_label_manager(dataset_json).num_segmentation_heads


def main() -> None:
    """Write the plans, or the page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(required=True)
    plans = verbs.add_parser("plans", help="write plans that train on two cores")
    plans.set_defaults(run=lambda arguments: print(half_plans(arguments.d)))
    page = verbs.add_parser("page", help="score the trained networks and write the page")
    for verb in (plans, page):
        verb.add_argument("-d", required=True, metavar="DATASET", help="name or id of the dataset")
    page.add_argument("-p", default=HALF, metavar="PLANS", help="plans of the tables (default: %(default)s)")
    page.add_argument(
        "-tr",
        nargs="+",
        action="append",
        required=True,
        metavar="TRAINER",
        help="trainers of one table, the baseline's first; once more for another table, as of another length",
    )
    page.add_argument(
        "-f", nargs="+", type=int, default=list(range(N_FOLDS)), metavar="FOLD", help="folds (default: all)"
    )
    page.add_argument("-o", type=Path, required=True, metavar="FOLDER", help="folder for the page and its numbers")
    page.add_argument("--rounds", type=int, default=10, help="timed rounds; 0 times nothing (default: %(default)s)")
    page.set_defaults(run=write_page)
    arguments = parser.parse_args()
    try:
        arguments.run(arguments)
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
