"""Tables on disk: one JSON file, written a section at a time, and the Markdown page made from it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnunetv2_gsp.timing import Timing

Cell = str | int | float | Timing | None
Row = dict[str, Cell]

HEAD = """# Speed, measured

`python -m benchmarks` writes this page from `bench.json`; `python -m benchmarks NAME...` measures single sections anew.
Contenders take turns in one process. Times are medians in ms with the 10th and the 90th percentile; ratios are those of
medians. No contender is timed before its output was compared with plain PyTorch's.
"""


@dataclass(frozen=True)
class Table:
    """Results under one title; a row maps columns to cells, the first row has all columns."""

    title: str
    rows: Sequence[Row]
    note: str = ""


def save(folder: Path, section: str, measured: Mapping[str, Cell], tables: Sequence[Table]) -> None:
    """Put a section's tables in place of those that an earlier run left in `folder`, and write the page anew.

    Args:
        folder: holds bench.json and bench.md; made if missing.
        section: its name, the key in bench.json.
        measured: date, machine and versions, by name.
        tables: all tables of this section.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "bench.json"
    sections = json.loads(file.read_text()) if file.exists() else {}
    sections[section] = {"measured": measured, "tables": tables}
    content = json.dumps(sections, default=asdict, indent=1)
    file.write_text(content + "\n")
    (folder / "bench.md").write_text(page(json.loads(content)))


def page(sections: Mapping[str, Any]) -> str:
    """Return the Markdown page of the sections in `bench.json`."""
    parts = [HEAD]
    for section in sections.values():
        parts += [*map(markdown, section["tables"]), measured_on(section["measured"])]
    return "\n".join(parts)


def measured_on(measured: Mapping[str, Any]) -> str:
    """Return the line that says when and on which machine a section was measured."""
    return f"Measured on {', '.join(f'{key} {value}' for key, value in measured.items())}.\n"


def markdown(table: Mapping[str, Any]) -> str:
    """Return a table as Markdown."""
    columns = list(table["rows"][0])
    lines = [
        f"## {table['title']}\n",
        _line(columns),
        "|---" + "|---:" * (len(columns) - 1) + "|",
        *(_line(_cell(row.get(column)) for column in columns) for row in table["rows"]),
    ]
    return "\n".join(lines) + "\n" + (f"\n{table['note']}\n" if table["note"] else "")


def _line(cells: Any) -> str:
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return str(Timing(**value))
    if isinstance(value, float):
        return f"{value:.1e}" if 0 < value < 1e-2 else f"{value:.2f}" if value < 10 else f"{value:.1f}"
    return str(value)
