"""The table of challenges has an example of each one's names."""

from nnunetv2_gsp.challenges import CHALLENGES
from nnunetv2_gsp.challenges.table import challenge_table


def test_every_example_of_a_name_is_one():
    for challenge, row in zip(CHALLENGES.values(), challenge_table(CHALLENGES.values()).rows, strict=True):
        case = getattr(challenge.layout, "case", None)
        assert case is None or case.fullmatch(row[2].strip("`").replace("*", "TCIA08_1")), row
