"""Tables as text, Markdown and HTML, by hand."""

from html.parser import HTMLParser

import pytest

from nnunetv2_gsp.tables import Table

TABLE = Table(
    ["region", "metric", "mean"], [["core", "Dice", "0.9"], ["a|b <c>", "", "12.25"]], n_labels=2, marked=frozenset({1})
)


class Cells(HTMLParser):
    """The cells of a table, a list a row, with their attributes; character references are resolved."""

    def __init__(self, html):
        super().__init__()
        self.rows, self.cells, self.row_attributes = [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
            self.row_attributes.append(dict(attrs))
        elif tag in ("th", "td"):
            self.rows[-1].append("")
            self.cells.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip("\n")


def test_the_screen_has_labels_flush_left_and_values_flush_right():
    assert TABLE.text().splitlines() == ["region   metric   mean", "core     Dice      0.9", "a|b <c>          12.25"]


def test_markdown_escapes_what_would_end_a_cell():
    assert TABLE.markdown().splitlines() == [
        "| region | metric | mean |",
        "|---|---|---:|",
        "| core | Dice | 0.9 |",
        r"| a\|b <c> |  | 12.25 |",
    ]


def test_padded_markdown_is_aligned_in_its_source():
    assert TABLE.markdown(padded=True).splitlines() == [
        "| region   | metric |  mean |",
        "|----------|--------|------:|",
        "| core     | Dice   |   0.9 |",
        r"| a\|b <c> |        | 12.25 |",
    ]


def test_html_escapes_and_names_every_cell():
    cells = Cells(TABLE.html('a "caption" & <more>'))
    assert cells.rows == [
        ["region", "metric", "mean"],
        ["core", "Dice", "0.9"],
        ["a|b <c>", "\N{NO-BREAK SPACE}", "12.25"],
    ]
    assert cells.row_attributes == [{}, {}, {"class": "marked"}]
    label = {"class": "label"}
    assert cells.cells[3:6] == [
        ("th", {"scope": "row", **label}),
        ("td", {**label, "data-label": "metric"}),
        ("td", {"data-label": "mean"}),
    ]
    assert "a &#34;caption&#34; &amp; &lt;more&gt;" in TABLE.html('a "caption" & <more>')


def test_long_names_break_where_a_word_begins():
    header = Table(["nnUNetTrainer_<5>epochs"], []).html("")
    assert "nnUNet<wbr>Trainer_<wbr>&lt;5&gt;epochs" in header


def test_a_table_without_rows_is_its_header():
    assert Table(["a", "b"], []).text() == "a  b"
    assert Table(["a", "b"], []).markdown() == "| a | b |\n|---|---:|"


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="expected 2 cells in each row, got 1: x"):
        Table(["a", "b"], [["x"]])
