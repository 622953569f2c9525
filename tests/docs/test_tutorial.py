"""The tutorial runs as it is printed, from an empty folder to a submission; its figures are of one run, not checked."""

import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from docs.figures import PROJECT

pytest.importorskip("nilearn")

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$|((?:^ {4}[^\n]*\n)+)", re.DOTALL | re.MULTILINE)
DATA, MODEL = "Dataset999_BraTSPhantom", "__nnUNetPlansSmall__3d_fullres"


def tutorial():
    """Return the part of the page that is typed: by hand, up to one's own data."""
    text = (PROJECT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    return text[text.index("First nnU-Net's three folders") : text.index("## With your own data")]


def script():
    """Return what is typed as one script of bash, which ends at the first command that fails."""
    lines = ["set -e"]
    for kind, fenced, typed in (found.groups() for found in BLOCK.finditer(tutorial())):
        if kind == "python":
            lines.append(f"python <<'END'\n{fenced}END")
        elif typed:
            lines.append(dedent(typed))
    return "\n".join(lines)


def printed(beginning):
    """Return the printed text that begins with some words."""
    [text] = [
        fenced for kind, fenced, _ in BLOCK.findall(tutorial()) if kind == "text" and fenced.startswith(beginning)
    ]
    return text


@pytest.mark.contract
def test_what_is_printed_runs_from_an_empty_folder_to_a_submission(tmp_path):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(PROJECT)}
    log = tmp_path / "tutorial.log"
    with log.open("w", encoding="utf-8") as output:
        run = subprocess.run(
            ["bash", "-c", script()], cwd=tmp_path, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    said = log.read_text(encoding="utf-8")
    assert run.returncode == 0, said[-3000:]
    for line in [*printed("Group Shift").splitlines(), *printed("Wrote submission.zip").splitlines()]:
        assert line in said
    folder = tmp_path / "nnUNet_gsp_tutorial"
    for trainer in ("nnUNetTrainer_5epochs", "nnUNetTrainerGSP_5epochs"):
        assert (
            folder / "nnUNet_results" / DATA / f"{trainer}{MODEL}" / "fold_0" / "validation" / "summary.json"
        ).is_file()
    assert (folder / "comparison" / "comparison.html").is_file()
    assert len(list((folder / "predictions").glob("*.nii.gz"))) == 4
