"""The README's table of challenges is made from the objects."""

import re
from pathlib import Path

from nnunetv2_gsp.challenges import CHALLENGES
from nnunetv2_gsp.challenges.table import challenge_table

README = Path(__file__).parents[2] / "README.md"


def test_the_readmes_table_is_the_objects():
    [table] = re.findall(r"<!-- challenges -->\n\n(.*?)\n\n<!-- /challenges -->", README.read_text("utf-8"), re.DOTALL)
    assert table == challenge_table(CHALLENGES.values()).markdown()


def test_every_example_of_a_name_is_one():
    for challenge, row in zip(CHALLENGES.values(), challenge_table(CHALLENGES.values()).rows, strict=True):
        case = getattr(challenge.layout, "case", None)
        assert case is None or case.fullmatch(row[2].strip("`").replace("*", "TCIA08_1")), row
