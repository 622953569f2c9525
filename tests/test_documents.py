"""What the documents point to is there."""

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
DOCUMENTS = [
    *map(PROJECT.joinpath, ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(PROJECT / "docs").rglob("*.md"),
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
def test_every_path_and_link_of_a_document_exists(document):
    text = document.read_text(encoding="utf-8")
    paths = re.findall(r"`((?:tests|nnunetv2_gsp|benchmarks|docs)/[\w./]*)`", text)
    links = re.findall(r"\]\(([^)#:\s]+)[#)]", text)
    missing = [path for path in paths if not (PROJECT / path).exists()]
    missing += [link for link in links if not (document.parent / link).exists()]
    assert missing == []
