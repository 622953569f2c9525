"""The page: it is whole, needs nothing else, and is the same at every run."""

import base64
import re

from nnunetv2_gsp.comparison.comparison import compare
from nnunetv2_gsp.comparison.page import as_html
from nnunetv2_gsp.comparison.pairing import pair_folders
from nnunetv2_gsp.comparison.verdict import verdict
from nnunetv2_gsp.metrics.definitions import DEFINITIONS
from tests.comparison.contenders import N_CASES, paired_models, write_model, write_predictions
from tests.comparison.pages import Page


def test_the_page_is_whole_and_needs_nothing_else(comparison):
    html = as_html(comparison)
    page = Page(html)
    assert page.open == []
    assert all(reference.startswith("data:image/") for reference in page.references)
    assert not re.search(r"url\(|@import|<script |<link|https?://", html)
    assert all(len(image["alt"]) > 20 for image in page.images)
    alts = [image["alt"] for image in page.images]
    # two contenders × two regions × Dice and HD95
    assert sum(alt.startswith("Scatter of") for alt in alts) == 8
    assert sum(alt.startswith("Sorted differences of") for alt in alts) == 8
    # three contenders × two regions
    assert sum(alt.startswith("Bland-Altman plot of") for alt in alts) == 6
    # four cases that separate, four of the worst and four median ones, two regions each
    assert sum("outlines of" in alt for alt in alts) == 24
    assert 12 <= sum("without outlines" in alt for alt in alts) <= 24  # one for each slice
    assert page.tags.count("figcaption") == 2 * 2 + 1 + 12
    assert verdict(comparison) in page.text
    assert "whole <tumor>" in page.text
    for note in comparison.notes:
        assert note in page.text
    for case in comparison.cases:
        assert case in page.text.partition("All cases")[2]


def test_no_case_is_drawn_twice_and_those_that_separate_come_first(comparison):
    headings = re.findall(r"<h3>(case_\d\d)</h3>", as_html(comparison))
    assert len(headings) == len(set(headings)) == 12
    assert headings[:4] == comparison.separating_cases()[:4]


def test_contenders_that_do_not_differ_are_separated_by_no_case(folders):
    pairing = pair_folders([folders / "poor", folders / "equal"], folders / "gt")
    assert "The cases that separate" not in as_html(compare(pairing, DEFINITIONS["captk"], 1))


def test_svgs_inside_name_no_other_file(comparison):
    for image in Page(as_html(comparison)).images:
        kind, content = image["src"].split(";base64,")
        content = base64.b64decode(content, validate=True)
        if kind == "data:image/png":
            assert content.startswith(b"\x89PNG")
        else:
            assert not re.search(rb'href="(?!#)|url\((?!#)', content)


def test_the_page_is_the_same_at_every_run(comparison):
    assert as_html(comparison) == as_html(comparison)


def test_the_page_of_models_has_curves_costs_and_folds(trained):
    page = Page(as_html(compare(paired_models(), DEFINITIONS["directed"], 1)))
    assert sum(image["alt"].startswith("Learning curves") for image in page.images) == 3
    assert "What it cost" in page.text
    assert "fold 1" in page.text


def test_other_training_is_stated_above_the_verdict(trained):
    write_model(trained / "results", "nnUNetTrainer_long", 0.05, [range(7), range(7, N_CASES)], 4, 8)
    result = compare(paired_models(["nnUNetTrainer", "nnUNetTrainer_long"]), DEFINITIONS["directed"], 1)
    text = Page(as_html(result)).text
    assert text.index(result.caveats[0]) < text.index("Verdict.")


def test_names_are_escaped_wherever_they_stand(tmp_path):
    for name in ("gt", "<b>a", "&amp;"):
        write_predictions(tmp_path / name, 0.1, range(2))
    html = as_html(
        compare(pair_folders([tmp_path / "<b>a", tmp_path / "&amp;"], tmp_path / "gt"), DEFINITIONS["directed"], 1)
    )
    page = Page(html)
    assert page.open == []
    assert "<b>a against" not in html
    assert "&amp; against <b>a" in page.text
