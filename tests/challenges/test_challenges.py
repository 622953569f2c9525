"""Every challenge as an object: the organisers' own code is the oracle of its labels."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from nnunetv2_gsp import challenges
from nnunetv2_gsp.challenges import CHALLENGES, EDITIONS, FAMILIES, SUBMISSIONS
from nnunetv2_gsp.metrics.definitions import DEFINITIONS

PACKAGE = Path(challenges.__file__).parents[1]
# labels on disk of each region: get_TissueWiseSeg of rachitsaluja/BraTS-2023-Metrics and BraTS-2024-Metrics, and the
# configurations of BraTS_evaluation 0.0.10
IN_2023 = {"whole_tumor": {1, 2, 3}, "tumor_core": {1, 3}, "enhancing_tumor": {3}}
WITH_CAVITY = {**IN_2023, "resection_cavity": {4}}
OF_CHILDREN = {"whole_tumor": {1, 2, 3, 4}, "tumor_core": {1, 2, 3}, "enhancing_tumor": {1}, "cystic_component": {3}}
TARGET = {"gross_tumor_volume": {1}}
REGIONS = {
    **dict.fromkeys(("brats2023", "brats2023-men", "brats2023-met", "brats2023-ped", "brats2023-ssa"), IN_2023),
    **dict.fromkeys(("brats2024-ssa", "brats2025-goat", "brats2025-men"), IN_2023),
    **dict.fromkeys(("brats2024", "brats2024-met", "brats2025", "brats2025-met"), WITH_CAVITY),
    **dict.fromkeys(("brats2024-ped", "brats2025-ped"), OF_CHILDREN),
    **dict.fromkeys(("brats2024-men-rt", "brats2025-men-rt"), TARGET),
}


@pytest.mark.parametrize("name", REGIONS)
def test_regions_are_the_organisers(name):
    challenge = CHALLENGES[name]
    found = {
        region: {on_disk for on_disk, inside in challenge.labels.items() if inside in as_tuple(labels)}
        for region, labels in challenge.regions.items()
    }
    assert found == REGIONS[name]


def as_tuple(labels):
    return labels if isinstance(labels, tuple) else (labels,)


@pytest.mark.parametrize("challenge", CHALLENGES.values(), ids=CHALLENGES)
def test_an_object_is_whole(challenge):
    inside = [tissue.label for tissue in challenge.on_disk.values()]
    assert sorted(inside) == list(range(1, len(inside) + 1))  # as nnU-Net wants them, and each once
    assert {label for labels in challenge.regions.values() for label in as_tuple(labels)} == set(inside)
    if challenge.regions_class_order is not None:
        assert sorted(challenge.regions_class_order) == sorted(inside)
    assert challenge.source
    assert challenge.name.endswith(challenge.edition)


def test_the_choices_are_those_of_the_objects():
    assert list(FAMILIES) == ["brats", "msd", "promise12"]
    assert {f"brats{edition}" if edition[:1] == "2" else edition for edition in EDITIONS} == {
        challenge.name for challenge in FAMILIES["brats"]
    }
    assert set(CHALLENGES) - set(SUBMISSIONS) == {"fets2022", "msd_task01", "msd_task05"}


def test_choices_cost_no_import():
    """Completion and --help read them."""
    program = (
        "import sys, nnunetv2_gsp.challenges; print({'numpy', 'SimpleITK', 'torch', 'nnunetv2'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "set()\n"


def test_nothing_else_branches_on_a_name():
    files = [*(PACKAGE / "datasets").glob("*.py"), *(PACKAGE / "submission").glob("*.py")]
    files += [PACKAGE / "cli" / f"{verb}.py" for verb in ("convert", "submit", "check_submission")]
    names = {*CHALLENGES, *FAMILIES, *EDITIONS}
    found = [
        f"{file.name}: {node.value}"
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in names
    ]
    assert found == []


def test_every_score_is_a_definition():
    assert {challenge.scores for challenge in CHALLENGES.values()} <= set(DEFINITIONS)
