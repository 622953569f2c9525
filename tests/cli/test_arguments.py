"""What texts on the command line mean."""

import argparse

import pytest

from nnunetv2_gsp.cli.arguments import positive, setting, settings, voxels
from nnunetv2_gsp.errors import ConflictingInputError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("shift_ratio=1", 1),
        ("shift_ratio=.25", 0.25),
        ("shift_position=CCS", "CCS"),
        ("strict=true", True),
        ("spatial_groups=[[2,2,2],[2,4,4]]", [[2, 2, 2], [2, 4, 4]]),
        ("name=a=b", "a=b"),
    ],
)
def test_a_setting_is_json_a_number_or_a_text(text, value):
    assert setting(text) == (text.partition("=")[0], value)


@pytest.mark.parametrize("text", ["shift_ratio", "=1", ""])
def test_a_setting_needs_a_key_and_a_sign(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected KEY=VALUE"):
        setting(text)


def test_a_setting_comes_once():
    assert settings([("a", 1), ("b", 2)]) == {"a": 1, "b": 2}
    with pytest.raises(ConflictingInputError, match="each setting once, got a b a; drop the repeated ones"):
        settings([("a", 1), ("b", 2), ("a", 1)])


def test_numbers_count_from_one():
    assert (positive("12"), voxels("12"), voxels("auto")) == (12, 12, "auto")
    for text in ("0", "-1", "1.5", "many", "²", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="from 1 on"):
            positive(text)
