"""Definitions: what each of them says of empty masks, in numbers and in words."""

import math
import subprocess
import sys

import pytest

from nnunetv2_gsp.metrics.definitions import DEFINITIONS, HD95, nsd_at

NAN = math.nan
DIAGONAL_MM = 13.0  # of the images in test_scoring.py: √(4² + 3² + 12²)

# definition -> Dice and HD95 where both are empty, HD95 where one is
EMPTY_CASES = {
    "captk": (1, 0, 373.1287),
    **dict.fromkeys(("brats2023", "brats2023-men", "brats2023-met"), (1, 0, 374)),
    "brats2024": (1, 0, 337),
    **dict.fromkeys(("brats2024-ssa", "brats2024-ped", "brats2024-men"), (1, 0, 374)),
    **dict.fromkeys(("brats2024-met", "brats2024-men-rt"), (1, 0, DIAGONAL_MM)),
    **dict.fromkeys(("brats2025", "brats2025-met", "panoptica"), (NAN, NAN, 373)),
    "directed": (1, 0, 374),
    "nnunet": (NAN, NAN, NAN),
    "promise12": (1, 0, DIAGONAL_MM),
}
DIAGONALS = {
    "promise12": "the image diagonal",
    **dict.fromkeys(
        ("brats2024-met", "brats2024-men-rt"), "the number of voxels along the image diagonal, taken as mm"
    ),
}


def test_the_table_has_every_definition():
    assert list(EMPTY_CASES) == list(DEFINITIONS)


@pytest.mark.parametrize("name", EMPTY_CASES)
def test_words_say_what_empty_masks_score(name):
    dice, hd95_both, hd95_one = EMPTY_CASES[name]
    words = DEFINITIONS[name].in_words
    assert words.startswith(name)
    penalty = DIAGONALS.get(name, "left out" if math.isnan(hd95_one) else f"{hd95_one} mm")
    assert words.count(f"HD95 and ABD {penalty}. Scores") == 1, words
    assert (
        f"Dice and NSD {dice}, HD95 and ABD {hd95_both} mm"
        if not math.isnan(dice)
        else "Dice and NSD left out, HD95 and ABD left out"
    ) in words


def test_lesions_are_those_of_brats_from_2023_and_thirds_promise12s():
    with_lesions = [name for name, definition in DEFINITIONS.items() if definition.lesions]
    assert with_lesions == [name for name in DEFINITIONS if name.startswith("brats")]
    assert [metric.name for metric in DEFINITIONS["brats2025"].metrics[-4:]] == [
        "lesion-wise Dice",
        "lesion-wise HD95",
        "lesion-wise NSD at 1 voxel",
        "lesion F1",
    ]
    assert [name for name, definition in DEFINITIONS.items() if definition.has_thirds] == ["promise12"]
    assert [metric.name for metric in DEFINITIONS["promise12"].metrics] == [
        "Dice",
        "HD95",
        "NSD at 1 mm",
        "ABD",
        "aRVD",
    ]


def test_a_title_has_the_unit():
    assert (HD95.title, nsd_at(1).title) == ("HD95 (mm)", "NSD at 1 mm")


def test_a_command_line_lists_the_names_without_what_computes():
    listing = (
        "import sys; from nnunetv2_gsp.metrics.definitions import DEFINITIONS; "
        "print({'numpy', 'scipy', 'torch', 'SimpleITK'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True).stdout == (
        "set()\n"
    )
