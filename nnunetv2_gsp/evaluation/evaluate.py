"""A folder of references and one of predictions -> every metric of every case and region, and their means."""
import csv
import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, median, stdev
from textwrap import fill
from typing import Any

import numpy as np

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.evaluation import lesions, prostate
from nnunetv2_gsp.evaluation.cases import Labels, find_labels, labels_in, pair, read_pair, segmentations
from nnunetv2_gsp.evaluation.definitions import LESION_DICE, LESION_HD95, Definition, Figures, Metric
from nnunetv2_gsp.files import try_writing, write_json, write_text
from nnunetv2_gsp.nnunet import n_processes
from nnunetv2_gsp.parallel import in_parallel

VOLUMES = ("reference_mm3", "prediction_mm3")
Row = dict[str, Any]  # case, region, then figures by name


@dataclass(frozen=True)
class Evaluation:
    """Figures of one folder of predictions.

    Attributes:
        definition: what they mean.
        labels: which regions they are of.
        lesion_wise: whether lesions were scored, too.
        reference_folder: of the references.
        prediction_folder: of the predictions.
        rows: one for each case and region, cases in order.
        left_out: cases that only one of the folders has.
    """

    definition: Definition
    labels: Labels
    lesion_wise: bool
    reference_folder: Path
    prediction_folder: Path
    rows: list[Row]
    left_out: int = 0

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What was scored, volumes apart."""
        return (*self.definition.metrics, *([LESION_DICE, LESION_HD95] if self.lesion_wise else []))

    @property
    def regions(self) -> list[str]:
        """Regions in their order."""
        return list(dict.fromkeys(row["region"] for row in self.rows))

    @property
    def notes(self) -> list[str]:
        """What a reader of the figures has to know, a sentence or a few each."""
        return [self.definition.in_words, *([lesions.IN_WORDS] if self.lesion_wise else []),
                *([prostate.IN_WORDS] if self.definition.name == "promise12" else []),
                *([f"{self.left_out} cases that only one of the folders has are left out."] if self.left_out else [])]

    def summary(self) -> dict[str, dict[str, Any]]:
        """Return mean, SD, median and counts of each metric by region, and how many cases have an empty mask."""
        summaries = {}
        for region in self.regions:
            rows = [row for row in self.rows if row["region"] == region]
            figures: dict[str, Any] = {metric.name: _summary([row[metric.name] for row in rows])
                                       for metric in self.metrics}
            figures["empty"] = {which: sum(row["empty"] == which for row in rows)
                                for which in ("both", "reference", "prediction")}
            summaries[region] = figures
        return summaries

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON; figures that are left out are null."""
        return {"definition": self.definition.name, "notes": self.notes,
                "units": {**{metric.name: metric.unit or "1" for metric in self.metrics},
                          **dict.fromkeys(VOLUMES, "mm³")},
                "references": str(self.reference_folder), "predictions": str(self.prediction_folder),
                "labels": self.labels.source, "summary": without_nan(self.summary()),
                "cases": without_nan(self.rows)}

    def csv(self) -> str:
        """Return a line for each case and region with all digits; figures that are left out are blank."""
        text = io.StringIO()
        names = list(dict.fromkeys(["case", "region", *(name for row in self.rows for name in row)]))
        writer = csv.DictWriter(text, ["definition", *names], lineterminator="\n")
        writer.writeheader()
        writer.writerows({"definition": self.definition.name, **row} for row in without_nan(self.rows))
        return text.getvalue()

    def table(self) -> str:
        """Return means ± SD by region for the screen."""
        n_cases = len({row["case"] for row in self.rows})
        header = ["region", *(metric.title for metric in self.metrics), "one empty"]
        lines = [header]
        for region, figures in self.summary().items():
            one_empty = figures["empty"]["reference"] + figures["empty"]["prediction"]
            lines.append([region, *(_mean_and_sd(figures[metric.name]) for metric in self.metrics), str(one_empty)])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        aligned = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines]
        return "\n".join([f"{n_cases} cases, mean ± SD; {self.labels.source}", "", *aligned, "",
                          *(fill(note, 100) for note in self.notes)])


def evaluate_folders(reference_folder: Path, prediction_folder: Path, definition: Definition,
                     dataset_json: Path | None = None, lesion_wise: bool = False, processes: int | None = None,
                     chill: bool = False) -> Evaluation:
    """Evaluate the predictions of a folder.

    Args:
        reference_folder: of segmentations, as in labelsTr.
        prediction_folder: of segmentations with the same names.
        definition: of the metrics.
        dataset_json: says which regions or labels there are; see `find_labels` for what is taken without.
        lesion_wise: score lesions, too.
        processes: at once; as many as `n_processes` says without.
        chill: leave out cases that only one of the folders has.

    Raises:
        InputError: a file or case is missing, can't be read or does not fit its counterpart, or lesions are asked for
            under another definition than BraTS 2023's.
    """
    if lesion_wise and definition.name != "brats2023":
        raise InputError(f"Expected --definition brats2023 with --lesion-wise, got {definition.name}; drop one of "
                         f"them.")
    references, predictions = segmentations(reference_folder), segmentations(prediction_folder)
    pairs = pair(references, predictions, chill)
    labels = find_labels(dataset_json, reference_folder, prediction_folder)
    scored = evaluate_pairs(pairs, labels, definition, lesion_wise, processes)
    return Evaluation(definition, labels, lesion_wise, reference_folder, prediction_folder, scored,
                      len(set(references) ^ set(predictions)))


def evaluate_pairs(pairs: Mapping[str, tuple[Path, Path]], labels: Labels, definition: Definition,
                   lesion_wise: bool = False, processes: int | None = None) -> list[Row]:
    """Evaluate pairs of files, several at a time, with a progress bar.

    Args:
        pairs: case -> (reference, prediction).
        labels: which regions to score.
        definition: of the metrics.
        lesion_wise: score lesions, too.
        processes: at once; as many as `n_processes` says without.

    Returns:
        A row for each case and region. A label that a case lacks and others have is there as an empty one.

    Raises:
        InputError: a file can't be read or does not fit its counterpart, or there is no label at all.
    """
    score = partial(_score_case, labels=labels, definition=definition, lesion_wise=lesion_wise)
    scored = in_parallel(score, list(pairs.values()), processes or n_processes(), "Evaluate", _one_thread)
    by_case = dict(zip(pairs, scored, strict=True))
    regions = list(dict.fromkeys(region for figures in by_case.values() for region in figures))
    if not regions:
        raise InputError("Expected labels to evaluate, found no label in any file; name a dataset.json with -djfile.")
    if labels.regions is None:
        regions.sort(key=lambda name: int(name.partition(",")[0]))  # thirds behind their whole, in their order
    nothing = np.zeros((1, 1, 1), bool)
    absent = _score_region(nothing, nothing, (1, 1, 1), definition, lesion_wise)
    return [{"case": case, "region": region, **figures.get(region, absent)}
            for case, figures in by_case.items() for region in regions]


def check_outputs(files: Iterable[Path], overwrite: bool) -> None:
    """Refuse to replace files, and places where none can be written; makes nothing.

    Raises:
        InputError: one of them is there and overwrite is not asked for, or its folder is none and can't be made, or
            nothing can be written to it.
    """
    files = list(files)
    for folder in {file.parent for file in files}:
        _check_folder(folder)
    for file in files:
        if file.exists() and not overwrite:
            raise InputError(f"{file} exists and is not replaced; add --overwrite, or choose another folder with -o.")


def output_files(folder: Path, definition: Definition) -> tuple[Path, Path]:
    """Return the JSON and the CSV file of an evaluation, named after its definition."""
    return folder / f"evaluation_{definition.name}.json", folder / f"evaluation_{definition.name}.csv"


def write_evaluation(evaluation: Evaluation, folder: Path, overwrite: bool) -> tuple[Path, Path]:
    """Write an evaluation as JSON and CSV into a folder, which is made where it is missing.

    Raises:
        InputError: they are there and overwrite is not asked for, or the folder can't be written to.
    """
    files = output_files(folder, evaluation.definition)
    check_outputs(files, overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(evaluation.to_dict(), files[0])
    write_text(evaluation.csv(), files[1])
    return files


def without_nan(content: Any) -> Any:
    """Return JSON content with None for every NaN, which JSON does not know."""
    if isinstance(content, dict):
        return {key: without_nan(value) for key, value in content.items()}
    if isinstance(content, list):
        return [without_nan(value) for value in content]
    return None if isinstance(content, float) and math.isnan(content) else content


def _check_folder(folder: Path) -> None:
    """Look at what is there of its path."""
    there = next(filter(os.path.lexists, (folder.absolute(), *folder.absolute().parents)))
    try:
        try_writing(there)
    except OSError as error:
        raise InputError(f"Expected {folder} to be a folder that can be written to, or made; {there} is none "
                         f"({error.strerror}); choose another folder with -o.") from error


def _score_case(files: tuple[Path, Path], labels: Labels, definition: Definition,
                lesion_wise: bool) -> dict[str, Figures]:
    """Return the figures of a case by region."""
    reference, prediction = read_pair(*files, labels)
    found = labels_in(reference.labels) | labels_in(prediction.labels)
    counted = reference.labels != labels.ignore if labels.ignore is not None and labels.ignore in found else None
    figures = {}
    for name, region in labels.regions_among(found).items():
        theirs, ours = (_mask(segmentation.labels, region, counted) for segmentation in (reference, prediction))
        figures[name] = _score_region(theirs, ours, reference.spacing_mm, definition, lesion_wise)
        if definition.name == "promise12" and theirs.ndim == 3:
            for third, part, our_part in prostate.thirds(theirs, ours, reference.direction):
                figures[f"{name}, {third}"] = definition.score(part, our_part, reference.spacing_mm)
    return figures


def _score_region(reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float], definition: Definition,
                  lesion_wise: bool) -> Figures:
    figures = definition.score(reference, prediction, spacing_mm)
    if lesion_wise:
        figures.update(lesions.score_lesions(reference, prediction, spacing_mm, definition))
    return figures


def _mask(labels: np.ndarray, region: Sequence[int], counted: np.ndarray | None) -> np.ndarray:
    mask = labels == region[0]
    for label in region[1:]:
        mask |= labels == label
    return mask if counted is None else mask & counted


def _one_thread() -> None:
    """Keep SimpleITK to one thread in a process of several."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def _summary(values: Sequence[float]) -> dict[str, Any]:
    """Return the summary of the values that are not left out, and how many are."""
    there = [value for value in values if not math.isnan(value)]
    if not there:
        return {"mean": math.nan, "sd": math.nan, "median": math.nan, "n": 0, "left_out": len(values)}
    return {"mean": mean(there), "sd": stdev(there) if len(there) > 1 else math.nan, "median": median(there),
            "n": len(there), "left_out": len(values) - len(there)}


def _mean_and_sd(summary: Mapping[str, Any]) -> str:
    if not summary["n"]:
        return "-"
    spread = "" if math.isnan(summary["sd"]) else f" ± {summary['sd']:.3f}"
    return f"{summary['mean']:.3f}{spread}"
