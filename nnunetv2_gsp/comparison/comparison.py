"""Scores contenders on the same cases, and compares each with the first one, the baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from nnunetv2_gsp.comparison import costs, paired, protocols
from nnunetv2_gsp.comparison.costs import ModelCost
from nnunetv2_gsp.comparison.endpoints import Endpoint, check_region, find_endpoint
from nnunetv2_gsp.comparison.identical import count_identical
from nnunetv2_gsp.comparison.paired import PairedDifference, PairedScores, compare_as_family
from nnunetv2_gsp.comparison.pairing import Contender, Pairing
from nnunetv2_gsp.comparison.statistics import Floats
from nnunetv2_gsp.comparison.trained_models import ALL
from nnunetv2_gsp.metrics.case_scores import CaseScores, score_cases
from nnunetv2_gsp.metrics.cases import pair
from nnunetv2_gsp.metrics.definitions import DICE, HD95, Definition, Metric, lesion_wise
from nnunetv2_gsp.metrics.evaluation import notes_on
from nnunetv2_gsp.metrics.scoring import score_both_empty

AGAINST_BASELINE, AMONG_OTHERS = "primary, against the baseline", "primary, among the others"
ALL_REGIONS = "mean over regions"
DEFAULT_PRIMARY, DEFAULT_ENDPOINT = DICE.name, Endpoint(DICE)
_PENALISED = ("reference", "prediction")  # where just one of them is empty


@dataclass(frozen=True)
class Comparison:
    """Scores of every contender, and the paired tests of each against the baseline.

    Attributes:
        pairing: the contenders with their predictions, the references and the labels.
        definition: how each metric was computed, and what an empty mask scored (`DEFINITIONS`).
        scores: contender's name -> an entry for each case and region, in the same order for every contender.
        paired: one test for each other contender, region and metric, in this order.
        endpoint: the primary endpoint.
        primary: one test of the primary endpoint for each pair of contenders, those with the baseline first.
        identical: names of two contenders -> number of cases in which they predict the same in every voxel.
    """

    pairing: Pairing
    definition: Definition
    scores: Mapping[str, list[CaseScores]]
    paired: Sequence[PairedDifference]
    endpoint: Endpoint = DEFAULT_ENDPOINT
    primary: Sequence[PairedDifference] = ()
    identical: Mapping[tuple[str, str], int] = field(default_factory=dict)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Metrics that are compared."""
        return self.definition.metrics

    @property
    def ranked_by(self) -> tuple[Metric, ...]:
        """Metrics that challenges rank by: those of lesions where the definition has them, else Dice and HD95."""
        of_lesions = tuple(metric for metric in self.metrics if metric in (lesion_wise(DICE), lesion_wise(HD95)))
        return of_lesions or (DICE, HD95)

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
        return [in_words, self._families, *paired.IN_WORDS, *others, *([costs.IN_WORDS] if self.has_costs else [])]

    @property
    def _families(self) -> str:
        """What is tested together, in words."""
        title, baseline = self.endpoint.title, self.baseline.name
        among_others = f"; its tests among the others are one more ({AMONG_OTHERS})" if len(self.others) > 1 else ""
        return (
            f"Primary endpoint: {title}, of the regions that both contenders have a score in. Its tests against "
            f"{baseline} are one family ({AGAINST_BASELINE}){among_others}. For each metric the tests of all regions "
            f"against {baseline} are a family of their own, which explains the primary result and does not replace it."
        )

    def scores_of(self, contender: str, region: str, name: str) -> list[Any]:
        """Return one score of a contender in a region, an entry for each case.

        Args:
            contender: name of the contender, a key of `scores`.
            region: name of the region, one of `regions`.
            name: name of a metric (NaN where a score is left out), or another key of an entry of `scores`.
        """
        return [scores[name] for scores in self.scores[contender] if scores["region"] == region]

    def endpoint_scores(self, contenders: Sequence[str]) -> Floats:
        """Return the primary endpoint of each case, over the regions that all of these contenders have a score in.

        Args:
            contenders: names of contenders, keys of `scores`.

        Returns:
            float64 (n_contenders, n_cases), NaN where no region has a score of all.
        """
        regions = self.regions if self.endpoint.region is None else [self.endpoint.region]
        name = self.endpoint.metric.name
        scores = np.array([[self.scores_of(each, region, name) for region in regions] for each in contenders], float)
        is_there = ~np.isnan(scores).any(axis=0)  # (n_regions, n_cases)
        sums, n_regions = np.where(is_there, scores, 0).sum(axis=1), is_there.sum(axis=0)
        means: Floats = np.where(n_regions > 0, sums / np.maximum(n_regions, 1), np.nan)
        return means

    def endpoint_penalties(self, contenders: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Return bool (n_contenders, n_cases), whether a region of the primary endpoint has a penalty.

        Args:
            contenders: names of contenders, keys of `scores`.
        """
        regions = self.regions if self.endpoint.region is None else [self.endpoint.region]
        has_penalty: npt.NDArray[np.bool_] = np.any([self.penalties(contenders, region) for region in regions], axis=0)
        return has_penalty

    def penalties(self, contenders: Sequence[str], region: str) -> npt.NDArray[np.bool_]:
        """Return bool (n_contenders, n_cases), whether a case scores in a region as if just one mask were empty.

        Just one is, or, where the definition asks for overlap, prediction and reference share no voxel.

        Args:
            contenders: names of contenders, keys of `scores`.
            region: name of the region, one of `regions`.
        """
        empty = np.array([self.scores_of(name, region, "empty") for name in contenders])
        dice = np.array([self.scores_of(name, region, DICE.name) for name in contenders], float)
        shares_none: npt.NDArray[np.bool_] = (dice == 0) & self.definition.needs_overlap
        return np.isin(empty, _PENALISED) | shares_none

    def ranked_cases(self) -> list[str]:
        """Return the cases by the primary endpoint, the worst first; those without a score come last."""
        means = self.endpoint_scores(list(self.scores)).mean(axis=0)
        return [self.cases[index] for index in np.argsort(self._from_worst(means), kind="stable")]

    def separating_cases(self) -> list[str]:
        """Return the cases in which contenders differ in the primary endpoint, the largest difference first."""
        scores = self.endpoint_scores(list(self.scores))
        ranges = np.nan_to_num(scores.max(axis=0) - scores.min(axis=0))
        return [self.cases[index] for index in np.argsort(-ranges, kind="stable") if ranges[index]]

    def _from_worst(self, scores: Floats) -> Floats:
        """Return scores so that the worst is the smallest."""
        return scores if self.endpoint.metric.higher_is_better else -scores


def compare(
    pairing: Pairing, definition: Definition, processes: int | None = None, primary: str = DEFAULT_PRIMARY
) -> Comparison:
    """Score every contender on the same cases, and test each against the first one.

    Args:
        pairing: the contenders with their predictions, the references and the labels.
        definition: how each metric is computed, and what an empty mask scores (`DEFINITIONS`).
        processes: number of cases scored at the same time, at least 1; None leaves it to `n_processes`.
        primary: the primary endpoint: a metric, of which the mean over regions is tested, or METRIC:REGION.

    Raises:
        InputError: a file can't be read or does not fit its reference, or there is no such primary endpoint.
    """
    endpoint = find_endpoint(primary, definition)
    if pairing.labels.regions is not None and not definition.has_thirds:
        check_region(endpoint, pairing.labels.regions)  # before the scoring, which takes long
    scores = {
        contender.name: score_cases(
            pair(pairing.references, contender.predictions), pairing.labels, definition, processes=processes
        )
        for contender in pairing.contenders
    }
    scored = Comparison(pairing, definition, _aligned(scores, definition), [], endpoint)
    check_region(endpoint, scored.regions)
    identical = {
        (first.name, second.name): count_identical(
            (first, second), (scored.scores[first.name], scored.scores[second.name])
        )
        for first, second in combinations(pairing.contenders, 2)
    }
    return replace(scored, paired=_by_region(scored), primary=_primary(scored), identical=identical)


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


def _primary(scored: Comparison) -> list[PairedDifference]:
    """Test the primary endpoint of each other contender against the baseline, then of each pair of the others."""
    baseline, *others = scored.scores
    families = {
        AGAINST_BASELINE: [(baseline, other) for other in others],
        AMONG_OTHERS: list(combinations(others, 2)),
    }
    region = scored.endpoint.region or ALL_REGIONS
    return [
        tested
        for family, pairs in families.items()
        for tested in compare_as_family(
            family,
            [
                PairedScores(
                    region,
                    scored.endpoint.metric,
                    names,
                    scored.endpoint_scores(names),
                    scored.endpoint_penalties(names),
                )
                for names in pairs
            ],
        )
    ]


def _by_region(scored: Comparison) -> list[PairedDifference]:
    """Test every region and metric of each other contender against the baseline; a metric is a family."""
    tested = [
        difference
        for metric in scored.metrics
        for difference in compare_as_family(
            f"{metric.name} by region",
            [_pair(scored, contender.name, region, metric) for contender in scored.others for region in scored.regions],
        )
    ]
    places = {contender.name: place for place, contender in enumerate(scored.others)}
    return sorted(tested, key=lambda each: (places[each.contender], scored.regions.index(each.region)))


def _pair(scored: Comparison, contender: str, region: str, metric: Metric) -> PairedScores:
    names = scored.baseline.name, contender
    scores = np.array([scored.scores_of(name, region, metric.name) for name in names], float)
    return PairedScores(region, metric, names, scores, scored.penalties(names, region))
