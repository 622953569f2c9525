"""Figures in README.md and the pages are those of the results, and no page has one that no page of results holds."""

import json
import re

import pytest

from benchmarks.page import page as page_of
from docs import figures
from docs.figures import FIGURES, MARK, PROJECT, filled, pages, written

# speed-ups, times and memory; a size such as 4×128³ is none
MEASURED = re.compile(r"\d(?:×(?![\d×])| (?:ms|s|GiB|TB/s)\b)|Dice of \d")
CODE = re.compile(r"```.*?```|^ {4}.*?$|`[^`]*`", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_every_figure_is_that_of_the_results(page):
    text = page.read_text(encoding="utf-8")
    assert filled(text) == text, "run: python docs/figures.py"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_no_figure_is_without_a_result(page):
    text = MARK.sub("FIGURE", CODE.sub("", page.read_text(encoding="utf-8")))
    assert [text[max(0, found.start() - 30) : found.end() + 20] for found in MEASURED.finditer(text)] == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_no_mark_begins_a_line_and_so_breaks_its_paragraph(page):
    assert re.findall(r"^ *<!-- figure.*$", page.read_text(encoding="utf-8"), re.MULTILINE) == []


def test_every_name_is_used():
    used = {name for page in pages() for _, name, *_ in MARK.findall(page.read_text(encoding="utf-8"))}
    assert used == set(FIGURES)


def test_the_page_of_results_is_its_json():
    results = PROJECT / "benchmarks" / "results"
    assert (results / "bench.md").read_text("utf-8") == page_of(json.loads((results / "bench.json").read_text("utf-8")))


def test_a_figure_is_written_into_its_mark(tmp_path, monkeypatch):
    (tmp_path / "results.md").write_text("# One\n\n| | ms |\n|---|---:|\n| stock | 12.6 (9-13) |\n", encoding="utf-8")
    monkeypatch.setattr(figures, "PROJECT", tmp_path)
    names = {"whole": figures.Figure("results.md", "One", "stock", "ms")}
    monkeypatch.setattr(figures, "FIGURES", {**names, "round": names["whole"]._replace(format=".0f")})
    assert [written(figure) for figure in figures.FIGURES.values()] == ["12.6 (9-13)", "13"]
    assert filled("<!-- figure: round -->7<!-- / --> ms") == "<!-- figure: round -->13<!-- / --> ms"
