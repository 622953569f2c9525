"""Which one is better, on the same cases? Trained models by their validation, or any folders of predictions."""
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.evaluation import costs, prostate, statistics
from nnunetv2_gsp.evaluation.cases import Labels, find_labels, image_of, labels_of, pair, segmentations, some
from nnunetv2_gsp.evaluation.costs import Cost, Curves, Protocol
from nnunetv2_gsp.evaluation.definitions import Definition, Metric
from nnunetv2_gsp.evaluation.evaluate import Row, evaluate_pairs
from nnunetv2_gsp.evaluation.statistics import PairedFigures, compare_paired, smallest_p, with_holm
from nnunetv2_gsp.nnunet import nnunet_folder

FOLDS = ("0", "1", "2", "3", "4")
ALL = "all"  # nnU-Net's fold that trains on every case, and validates every case
_PENALISED = ("reference", "prediction")


@dataclass(frozen=True)
class Contender:
    """One of those compared.

    Attributes:
        name: unique among them.
        predictions: case -> file.
        cost: what it took.
        protocol: how it was trained.
        curves: how training went, a fold each.
    """

    name: str
    predictions: Mapping[str, Path]
    cost: Cost = field(default_factory=Cost)
    protocol: Protocol = field(default_factory=Protocol)
    curves: Sequence[Curves] = ()


@dataclass(frozen=True)
class Task:
    """What contenders are compared on.

    Attributes:
        contenders: two or more; the first one is the baseline.
        references: case -> file.
        folds: case -> the fold that it validates; empty where there are no folds.
        labels: which regions there are.
        images: folder of CASE_0000 files to draw on, or None.
        title: for the report.
    """

    contenders: Sequence[Contender]
    references: Mapping[str, Path]
    folds: Mapping[str, str]
    labels: Labels
    images: Path | None
    title: str


@dataclass(frozen=True)
class Comparison:
    """What came out.

    Attributes:
        task: what was compared.
        definition: of the metrics.
        rows: contender's name -> its rows, of the same cases and regions in the same order.
        paired: the others against the baseline, by region and metric.
    """

    task: Task
    definition: Definition
    rows: Mapping[str, list[Row]]
    paired: Sequence[PairedFigures]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What is compared."""
        return self.definition.metrics

    @property
    def regions(self) -> list[str]:
        """Regions in their order."""
        return list(dict.fromkeys(row["region"] for row in self.rows[self.baseline.name]))

    @property
    def cases(self) -> list[str]:
        """Cases in order."""
        return list(self.task.references)

    @property
    def baseline(self) -> Contender:
        """The first contender."""
        return self.task.contenders[0]

    @property
    def caveats(self) -> list[str]:
        """What stands above the verdict, a sentence each: what makes it less than fair, or is not known."""
        protocols = {contender.name: contender.protocol for contender in self.task.contenders}
        found = costs.differences(protocols)
        return [*found, *(["So a difference is not the network's alone."] if found else []),
                *costs.unknown_lengths(protocols),
                *(["All were trained on these very cases (fold all), so this says nothing of new ones."]
                  if ALL in self.task.folds.values() else [])]

    @property
    def notes(self) -> list[str]:
        """What a reader of the figures has to know."""
        return [self.definition.in_words, statistics.IN_WORDS,
                *([prostate.IN_WORDS] if self.definition.name == "promise12" else []),
                *([costs.IN_WORDS] if any(contender.cost != Cost() for contender in self.task.contenders) else [])]

    def figures(self, contender: str, region: str, metric: str) -> list[Any]:
        """Return a contender's figures by case, NaN where one is left out."""
        return [row[metric] for row in self.rows[contender] if row["region"] == region]

    def verdict(self) -> str:
        """Return what the statistics say of each pair, a sentence each, and no more."""
        return " ".join(self._verdict_on(contender.name) for contender in self.task.contenders[1:])

    def ranked_cases(self) -> list[str]:
        """Return the cases from the worst on, by mean Dice over regions and contenders; those without Dice last."""
        def mean_dice(case: str) -> float:
            dice = [row["Dice"] for rows in self.rows.values() for row in rows if row["case"] == case]
            there = [value for value in dice if not math.isnan(value)]
            return sum(there) / len(there) if there else math.inf

        return sorted(self.cases, key=mean_dice)

    def _verdict_on(self, name: str) -> str:
        paired = [each for each in self.paired if each.contender == name]
        better = [each for each in paired if each.is_significant and each.leaning > 0]
        worse = [each for each in paired if each.is_significant and each.leaning < 0]
        tested = [each for each in paired if not math.isnan(each.p)]
        n_tested, n_cases, untested = len(tested), len(self.cases), len(paired) - len(tested)
        if not tested:
            return (f"On {n_cases} cases nothing could be tested between {name} and {self.baseline.name}: no case has "
                    f"figures of both.")
        left = f"; {untested} more could not be tested, as no case has figures of both" if untested else ""
        test = f"Wilcoxon's test, Holm's correction, p < {statistics.ALPHA:g}"
        if not better and not worse:
            n_corrected = sum(not math.isnan(each.p) for each in self.paired)
            possible = smallest_p(max(each.n for each in tested)) * n_corrected
            reason = ("; with so few cases these tests could not show any" if possible >= statistics.ALPHA
                      else ", which does not show that they are equal")
            return (f"On {n_cases} cases no difference between {name} and {self.baseline.name} is significant in any "
                    f"of {n_tested} comparisons ({test}){reason}{left}.")
        found = [f"{words} in {len(group)}: {', '.join(map(self._in_words, group))}"
                 for words, group in (("better", better), ("worse", worse)) if group]
        rest = n_tested - len(better) - len(worse)
        return (f"On {n_cases} cases, of {n_tested} comparisons with {self.baseline.name}, {name} is significantly "
                f"{'; and '.join(found)} (mean difference; {test})"
                f"{f'; the other {rest} show none' if rest else ''}{left}.")

    def _in_words(self, paired: PairedFigures) -> str:
        """Name a comparison with its mean difference, and say so where mean and ranks disagree."""
        metric = next(metric for metric in self.metrics if metric.name == paired.metric)
        unit = f" {metric.unit}" if metric.unit else ""
        mean_leans = paired.mean_difference * (1 if metric.higher_is_better else -1) * paired.leaning
        contradiction = ", against the ranks" if mean_leans < 0 else ""
        return f"{metric.name} of {paired.region} ({paired.mean_difference:+.3g}{unit}{contradiction})"


def compare(task: Task, definition: Definition, processes: int | None = None) -> Comparison:
    """Evaluate every contender on the same cases, and test each against the first one.

    Args:
        task: what is compared.
        definition: of the metrics.
        processes: at once; as many as `n_processes` says without.

    Raises:
        InputError: a file can't be read or does not fit its reference.
    """
    rows = {contender.name: evaluate_pairs(pair(task.references, contender.predictions), task.labels, definition,
                                           processes=processes) for contender in task.contenders}
    comparison = Comparison(task, definition, _aligned(rows, definition), [])
    paired = [_paired(comparison, contender.name, region, metric) for contender in task.contenders[1:]
              for region in comparison.regions for metric in comparison.metrics]
    return Comparison(task, definition, comparison.rows, with_holm(paired))


def trained_models(dataset: str, configuration: str, trainers: Sequence[str], plans: Sequence[str] = ("nnUNetPlans",),
                   folds: Sequence[str] = FOLDS) -> Task:
    """Return the trained models of a dataset with the predictions of their validation.

    Args:
        dataset: name or id.
        configuration: of the plans.
        trainers: two or more, the baseline first.
        plans: one for all, or one for each trainer.
        folds: that every one of them has finished.

    Raises:
        InputError: a model, a fold or a reference is missing, they have other regions, or did not validate the cases
            that splits_final.json says.
    """
    from nnunetv2.paths import nnUNet_raw

    from nnunetv2_gsp.plans import preprocessed_folder

    if len(plans) not in (1, len(trainers)):
        raise InputError(f"Expected one -p for all trainers or one for each of {len(trainers)}, got {len(plans)}; "
                         f"give as many.")
    preprocessed = preprocessed_folder(dataset)
    results, folds = nnunet_folder("nnUNet_results") / preprocessed.name, list(dict.fromkeys(folds))
    names = [f"{trainer}__{each}__{configuration}"
             for trainer, each in zip(trainers, plans if len(plans) > 1 else list(plans) * len(trainers), strict=True)]
    _check_several(names)
    short = _short_names(names)
    references = segmentations(preprocessed / "gt_segmentations")
    expected = _validation_cases(preprocessed / "splits_final.json", folds, references)
    contenders = [_trained(results / name, short[name], configuration, folds, expected) for name in names]
    labels = _common_labels([labels_of(results / name / "dataset.json") for name in names])
    fold_of = {case: fold for fold, cases in expected.items() for case in cases}
    images = Path(str(nnUNet_raw)) / preprocessed.name / "imagesTr" if nnUNet_raw.get() else None
    return Task(contenders, {case: references[case] for case in sorted(fold_of)}, fold_of, labels,
                images if images is not None and images.is_dir() else None,
                f"{preprocessed.name}, {configuration}, validation of fold{'s' * (len(folds) > 1)} {', '.join(folds)}")


def prediction_folders(predictions: Sequence[Path], reference_folder: Path, dataset_json: Path | None = None,
                       images: Path | None = None) -> Task:
    """Return folders of predictions as contenders, named after what tells their paths apart.

    Args:
        predictions: two or more, the baseline first; all of the same cases.
        reference_folder: of these cases.
        dataset_json: says which regions or labels there are; see `find_labels` for what is taken without.
        images: folder of CASE_0000 files to draw on.

    Raises:
        InputError: folders are missing, don't have the same cases as the references, have other regions, or there is
            no image of any case.
    """
    names = [str(folder.absolute()) for folder in predictions]
    _check_several(names)
    short = _short_names(names)
    references = segmentations(reference_folder)
    contenders = [Contender(short[name], segmentations(Path(name))) for name in names]
    for contender in contenders:
        pair(references, contender.predictions)
    if images is not None and not any(image_of(case, images) for case in references):
        raise InputError(f"Expected images of the cases (such as {min(references)}_0000.nii.gz) in {images}, found "
                         f"none; name another folder with -i.")
    labels = _common_labels([find_labels(dataset_json, reference_folder, folder) for folder in predictions])
    return Task(contenders, dict(sorted(references.items())), {}, labels, images, str(reference_folder))


def _common_labels(several: Sequence[Labels]) -> Labels:
    """Return the first labels that a dataset.json names; raise InputError where another one names others."""
    named = [labels for labels in several if labels.regions is not None]
    for labels in named[1:]:
        if _evaluated(labels) != _evaluated(named[0]):
            raise InputError(f"Expected contenders with the same regions and ignore label, found {_listed(named[0])} "
                             f"in the {named[0].source}, but {_listed(labels)} in the {labels.source}; compare only "
                             f"what was trained for the same regions.")
    return named[0] if named else Labels()


def _evaluated(labels: Labels) -> tuple[dict[str, list[int]], int | None]:
    return {name: sorted(region) for name, region in (labels.regions or {}).items()}, labels.ignore


def _listed(labels: Labels) -> str:
    regions = {name: "+".join(map(str, region)) for name, region in _evaluated(labels)[0].items()}
    if labels.ignore is not None:
        regions["ignore"] = str(labels.ignore)
    return ", ".join(f"{name} {region}" for name, region in regions.items())


def _trained(model: Path, name: str, configuration: str, folds: Sequence[str],
             expected: Mapping[str, frozenset[str]]) -> Contender:
    if not model.is_dir():
        raise InputError(f"Expected the trained model {model}, found no such folder; train it, or name others with "
                         f"-tr, -p and -c.")
    predictions: dict[str, Path] = {}
    for fold in folds:
        folder = model / f"fold_{fold}" / "validation"
        if not folder.is_dir():
            raise InputError(f"Expected the validation of fold {fold} in {folder}, found none; finish that training "
                             f"(nnUNetv2_train ... {fold} --c, or --val), or choose folds with -f.")
        found = segmentations(folder)
        _check_same_cases(set(found), expected[fold], folder)
        predictions.update(found)
    return Contender(name, predictions, *costs.read_model(model, configuration, folds))


def _validation_cases(splits_file: Path, folds: Sequence[str],
                      references: Mapping[str, Path]) -> dict[str, frozenset[str]]:
    """Return fold -> the cases that it validates; the fold "all" validates all."""
    if ALL in folds:
        if len(folds) > 1:
            raise InputError(f"Expected -f all alone, since it validates every case, got {' '.join(folds)}; drop the "
                             f"others.")
        return {ALL: frozenset(references)}
    try:
        splits = json.loads(splits_file.read_text(encoding="utf-8"))
        expected = {fold: frozenset(splits[int(fold)]["val"]) for fold in folds}
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError(f"Expected folds {', '.join(folds)} in {splits_file}, found no such ones; choose folds with "
                         f"-f.") from error
    missing = frozenset().union(*expected.values()) - set(references)
    if missing:
        raise InputError(f"Expected references of all validation cases in {splits_file.parent / 'gt_segmentations'}, "
                         f"found no {some(missing)}; copy what is missing from the dataset's labelsTr.")
    return expected


def _check_same_cases(found: set[str], expected: frozenset[str], folder: Path) -> None:
    if found != expected:
        sides = [f"{words} {', '.join(sorted(cases)[:5])}{' and more' * (len(cases) > 5)}"
                 for words, cases in (("lacks", expected - found), ("has besides", found - expected)) if cases]
        raise InputError(f"Expected in {folder} the validation cases of splits_final.json, but it {' and '.join(sides)}"
                         f"; compare only models of the same splits, and finish their validation.")


def _check_several(names: Sequence[str]) -> None:
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise InputError(f"Expected two or more different ones to compare, got {', '.join(names)}; name each once.")


def _short_names(names: Sequence[str]) -> dict[str, str]:
    """Shorten names to the parts that tell them apart: of TRAINER__PLANS__CONFIGURATION, or of a path."""
    separator = "/" if names[0].startswith("/") else "__"
    parts = {name: name.split(separator) for name in names}
    if separator == "__":
        plans_differ = len({part[1] for part in parts.values()}) > 1
        return {name: f"{part[0]}, {part[1]}" if plans_differ else part[0] for name, part in parts.items()}
    for n_parts in range(1, max(map(len, parts.values())) + 1):
        short = {name: separator.join(part[-n_parts:]) for name, part in parts.items()}
        if len(set(short.values())) == len(names):
            return short
    return dict(zip(names, names, strict=True))


def _aligned(rows: Mapping[str, list[Row]], definition: Definition) -> dict[str, list[Row]]:
    """Give every contender the same regions: a label that only one of them has is an empty one to the others."""
    regions = list(dict.fromkeys(row["region"] for each in rows.values() for row in each))
    aligned = {}
    for name, each in rows.items():
        there = {(row["case"], row["region"]): row for row in each}
        cases = dict.fromkeys(row["case"] for row in each)
        aligned[name] = [there.get((case, region)) or {"case": case, "region": region, **definition.of_nothing()}
                         for case in cases for region in regions]
    return aligned


def _paired(comparison: Comparison, contender: str, region: str, metric: Metric) -> PairedFigures:
    baseline = comparison.baseline.name
    paired = compare_paired(region, metric.name,
                            (baseline, comparison.figures(baseline, region, metric.name)),
                            (contender, comparison.figures(contender, region, metric.name)), metric.higher_is_better)
    penalties = [sum(empty in _PENALISED for empty in comparison.figures(name, region, "empty"))
                 for name in (baseline, contender)]
    return replace(paired, baseline_penalties=penalties[0], contender_penalties=penalties[1])
