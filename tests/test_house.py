"""A room imports only from rooms above it in CONTRIBUTING's table of the house, and every room stands there."""

import ast
import re
from pathlib import Path

PROJECT = Path(__file__).parents[1]
PACKAGE = PROJECT / "nnunetv2_gsp"
UNCOUNTED = {"__init__", "__main__"}  # the version, and the command line once more


def rooms():
    """Return each room's number in the table, by the name of its folder or module."""
    text = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| (`nnunetv2_gsp/.*?) \|", text, re.MULTILINE)
    return {
        re.sub(r"^nnunetv2_gsp/|/$|\.py$", "", name): number
        for number, row in enumerate(table)
        for name in re.findall(r"`([^`]+)`", row)
    }


def room_of(module):
    return module.split(".")[1] if module.count(".") else "__init__"


def imported_rooms(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "nnunetv2_gsp":
            yield from (room_of(f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (room_of(alias.name) for alias in node.names if alias.name.split(".")[0] == "nnunetv2_gsp")


def sources():
    for file in sorted(PACKAGE.rglob("*.py")):
        yield file, file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_room_stands_in_the_table():
    assert {room for _, room in sources()} - UNCOUNTED == set(rooms())


def test_imports_go_up_the_table():
    numbers = rooms()
    down = {
        f"{file.relative_to(PACKAGE)} imports {imported}"
        for file, room in sources()
        if room not in UNCOUNTED
        for imported in imported_rooms(file)
        if imported not in UNCOUNTED | {"__version__"} and numbers[imported] > numbers[room]
    }
    assert down == set()
