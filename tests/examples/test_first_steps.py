"""The notebook runs from top to bottom, and what it trains finds the tumour."""

import re

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
from docs.figures import PROJECT

NOTEBOOK = PROJECT / "examples" / "first_steps.ipynb"


def printed(cell):
    return "".join(output.get("text", "") for output in cell.outputs)


def test_it_is_kept_without_outputs():
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    assert [cell.get("outputs") for cell in cells if cell.cell_type == "code" and cell.outputs] == []


@pytest.mark.contract
def test_it_runs_and_finds_the_tumour(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=3600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    [dice] = re.findall(r"^whole_tumor +([\d.]+)", printed(code[-1]), re.MULTILINE)
    assert float(dice) > 0.5
    assert sum("image/png" in output.get("data", {}) for cell in code for output in cell.outputs) == 2
