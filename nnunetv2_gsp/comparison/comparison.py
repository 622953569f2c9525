"""Scores contenders on the same cases, and compares each with the first one, the baseline."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nnunetv2_gsp.comparison import costs, protocols, statistics
from nnunetv2_gsp.comparison.costs import ModelCost
from nnunetv2_gsp.comparison.pairing import Contender, Pairing
from nnunetv2_gsp.comparison.statistics import PairedDifference, paired_difference, with_holm
from nnunetv2_gsp.comparison.trained_models import ALL
from nnunetv2_gsp.metrics.case_scores import CaseScores, score_cases
from nnunetv2_gsp.metrics.cases import pair
from nnunetv2_gsp.metrics.definitions import DICE, Definition, Metric
from nnunetv2_gsp.metrics.evaluation import notes_on
from nnunetv2_gsp.metrics.scoring import score_both_empty

_PENALISED = ("reference", "prediction")  # where just one of them is empty


@dataclass(frozen=True)
class Comparison:
    """Scores of every contender, and the paired tests of each against the baseline.

    Attributes:
        pairing: the contenders with their predictions, the references and the labels.
        definition: how each metric was computed, and what an empty mask scored (`DEFINITIONS`).
        scores: contender's name -> an entry for each case and region, in the same order for every contender.
        paired: one test for each other contender, region and metric, in this order.
    """

    pairing: Pairing
    definition: Definition
    scores: Mapping[str, list[CaseScores]]
    paired: Sequence[PairedDifference]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Metrics that are compared."""
        return self.definition.metrics

    @property
    def regions(self) -> list[str]:
        """Names of the regions, in the order of the scores."""
        return list(dict.fromkeys(scores["region"] for scores in self.scores[self.baseline.name]))

    @property
    def cases(self) -> list[str]:
        """Names of the cases, in the order of the scores."""
        return list(self.pairing.references)

    @property
    def baseline(self) -> Contender:
        """The first contender."""
        return self.pairing.contenders[0]

    @property
    def others(self) -> Sequence[Contender]:
        """The contenders that are compared with the baseline."""
        return self.pairing.contenders[1:]

    @property
    def has_costs(self) -> bool:
        """Tell whether the cost of at least one contender is known."""
        return any(contender.cost != ModelCost() for contender in self.pairing.contenders)

    @property
    def caveats(self) -> list[str]:
        """What makes the comparison unfair, or leaves its fairness unknown, one sentence each."""
        of_each = {contender.name: contender.protocol for contender in self.pairing.contenders}
        found = protocols.differences(of_each)
        return [
            *found,
            *(["So a difference between them is not due to the network alone."] if found else []),
            *protocols.unknown_lengths(of_each),
            *(
                ["All were trained on these very cases (fold all), so this says nothing about new ones."]
                if ALL in self.pairing.folds.values()
                else []
            ),
        ]

    @property
    def notes(self) -> list[str]:
        """Notes for readers of the scores, one or a few sentences each."""
        in_words, *others = notes_on(self.definition)
        return [in_words, statistics.IN_WORDS, *others, *([costs.IN_WORDS] if self.has_costs else [])]

    def scores_of(self, contender: str, region: str, name: str) -> list[Any]:
        """Return one score of a contender in a region, an entry for each case.

        Args:
            contender: name of the contender, a key of `scores`.
            region: name of the region, one of `regions`.
            name: name of a metric (NaN where a score is left out), or another key of an entry of `scores`.
        """
        return [scores[name] for scores in self.scores[contender] if scores["region"] == region]

    def ranked_cases(self) -> list[str]:
        """Return the cases by ascending mean Dice over regions and contenders; those without Dice come last."""

        def mean_dice(case: str) -> float:
            dice = [
                scores[DICE.name]
                for of_contender in self.scores.values()
                for scores in of_contender
                if scores["case"] == case
            ]
            there = [value for value in dice if not math.isnan(value)]
            return sum(there) / len(there) if there else math.inf

        return sorted(self.cases, key=mean_dice)


def compare(pairing: Pairing, definition: Definition, processes: int | None = None) -> Comparison:
    """Score every contender on the same cases, and test each against the first one.

    Args:
        pairing: the contenders with their predictions, the references and the labels.
        definition: how each metric is computed, and what an empty mask scores (`DEFINITIONS`).
        processes: number of cases scored at the same time, at least 1; None leaves it to `n_processes`.

    Raises:
        InputError: a file can't be read or does not fit its reference.
    """
    scores = {
        contender.name: score_cases(
            pair(pairing.references, contender.predictions), pairing.labels, definition, processes=processes
        )
        for contender in pairing.contenders
    }
    scored = Comparison(pairing, definition, _aligned(scores, definition), [])
    paired = [
        _paired(scored, contender.name, region, metric)
        for contender in scored.others
        for region in scored.regions
        for metric in scored.metrics
    ]
    return replace(scored, paired=with_holm(paired))


def _aligned(scores: Mapping[str, list[CaseScores]], definition: Definition) -> dict[str, list[CaseScores]]:
    """Give every contender the same regions: a label that only some predict scores as an empty mask for the others."""
    regions = list(dict.fromkeys(entry["region"] for entries in scores.values() for entry in entries))
    absent = score_both_empty(definition)
    aligned = {}
    for name, entries in scores.items():
        there = {(entry["case"], entry["region"]): entry for entry in entries}
        cases = dict.fromkeys(entry["case"] for entry in entries)
        aligned[name] = [
            there.get((case, region)) or {"case": case, "region": region, **absent}
            for case in cases
            for region in regions
        ]
    return aligned


def _paired(comparison: Comparison, contender: str, region: str, metric: Metric) -> PairedDifference:
    names = comparison.baseline.name, contender
    baseline, other = ((name, comparison.scores_of(name, region, metric.name)) for name in names)
    penalties = [sum(empty in _PENALISED for empty in comparison.scores_of(name, region, "empty")) for name in names]
    return replace(
        paired_difference(region, metric, baseline, other),
        baseline_penalties=penalties[0],
        contender_penalties=penalties[1],
    )
