"""The comparison's page in headless Chromium: every picture is drawn, nothing complains, nothing is wider than it."""

import json
import os
import re
import shutil
import subprocess
from html import escape, unescape

import pytest

from nnunetv2_gsp.comparison.comparison import compare
from nnunetv2_gsp.comparison.page import as_html
from nnunetv2_gsp.comparison.pairing import pair_folders
from nnunetv2_gsp.metrics.definitions import DEFINITIONS
from tests.comparison.contenders import tumour, write_predictions
from tests.metrics.drawings import write

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")

# a frame of its own gives a width below the smallest that a window takes
FRAME = """<!DOCTYPE html><body><iframe srcdoc="{page}" style="width: {width}px; height: 900px; border: 0"></iframe>
<pre></pre><script>
window.onload = () => {{
  const inside = document.querySelector("iframe").contentDocument, images = [...inside.images];
  document.querySelector("pre").textContent = JSON.stringify({{
    images: images.length, drawn: images.filter(image => image.complete && image.naturalWidth > 0).length,
    visible: images.filter(image => image.getBoundingClientRect().width > 20).length,
    width: inside.documentElement.scrollWidth, before: images[0].getBoundingClientRect().top,
    buttons: inside.querySelectorAll(".sortable button").length,
    cases: inside.querySelectorAll(".sortable tbody tr").length,
    sorted: [[0, 1], [0, 1], [4, 1]].map(([column, clicks]) => {{
      const button = inside.querySelectorAll(".sortable button")[column];
      if (button) for (let click = 0; click < clicks; ++click) button.click();
      return [...inside.querySelectorAll(".sortable tbody tr")].map(row => row.cells[column].textContent);
    }})}});
}};
</script></body>"""


PHONE = 844  # pixels of a screen
N_CASES = 8


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    base = tmp_path_factory.mktemp("page")
    names = {"gt": 0, "nnUNetTrainer_250epochs": 0.5, "nnUNetTrainerGSPNoDeepSupervision": 0.1, "nnUNetTrainerGSP": 0.2}
    for name, noise in names.items():
        write_predictions(base / name, noise, range(N_CASES))
    write(0 * tumour(2), base / "nnUNetTrainerGSP" / "case_02.nii.gz", (2.0, 1.0, 1.0))
    folders = [base / name for name in list(names)[1:]]
    return as_html(compare(pair_folders(folders, base / "gt"), DEFINITIONS["brats2023"], 1))


def seen_in_browser(page, width, folder, attributes=""):
    """Return what Chromium finds in the page, in a frame of this width."""
    file = folder / "frame.html"
    frame = FRAME.format(page=escape(page), width=width).replace("<iframe ", f"<iframe {attributes} ")
    file.write_text(frame, encoding="utf-8")
    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [
            str(CHROMIUM),
            "--headless",
            "--disable-gpu",
            *as_root,
            f"--user-data-dir={folder / 'profile'}",
            "--enable-logging=stderr",
            "--virtual-time-budget=20000",
            "--window-size=1400,1000",
            "--dump-dom",
            file.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert attributes or "CONSOLE" not in done.stderr
    [found] = re.findall(r"<pre>(.*?)</pre>", done.stdout, re.DOTALL)
    return json.loads(unescape(found))


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_the_page_is_drawn_whole(page, width, tmp_path):
    seen = seen_in_browser(page, width, tmp_path)
    assert seen["images"] == seen["drawn"] == seen["visible"] == page.count("<img")
    assert seen["width"] <= width
    assert seen["before"] < 10 * PHONE


def test_a_click_on_a_title_sorts_the_cases(page, tmp_path):
    ascending, descending, differences = seen_in_browser(page, 1280, tmp_path)["sorted"]
    assert ascending == [f"case_{case:02d}" for case in range(N_CASES)]
    assert descending == ascending[::-1]
    assert list(map(float, differences)) == sorted(map(float, differences))
    assert len(set(differences)) > 2


def test_without_javascript_all_cases_are_there(page, tmp_path):
    seen = seen_in_browser(page, 390, tmp_path, 'sandbox="allow-same-origin"')
    assert (seen["buttons"], seen["cases"]) == (0, N_CASES)
    assert seen["sorted"][0] == [f"case_{case:02d}" for case in range(N_CASES)]
    assert seen["drawn"] == page.count("<img")
