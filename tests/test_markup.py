"""HTML: what is filled in is escaped, and names that are not filled in are an error."""

import pytest
from jinja2 import UndefinedError

from nnunetv2_gsp.markup import breakable, render
from nnunetv2_gsp.tables import Table


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("nnUNetTrainer_250epochs", "nnUNet<wbr>Trainer_<wbr>250epochs"),
        ("nnUNet", "nnUNet"),
        ("a<b", "a&lt;b"),
        ("GSP", "GSP"),
        ("CSCSUpShift", "CSCSUp<wbr>Shift"),
    ],
)
def test_names_break_where_a_word_begins(name, broken):
    assert breakable(name) == broken


def test_what_is_filled_in_is_escaped():
    assert "<script>" not in render("table.html.j2", table=Table(["<script>"], [["<script>"]]), caption="<script>")


def test_a_name_that_is_not_filled_in_is_an_error():
    with pytest.raises(UndefinedError):
        render("table.html.j2", table=Table(["a"], []))
