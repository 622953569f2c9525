"""Results of a GPU on disk: one JSON file, and the Markdown page made from it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.gpu.workers import News
from benchmarks.page import markdown, measured_on
from nnunetv2_gsp.files import write_text

HEAD = """# On a GPU, measured

`python -m benchmarks.gpu` writes this page from `gpu.json`; `--only NAME,NAME` measures single sections anew.
GSP / stock is the ratio of their times: below 1, GSP is faster. Times are medians in ms, in brackets the 10th and the
90th percentile, of contenders that take turns in one process, unless a note says otherwise. What is not here was not
measured.
"""


class Results:
    """Tables and failures of each section, written to disk as soon as they are known.

    Args:
        folder: holds gpu.json and gpu.md; made if missing. Sections of an earlier run stay until they are measured
            again.
        order: names of all sections, in the order of the page.
    """

    def __init__(self, folder: Path, order: Sequence[str]):
        folder.mkdir(parents=True, exist_ok=True)
        self.json, self.page, self.order = folder / "gpu.json", folder / "gpu.md", list(order)
        self.sections: dict[str, Any] = json.loads(self.json.read_text()) if self.json.exists() else {}
        self._of_this_run: set[str] = set()
        self._has_tables: set[str] = set()

    def take(self, news: News) -> None:
        """Record a table or the end of a section, and write both files."""
        name = news.section.name
        section = self.sections.setdefault(name, {"measured": {}, "tables": []})
        if name not in self._of_this_run:
            self._of_this_run.add(name)
            section.pop("failure", None)
        if news.table is not None:
            if name not in self._has_tables:  # only now, as a section may fail before it has any
                self._has_tables.add(name)
                section["tables"], section["measured"] = [], news.measured
            _put(section["tables"], json.loads(json.dumps(asdict(news.table))))
        if news.failure:
            section["failure"] = news.failure
        self.save()

    def save(self) -> None:
        """Write both files."""
        self.sections = dict(sorted(self.sections.items(), key=lambda item: self.order.index(item[0])))
        write_text(json.dumps(self.sections, indent=1) + "\n", self.json)
        write_text(page(self.sections), self.page)

    def short(self, sections: Sequence[str]) -> str:
        """Return the first tables of some sections, and a line for each section that did not finish; of this run."""
        found = [self.sections[name] for name in sections if name in self._has_tables]
        return "\n".join(
            [
                *(markdown(section["tables"][0]) for section in found),
                *(_unfinished(name, self.sections[name]) for name in self.failures()),
            ]
        )

    def failures(self) -> list[str]:
        """Return the names of this run's sections that did not finish."""
        return [name for name in self.sections if name in self._of_this_run and "failure" in self.sections[name]]


def page(sections: Mapping[str, Any]) -> str:
    """Return the Markdown page of `gpu.json`; sections measured on the same machine name it once, below."""
    parts, names = [HEAD], list(sections)
    for name, following in zip(names, [*names[1:], None], strict=True):
        section = sections[name]
        parts += map(markdown, section["tables"])
        if "failure" in section:
            parts.append(_unfinished(name, section))
        if section["measured"] and (following is None or sections[following]["measured"] != section["measured"]):
            parts.append(measured_on(section["measured"]))
    return "\n".join(parts)


def _put(tables: list[dict[str, Any]], table: dict[str, Any]) -> None:
    """Replace the table of the same title, or append the table."""
    titles = [each["title"] for each in tables]
    index = titles.index(table["title"]) if table["title"] in titles else len(tables)
    tables[index : index + 1] = [table]


def _unfinished(name: str, section: Mapping[str, Any]) -> str:
    return f"**Not finished: {name}**, {' '.join(section['failure'].split())}\n"
