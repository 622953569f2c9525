"""What the pages say can be typed: their examples run, their commands parse, their links lead somewhere."""

import doctest
import re
import shlex
from pathlib import Path

import pytest

from docs.figures import PROJECT, pages
from nnunetv2_gsp.cli import parser

PAGES = pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
COMMAND = re.compile(r"^    (nnUNetv2_gsp .*?)(?:\s+#.*)?$", re.MULTILINE)


@PAGES
def test_every_example_runs(page):
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    assert doctest.testfile(str(page), module_relative=False, optionflags=flags, encoding="utf-8").failed == 0


@PAGES
def test_every_command_is_one(page):
    for command in COMMAND.findall(page.read_text(encoding="utf-8")):
        parser().parse_args(shlex.split(command)[1:])


def test_commands_and_examples_are_found():
    text = "".join(page.read_text(encoding="utf-8") for page in pages())
    assert len(COMMAND.findall(text)) > 30
    assert text.count("\n>>> ") > 10


@PAGES
def test_every_word_of_the_glossary_that_is_linked_is_there(page):
    words = re.findall(r"^## (.*)$", (PROJECT / "docs" / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
    anchors = {word.lower().replace(" ", "-") for word in words}
    assert set(re.findall(r"glossary\.md#([\w-]+)", page.read_text(encoding="utf-8"))) <= anchors


def places(name):
    """Return where a module, a folder or something in a module would be."""
    path = PROJECT.joinpath(*name.split("."))
    return path, path.with_suffix(".py"), path.parent.with_suffix(".py")


def test_modules_that_pages_name_exist():
    text = "".join(page.read_text(encoding="utf-8") for page in pages())
    names = set(re.findall(r"\b(nnunetv2_gsp(?:\.\w+)+)", text)) - {"nnunetv2_gsp.pth"}
    assert {name for name in names if not any(map(Path.exists, places(name)))} == set()
