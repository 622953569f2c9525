"""The primary endpoint: how it is named, what it is of each case, and what is refused before the scoring."""

from dataclasses import replace

import numpy as np
import pytest

from nnunetv2_gsp.comparison import comparison as comparing
from nnunetv2_gsp.comparison.comparison import compare
from nnunetv2_gsp.comparison.endpoints import find_endpoint
from nnunetv2_gsp.comparison.pairing import pair_folders
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.metrics.definitions import DEFINITIONS


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Dice", "mean Dice over regions"),
        ("nsd at 1 mm", "mean NSD at 1 mm over regions"),
        ("HD95:whole <tumor>", "HD95 of whole <tumor>"),
        ("Dice:a:b", "Dice of a:b"),
    ],
)
def test_an_endpoint_is_a_metric_and_perhaps_a_region(text, title):
    assert find_endpoint(text, DEFINITIONS["directed"]).title == title


def test_unknown_endpoints_are_refused_before_the_scoring(folders, monkeypatch):
    monkeypatch.setattr(comparing, "score_cases", None)
    pairing = pair_folders([folders / "poor", folders / "good"], folders / "gt")
    with pytest.raises(InputError, match=r"metric of nnunet \(Dice, HD95, .*\), got 'IoU'"):
        compare(pairing, DEFINITIONS["nnunet"], 1, "IoU")
    with pytest.raises(InputError, match=r"region that is scored \(whole <tumor>, core\), got 'edema'"):
        compare(pairing, DEFINITIONS["nnunet"], 1, "Dice:edema")


def with_scores(comparison, values):
    """Replace Dice by contender and region, one value a case."""
    scores = {}
    for name, by_region in values.items():
        entries = [dict(entry) for entry in comparison.scores[name]]
        for region, dice in by_region.items():
            of_region = [entry for entry in entries if entry["region"] == region]
            for entry, value in zip(of_region, dice, strict=False):
                entry["Dice"] = value
        scores[name] = entries
    return replace(comparison, scores={**comparison.scores, **scores})


def test_regions_without_a_score_of_both_are_left_out_of_both_means(comparison):
    nan = float("nan")
    known = with_scores(
        comparison,
        {
            "poor": {"whole <tumor>": [0.5, 0.5, nan], "core": [0.1, nan, 0.9]},
            "good": {"whole <tumor>": [0.7, 0.7, 0.8], "core": [0.3, 0.0, nan]},
        },
    )
    found = known.endpoint_scores(["poor", "good"])
    assert found[:, :3].tolist() == [
        [pytest.approx(0.3), 0.5, pytest.approx(nan, nan_ok=True)],
        [pytest.approx(0.5), 0.7, pytest.approx(nan, nan_ok=True)],
    ]


def test_the_primary_endpoint_is_tested_alone_for_each_pair(comparison):
    assert [(each.baseline, each.contender, each.family) for each in comparison.primary] == [
        ("poor", "good", "primary, against the baseline"),
        ("poor", "equal", "primary, against the baseline"),
        ("good", "equal", "primary, among the others"),
    ]
    means = {
        name: np.mean(
            [[entry["Dice"] for entry in entries if entry["region"] == region] for region in comparison.regions]
        )
        for name, entries in comparison.scores.items()
    }
    for each in comparison.primary:
        assert each.mean_difference == pytest.approx(means[each.contender] - means[each.baseline])
    assert comparison.primary[2].p_holm == comparison.primary[2].p
    assert comparison.primary[0].p_holm == pytest.approx(2 * comparison.primary[0].p)


def test_the_endpoint_of_one_region_is_that_regions_score(folders):
    pairing = pair_folders([folders / "poor", folders / "good"], folders / "gt")
    result = compare(pairing, DEFINITIONS["directed"], 1, "hd95:core")
    [primary] = result.primary
    [of_region] = [each for each in result.paired if (each.region, each.metric) == ("core", "HD95")]
    assert (primary.p, primary.mean_difference, primary.wins) == (
        of_region.p,
        of_region.mean_difference,
        of_region.wins,
    )
    assert result.endpoint.title == "HD95 of core"
