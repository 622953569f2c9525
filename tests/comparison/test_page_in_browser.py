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
from tests.comparison.contenders import write_predictions

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
    width: inside.documentElement.scrollWidth}});
}};
</script></body>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    base = tmp_path_factory.mktemp("page")
    names = {"gt": 0, "nnUNetTrainer_250epochs": 0.5, "nnUNetTrainerGSPNoDeepSupervision": 0.1}
    for name, noise in names.items():
        write_predictions(base / name, noise, range(8))
    folders = [base / name for name in list(names)[1:]]
    return as_html(compare(pair_folders(folders, base / "gt"), DEFINITIONS["brats2023"], 1))


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_the_page_is_drawn_whole(page, width, tmp_path):
    file = tmp_path / "frame.html"
    file.write_text(FRAME.format(page=escape(page), width=width), encoding="utf-8")
    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [
            str(CHROMIUM),
            "--headless",
            "--disable-gpu",
            *as_root,
            f"--user-data-dir={tmp_path / 'profile'}",
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
    assert "CONSOLE" not in done.stderr
    [found] = re.findall(r"<pre>(.*?)</pre>", done.stdout, re.DOTALL)
    seen = json.loads(unescape(found))
    assert seen["images"] == seen["drawn"] == seen["visible"] == page.count("<img")
    assert seen["width"] <= width
