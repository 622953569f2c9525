"""Makes the parts of the site that stand in the code, and brings in the project's own documents, when mkdocs builds.

A page asks for such a part with `{{ name }}` or `{{ name argument }}`, one of `PARTS`. Links in the pages are those of
the repository, so that they work there, too.
"""

import argparse
import logging
import os
import posixpath
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import griffe
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from nnunetv2_gsp.challenges import CHALLENGES
from nnunetv2_gsp.challenges.table import challenge_table
from nnunetv2_gsp.cli import parser
from nnunetv2_gsp.metrics.definitions import DEFINITIONS
from nnunetv2_gsp.plans_templates import load_template, schema, template_names
from nnunetv2_gsp.tables import Table

PROJECT = Path(__file__).parents[1]
# pages that lie elsewhere in the repository
DOCUMENTS = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "results/speed-cpu.md": "benchmarks/results/bench.md",
    "results/speed-gpu.md": "benchmarks/results/gpu.md",
    "results/effect.md": "benchmarks/effect.md",
}
WITHOUT_A_PAGE = ("cli", "plugin")  # the commands have theirs; nobody imports the way nnU-Net finds us
PYTHON = "reference/python"
os.environ["COLUMNS"] = "100"  # of the helps, whatever terminal builds the site
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#:\s]+)(#[^)]*)?\)")
_log = logging.getLogger("mkdocs.hooks.nnunetv2_gsp")  # below mkdocs, so that --strict counts its warnings


def on_config(config: MkDocsConfig) -> None:
    """Complete the navigation, and warn of public names without a docstring."""
    _section(config.nav, "Python").extend([f"{PYTHON}/index.md", *_python_pages()])
    found = (f"results/{file.name}" for file in sorted(Path(config.docs_dir, "results").glob("*.md")))
    _section(config.nav, "Results").extend([*(page for page in DOCUMENTS if page.startswith("results/")), *found])
    for name in _undocumented(griffe.load("nnunetv2_gsp", search_paths=[PROJECT])):
        _log.warning("%s is public and has no docstring", name)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the project's documents and a page for each folder of the package."""
    pages = {page: (PROJECT / source).read_text(encoding="utf-8") for page, source in DOCUMENTS.items()}
    for page, content in (pages | _python_pages()).items():
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put in what stands in the code, typeset the equations, and lead links to where their targets are on the site."""
    markdown = re.sub(r"\{\{ (\w+)(?: (.+?))? \}\}", lambda found: PARTS[found[1]](found[2]), markdown)
    markdown = re.sub(r"\$\$(.+?)\$\$", lambda found: convert(found[1], display="block"), markdown, flags=re.DOTALL)
    return LINK.sub(lambda found: _on_the_site(found, page.file.src_uri), markdown)


def _on_the_site(link: re.Match[str], page: str) -> str:
    """Return a link of the repository as the site has it; of a file that the site lacks its text alone."""
    before, text, target, anchor = link.groups(default="")
    source = DOCUMENTS.get(page, f"docs/{page}")
    file = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    to = {source: page for page, source in DOCUMENTS.items()}.get(file, file.removeprefix("docs/"))
    if to == file and not file.startswith("docs/"):
        return text
    return f"{before}[{text}]({posixpath.relpath(to, posixpath.dirname(page))}{anchor})"


def _section(nav: Any, title: str) -> Any:
    """Return the entries of a section of the navigation, at any depth; None if there is no such section."""
    for entry in nav:
        for name, content in entry.items() if isinstance(entry, dict) else ():
            inner = content if name == title else _section(content, title) if isinstance(content, list) else None
            if inner is not None:
                return inner
    return None


def _undocumented(holder: griffe.Object | griffe.Alias) -> Iterator[str]:
    """Return the names of public modules, classes and functions without a docstring."""
    for member in holder.members.values():
        if member.is_alias or member.name.startswith("_"):
            continue
        if (member.is_module or member.is_class or member.is_function) and not member.has_docstring:
            yield member.path
        if member.is_module or member.is_class:
            yield from _undocumented(member)


def _house() -> Iterable[tuple[list[str], str]]:
    """Return the names of each row of CONTRIBUTING's table of the package, and what it says of them."""
    text = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for names, what in re.findall(r"^\| (`nnunetv2_gsp/.*?) \| (.*) \|$", text, re.MULTILINE):
        yield re.findall(r"`(?:nnunetv2_gsp/)?(\w+)(?:/|\.py)`", names), what


def _python_pages() -> dict[str, str]:
    """Return the pages of the Python API by name: one for each row of the table of the package."""
    pages = {}
    for names, what in _house():
        if names[0] not in WITHOUT_A_PAGE:
            title = "foundations" if names[0] == "errors" else names[0]
            content = "\n\n".join(map(_module, (module for name in names for module in _modules(name))))
            pages[f"{PYTHON}/{title}.md"] = f"# {title}\n\n{what}\n\n{content}\n"
    return pages


def _modules(name: str) -> list[str]:
    """Return the public modules of a folder of the package, itself first; of a module itself."""
    files = sorted((PROJECT / "nnunetv2_gsp" / name).glob("*.py"))
    inner = [file.stem for file in files if not file.stem.startswith("_") and not file.stem.endswith("_kernels")]
    return [f"nnunetv2_gsp.{name}", *(f"nnunetv2_gsp.{name}.{module}" for module in inner)]


def _module(module: str) -> str:
    """Ask mkdocstrings for a module; of a package that exports names of its modules, for its docstring alone."""
    file = PROJECT / module.replace(".", "/") / "__init__.py"
    exports = file.exists() and re.search(r"__all__ = \[(.*?)\]", file.read_text(encoding="utf-8"), re.DOTALL)
    if not exports:
        return f"::: {module}"
    names = ", ".join(f"`{name}`" for name in re.findall(r'"(\w+)"', exports[1]))
    return f"::: {module}\n    options:\n      members: false\n\nImport from `{module}`: {names}."


def _challenges(_: str | None) -> str:
    return challenge_table(CHALLENGES.values()).markdown()


def _commands(_: str | None) -> str:
    [verbs] = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    return "\n\n".join(f"## {name}\n\n```text\n{verb.format_help()}```" for name, verb in verbs.choices.items())


def _settings(_: str | None) -> str:
    rows = [(f"`{name}`", entry["description"], _values(entry)) for name, entry in schema()["properties"].items()]
    return Table(["setting", "what", "values"], rows, n_labels=3).markdown()


def _values(entry: dict[str, Any]) -> str:
    """Return the values that a setting has, or else their type, in words."""
    if "examples" in entry:
        return ", ".join(f"`{value}`" for value in entry["examples"])
    kinds = [entry["type"]] if isinstance(entry["type"], str) else entry["type"]
    words = {"array": "list", "integer": "whole number", "boolean": "true or false"}
    return " or ".join(words.get(kind, kind) for kind in kinds)


def _templates(_: str | None) -> str:
    templates = map(load_template, template_names())
    rows = [(f"`{template.name}`", template.description, template.source) for template in templates]
    return Table(["template", "what", "source"], rows, n_labels=3).markdown()


def _definitions(_: str | None) -> str:
    return "\n".join(f"- {definition.in_words}" for definition in DEFINITIONS.values())


def _equation(number: str | None) -> str:
    """Return the line of the reference that is this equation of the paper."""
    code = (PROJECT / "nnunetv2_gsp" / "ops" / "reference.py").read_text(encoding="utf-8")
    [line] = re.findall(rf"^ *(.*?)  # Eq\. {number}$", code, re.MULTILINE)
    return f"```python\n{line}\n```"


def _python(_: str | None) -> str:
    pages = {Path(page): content.split("\n")[2] for page, content in _python_pages().items()}
    rows = [(f"[{page.stem}]({page.name})", what) for page, what in pages.items()]
    return Table(["folder", "what it is for"], rows, n_labels=2).markdown()


PARTS = {
    "challenges": _challenges,
    "commands": _commands,
    "definitions": _definitions,
    "equation": _equation,
    "python": _python,
    "settings": _settings,
    "templates": _templates,
}
