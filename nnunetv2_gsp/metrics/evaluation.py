"""Evaluates a folder of predictions: scores every case and region, takes the means, and writes both to files."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, stdev
from textwrap import fill
from typing import Any

from nnunetv2_gsp.errors import ConflictingInputError
from nnunetv2_gsp.files import beside, check_target, write_json, write_text
from nnunetv2_gsp.metrics import prostate
from nnunetv2_gsp.metrics.case_scores import CaseScores, score_cases
from nnunetv2_gsp.metrics.cases import check_same_cases, find_segmentations, pair
from nnunetv2_gsp.metrics.definitions import DEFINITIONS, Definition, Metric
from nnunetv2_gsp.metrics.region_labels import RegionLabels, find_region_labels
from nnunetv2_gsp.metrics.region_scores import notes_on_lesions
from nnunetv2_gsp.metrics.scoring import VOLUMES
from nnunetv2_gsp.tables import Table


@dataclass(frozen=True)
class Evaluation:
    """Scores of one folder of predictions, with what they were computed from.

    Attributes:
        definition: how each metric was computed, and what an empty mask scored (`DEFINITIONS`).
        labels: the regions that were scored, and the labels that make up each.
        reference_folder: folder that the references were read from.
        prediction_folder: folder that the predictions were read from.
        cases: scores of each case and region, sorted by case (see `score_cases`).
        n_left_out: number of cases that only one of the folders has, from 0 on.
    """

    definition: Definition
    labels: RegionLabels
    reference_folder: Path
    prediction_folder: Path
    cases: list[CaseScores]
    n_left_out: int = 0

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Metrics that were scored, volumes apart."""
        return self.definition.metrics

    @property
    def regions(self) -> list[str]:
        """Names of the regions, in the order of the scores."""
        return list(dict.fromkeys(scores["region"] for scores in self.cases))

    @property
    def notes(self) -> list[str]:
        """Notes for readers of the scores, one or a few sentences each."""
        left_out = f"Cases that only one of the folders has are left out: {self.n_left_out}."
        later = (
            "BraTS 2023 has no resection cavity; 2024 and 2025 score cases after treatment by rules of their own, the "
            "definitions brats2024 and brats2025."
        )
        is_later = self.definition.name == "brats2023" and (4,) in (self.labels.regions or {}).values()
        return [
            *notes_on(self.definition),
            *([later] if is_later else []),
            *([left_out] if self.n_left_out else []),
        ]

    def summary(self) -> dict[str, dict[str, Any]]:
        """Return mean, SD, median and counts of each metric by region, and how many cases have an empty mask."""
        summaries = {}
        for region in self.regions:
            cases = [scores for scores in self.cases if scores["region"] == region]
            summary: dict[str, Any] = {
                metric.name: _summary([scores[metric.name] for scores in cases]) for metric in self.metrics
            }
            summary["empty"] = {
                which: sum(scores["empty"] == which for scores in cases)
                for which in ("both", "reference", "prediction")
            }
            summaries[region] = summary
        return summaries

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON; scores that are left out are null."""
        return {
            "definition": self.definition.name,
            "notes": self.notes,
            "units": {**{metric.name: metric.unit or "1" for metric in self.metrics}, **dict.fromkeys(VOLUMES, "mm³")},
            "references": str(self.reference_folder),
            "predictions": str(self.prediction_folder),
            "labels": self.labels.source,
            "summary": without_nan(self.summary()),
            "cases": without_nan(self.cases),
        }

    def csv(self) -> str:
        """Return a line for each case and region with all digits; scores that are left out are blank."""
        text = io.StringIO()
        names = list(dict.fromkeys(["case", "region", *(name for scores in self.cases for name in scores)]))
        writer = csv.DictWriter(text, ["definition", *names], lineterminator="\n")
        writer.writeheader()
        writer.writerows({"definition": self.definition.name, **scores} for scores in without_nan(self.cases))
        return text.getvalue()

    def text(self) -> str:
        """Return means ± SD by region, and the notes, for a screen."""
        n_cases = len({scores["case"] for scores in self.cases})
        title = f"{n_cases} case{'s' * (n_cases != 1)}, mean ± SD; {self.labels.source}"
        return "\n".join([title, "", self._table().text(), "", *(fill(note, 100) for note in self.notes)])

    def _table(self) -> Table:
        rows = [
            [
                region,
                *(_mean_and_sd(summary[metric.name]) for metric in self.metrics),
                str(summary["empty"]["reference"] + summary["empty"]["prediction"]),
            ]
            for region, summary in self.summary().items()
        ]
        return Table(["region", *(metric.title for metric in self.metrics), "one empty"], rows)


def evaluate_folders(
    references: Path,
    predictions: Path,
    definition: Definition,
    *,
    dataset_json: Path | None = None,
    lesion_wise: bool = False,
    processes: int | None = None,
    chill: bool = False,
    output: Path | None = None,
    overwrite: bool = False,
) -> Evaluation:
    """Evaluate the predictions of a folder, and write the scores as JSON and CSV.

    Scores of finished cases are kept beside until all are done: an evaluation that was stopped goes on when it is
    called again, and scores anew what has changed since.

    Args:
        references: folder of segmentations, such as labelsTr.
        predictions: folder of segmentations with the same names.
        definition: how each metric is computed, and what an empty mask scores (`DEFINITIONS`).
        dataset_json: nnU-Net's file that names regions or labels; None takes what `find_region_labels` finds.
        lesion_wise: True refuses a definition that scores no lesions.
        processes: number of cases scored at the same time, at least 1; None leaves it to `n_processes`.
        chill: True leaves out cases that only one of the folders has, as nnU-Net's --chill does.
        output: folder for `output_files`, created where it is missing; None writes nothing.
        overwrite: True replaces existing files of these names.

    Raises:
        InputError: a file or case is missing, can't be read or does not fit its counterpart, lesions are asked for
            under a definition without lesion-wise scores, or the files can't be written; nothing is written then.

    Examples:
        >>> import SimpleITK as sitk
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:  # a folder against itself
        ...     sitk.WriteImage(sitk.Image([4, 4, 4], sitk.sitkUInt8) + 1, f"{folder}/case.nii.gz")
        ...     evaluate_folders(Path(folder), Path(folder), DEFINITIONS["captk"], processes=1).cases[0]["Dice"]
        1.0
    """
    if lesion_wise and definition.lesions is None:
        raise ConflictingInputError(
            f"a definition that scores lesions ({_names_with_lesions()})",
            definition.name,
            parameters=["definition", "lesion_wise"],
        )
    if output is not None:
        for file in output_files(output, definition):
            check_target(file, overwrite)
    reference_files = find_segmentations(references, ["references"])
    prediction_files = find_segmentations(predictions, ["predictions"])
    pairs = pair(reference_files, prediction_files)
    if not chill:
        check_same_cases(reference_files, prediction_files, ["chill"])
    labels = find_region_labels(dataset_json, references, predictions)
    kept_in = None if output is None else unfinished_file(output, definition)
    scored = score_cases(pairs, labels, definition, processes, kept_in)
    evaluation = Evaluation(
        definition,
        labels,
        references,
        predictions,
        scored,
        len(set(reference_files) ^ set(prediction_files)),
    )
    if output is not None:
        _write(evaluation, output)
        unfinished_file(output, definition).unlink(missing_ok=True)
    return evaluation


def output_files(folder: Path, definition: Definition) -> tuple[Path, Path]:
    """Return the JSON and the CSV file of an evaluation, named after its definition.

    Args:
        folder: folder that holds both files.
        definition: the definition that the scores were computed under; its name is part of the file names.

    Examples:
        >>> [file.name for file in output_files(Path("scores"), DEFINITIONS["captk"])]
        ['evaluation_captk.json', 'evaluation_captk.csv']
    """
    return folder / f"evaluation_{definition.name}.json", folder / f"evaluation_{definition.name}.csv"


def unfinished_file(folder: Path, definition: Definition) -> Path:
    """Return the file that keeps the scores of finished cases until an evaluation is complete.

    Args:
        folder: folder of the evaluation's files.
        definition: the definition that the scores are computed under.

    Examples:
        >>> unfinished_file(Path("scores"), DEFINITIONS["captk"]).name
        'unfinished_evaluation_captk.jsonl'
    """
    return beside(output_files(folder, definition)[0].with_suffix(".jsonl"))


def notes_on(definition: Definition) -> list[str]:
    """Return notes for readers of scores under a definition, one or a few sentences each.

    Args:
        definition: the definition that the scores were computed under (`DEFINITIONS`).
    """
    return [
        definition.in_words,
        *notes_on_lesions(definition),
        *([prostate.IN_WORDS] if definition.has_thirds else []),
    ]


def without_nan(content: Any) -> Any:
    """Return JSON content with None for every NaN, which JSON does not know.

    Args:
        content: dictionaries, lists, strings and numbers, nested to any depth.

    Examples:
        >>> without_nan({"HD95": [1.5, math.nan]})
        {'HD95': [1.5, None]}
    """
    if isinstance(content, dict):
        return {key: without_nan(value) for key, value in content.items()}
    if isinstance(content, list):
        return [without_nan(value) for value in content]
    return None if isinstance(content, float) and math.isnan(content) else content


def _write(evaluation: Evaluation, folder: Path) -> None:
    json_file, csv_file = output_files(folder, evaluation.definition)
    write_json(evaluation.to_dict(), json_file)
    write_text(evaluation.csv(), csv_file)


def _names_with_lesions() -> str:
    return ", ".join(definition.name for definition in DEFINITIONS.values() if definition.lesions)


def _summary(values: Sequence[float]) -> dict[str, Any]:
    """Return mean, SD and median of the values that are not NaN, with the number of values and of NaN."""
    there = [value for value in values if not math.isnan(value)]
    if not there:
        return {"mean": math.nan, "sd": math.nan, "median": math.nan, "n": 0, "left_out": len(values)}
    return {
        "mean": mean(there),
        "sd": stdev(there) if len(there) > 1 else math.nan,
        "median": median(there),
        "n": len(there),
        "left_out": len(values) - len(there),
    }


def _mean_and_sd(summary: Mapping[str, Any]) -> str:
    if not summary["n"]:
        return "-"
    spread = "" if math.isnan(summary["sd"]) else f" ± {summary['sd']:.3f}"
    return f"{summary['mean']:.3f}{spread}"
