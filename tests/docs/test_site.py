"""`make docs`, whole: strict, and nothing of the site is loaded from a network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs")
from docs.figures import PROJECT

pytestmark = pytest.mark.contract
LOADED = re.compile(r"<(?:script|img|iframe)[^>]*\bsrc=\"?([^ >\"]+)|<link[^>]*\bhref=\"?([^ >\"]+)")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_there_and_loads_what_lies_beside_it(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 50
    for page in pages:
        for found in LOADED.findall(page.read_text(encoding="utf-8")):
            link = next(filter(None, found))
            assert not re.match(r"(https?:)?//", link), f"{page} loads {link}"
            if page.name != "404.html" and not link.startswith("data:"):  # which a server shows from anywhere
                assert (page.parent / link.split("?")[0]).exists(), f"{page} loads {link}"


def test_styles_load_nothing_from_a_network(site):
    for file in Path(site).rglob("*.css"):
        assert not re.search(r"url\(\"?(https?:)?//", file.read_text(encoding="utf-8")), file


def test_search_finds_functions_and_pages(site):
    index = (site / "search" / "search_index.js").read_text(encoding="utf-8")
    assert index.startswith("var __index = ")
    assert '"reference/python/ops.html#nnunetv2_gsp.ops.group_shift.group_shift"' in index
    assert "explanation/hd95.html" in index
