"""Writes a comparison as comparison.csv, .json, .md and .html; the page needs no other file."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nnunetv2_gsp.comparison.comparison import DEFAULT_PRIMARY, Comparison, compare
from nnunetv2_gsp.comparison.page import as_html, title_of
from nnunetv2_gsp.comparison.paired import PairedDifference
from nnunetv2_gsp.comparison.pairing import Pairing, pair_folders
from nnunetv2_gsp.comparison.result_tables import result_tables
from nnunetv2_gsp.comparison.summaries import ranks, spread, volume_agreement
from nnunetv2_gsp.comparison.summary_tables import summary_tables, volume_tables
from nnunetv2_gsp.comparison.trained_models import FOLDS, pair_trained_models
from nnunetv2_gsp.comparison.verdict import verdict
from nnunetv2_gsp.files import check_target, write_json, write_text
from nnunetv2_gsp.metrics.definitions import Definition
from nnunetv2_gsp.metrics.evaluation import without_nan
from nnunetv2_gsp.metrics.scoring import VOLUMES


def compare_trained_models(
    dataset: str,
    trainers: Sequence[str],
    definition: Definition,
    output: Path,
    *,
    configuration: str = "3d_fullres",
    plans_names: Sequence[str] = ("nnUNetPlans",),
    folds: Sequence[str] = FOLDS,
    processes: int | None = None,
    primary: str = DEFAULT_PRIMARY,
    overwrite: bool = False,
) -> Comparison:
    """Compare trained models by their validation predictions, and write the report.

    Args:
        dataset: name or id of the dataset, as nnU-Net takes it.
        trainers: names of two or more trainers, the baseline's first.
        definition: how each metric is computed, and what an empty mask scores (`DEFINITIONS`).
        output: folder for `output_files`, created where it is missing.
        configuration: name of a configuration of the plans, such as 3d_fullres.
        plans_names: name of the plans, one for all trainers or one for each.
        folds: names of folds that every model has finished: "0", "1" and so on, or "all" alone.
        processes: number of cases scored at the same time, at least 1; None leaves it to `n_processes`.
        primary: the primary endpoint: a metric, of which the mean over regions is tested, or METRIC:REGION.
        overwrite: True replaces existing files of these names.

    Raises:
        InputError: the files can't be written, or what `pair_trained_models` and `compare` raise; nothing is written.
    """
    return _compare_into(
        output,
        overwrite,
        definition,
        processes,
        primary,
        lambda: pair_trained_models(
            dataset, trainers, configuration=configuration, plans_names=plans_names, folds=folds
        ),
    )


def compare_folders(
    predictions: Sequence[Path],
    references: Path,
    definition: Definition,
    output: Path,
    *,
    dataset_json: Path | None = None,
    images: Path | None = None,
    processes: int | None = None,
    primary: str = DEFAULT_PRIMARY,
    overwrite: bool = False,
) -> Comparison:
    """Compare folders of predictions, and write the report.

    Args:
        predictions: two or more folders, the baseline's first, all of the same cases.
        references: folder of the references, one for each case.
        definition: how each metric is computed, and what an empty mask scores (`DEFINITIONS`).
        output: folder for `output_files`, created where it is missing.
        dataset_json: nnU-Net's file that names regions or labels; None takes what `find_region_labels` finds.
        images: folder of CASE_0000 images to draw on; None draws on black.
        processes: number of cases scored at the same time, at least 1; None leaves it to `n_processes`.
        primary: the primary endpoint: a metric, of which the mean over regions is tested, or METRIC:REGION.
        overwrite: True replaces existing files of these names.

    Raises:
        InputError: the files can't be written, or what `pair_folders` and `compare` raise; nothing is written.
    """
    return _compare_into(
        output,
        overwrite,
        definition,
        processes,
        primary,
        lambda: pair_folders(predictions, references, dataset_json=dataset_json, images=images),
    )


def output_files(folder: Path) -> dict[str, Path]:
    """Return the report's files by their kind: csv, json, md and html.

    Args:
        folder: folder that holds the report's files.

    Examples:
        >>> {kind: file.name for kind, file in output_files(Path("report")).items() if kind in ("csv", "html")}
        {'csv': 'comparison.csv', 'html': 'comparison.html'}
    """
    return {kind: folder / f"comparison.{kind}" for kind in ("csv", "json", "md", "html")}


def write_report(comparison: Comparison, folder: Path, overwrite: bool = False) -> None:
    """Write all four files of the report into a folder, which is created where it is missing.

    Args:
        comparison: comparison of two or more contenders.
        folder: folder for `output_files`, created where it is missing.
        overwrite: True replaces existing files of these names.

    Raises:
        InputError: a file exists and is not to be replaced, the folder can't be written to, or an image can't be read.
    """
    files = output_files(folder)
    for file in files.values():
        check_target(file, overwrite)
    page = as_html(comparison)
    write_text(as_csv(comparison), files["csv"])
    write_json(as_dict(comparison), files["json"])
    write_text(as_markdown(comparison), files["md"])
    write_text(page, files["html"])


def as_csv(comparison: Comparison) -> str:
    """Return CSV with a line for each case and region, all contenders side by side; scores left out are blank.

    Args:
        comparison: comparison of two or more contenders.
    """
    text = io.StringIO()
    of_reference, of_prediction = VOLUMES
    columns = [*(metric.name for metric in comparison.metrics), of_prediction, "empty"]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            "definition",
            "case",
            "fold",
            "region",
            of_reference,
            *(f"{name}: {column}" for name in comparison.scores for column in columns),
        ]
    )
    for entries in zip(*comparison.scores.values(), strict=True):
        first = entries[0]
        writer.writerow(
            [
                comparison.definition.name,
                first["case"],
                comparison.pairing.folds.get(first["case"], ""),
                first["region"],
                first[of_reference],
                *(without_nan(entry[column]) for entry in entries for column in columns),
            ]
        )
    return text.getvalue()


def as_dict(comparison: Comparison) -> dict[str, Any]:
    """Return the whole report except the pictures as JSON content; what is left out or unknown is null.

    Args:
        comparison: comparison of two or more contenders.
    """
    pairing, of_all = comparison.pairing, ranks(comparison)
    content: dict[str, Any] = without_nan(
        {
            "title": pairing.title,
            "definition": comparison.definition.name,
            "caveats": comparison.caveats,
            "verdict": verdict(comparison),
            "notes": comparison.notes,
            "labels": pairing.labels.source,
            "units": {metric.name: metric.unit or "1" for metric in comparison.metrics},
            "baseline": comparison.baseline.name,
            "primary": {
                "endpoint": comparison.endpoint.title,
                "comparisons": list(map(_test, comparison.primary)),
                "identical_cases": [{"contenders": list(names), "n": n} for names, n in comparison.identical.items()],
            },
            "folds": dict(pairing.folds),
            "comparisons": list(map(_test, comparison.paired)),
            "contenders": {
                contender.name: {
                    "cost": asdict(contender.cost),
                    "protocol": asdict(contender.protocol),
                    "learning_curves": [asdict(curves) for curves in contender.curves],
                    "summary": _summary(comparison, contender.name),
                    "ranks": asdict(of_all[contender.name]),
                    "cases": comparison.scores[contender.name],
                }
                for contender in pairing.contenders
            },
        }
    )
    return content


def as_markdown(comparison: Comparison) -> str:
    """Return caveats, verdict, tables and notes as Markdown.

    Args:
        comparison: comparison of two or more contenders.
    """
    lines = [f"# {title_of(comparison)}", "", comparison.pairing.title, ""]
    lines += [f"> {caveat}" for caveat in comparison.caveats] + [""] * bool(comparison.caveats)
    lines += [f"**{verdict(comparison)}**", ""]
    for titled in (*result_tables(comparison), *summary_tables(comparison), *volume_tables(comparison)):
        lines += [
            f"## {titled.heading}",
            "",
            *([titled.words, ""] if titled.words else []),
            titled.table.markdown(),
            "",
        ]
    return "\n".join([*lines, "## Notes", "", *(f"- {note}" for note in comparison.notes), ""])


def _summary(comparison: Comparison, contender: str) -> dict[str, Any]:
    """Return JSON content of a contender's spread and volume agreement by region."""
    return {
        region: {
            **{
                metric.name: asdict(spread(comparison.scores_of(contender, region, metric.name)))
                for metric in comparison.metrics
            },
            "volume_agreement_ml": asdict(volume_agreement(comparison, contender, region)),
        }
        for region in comparison.regions
    }


def _test(paired: PairedDifference) -> dict[str, Any]:
    """Return JSON content of a test, with lists in place of tuples."""
    content = {**asdict(paired), "is_significant": paired.is_significant}
    for found in (content, content["without_penalties"] or {}):
        found.update({name: list(value) for name, value in found.items() if isinstance(value, tuple)})
    return content


def _compare_into(
    output: Path,
    overwrite: bool,
    definition: Definition,
    processes: int | None,
    primary: str,
    find_pairing: Callable[[], Pairing],
) -> Comparison:
    """Compare and write the report; whether the files can be written is checked first, as it is quick."""
    for file in output_files(output).values():
        check_target(file, overwrite)
    comparison = compare(find_pairing(), definition, processes, primary)
    write_report(comparison, output, overwrite)
    return comparison
