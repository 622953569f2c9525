"""What the build of the site puts into its pages."""

import re
from types import SimpleNamespace

import pytest

pytest.importorskip("mkdocs")
from docs import hooks
from nnunetv2_gsp.challenges import CHALLENGES
from nnunetv2_gsp.cli import parser
from nnunetv2_gsp.metrics.definitions import DEFINITIONS
from nnunetv2_gsp.plans_templates import schema, template_names


def made(markdown, page="how-to/page.md"):
    return hooks.on_page_markdown(markdown, SimpleNamespace(file=SimpleNamespace(src_uri=page)), None, None)


@pytest.mark.parametrize(
    ("part", "names"),
    [
        ("challenges", CHALLENGES),
        ("definitions", DEFINITIONS),
        ("settings", schema()["properties"]),
        ("templates", template_names()),
    ],
)
def test_a_table_has_every_name(part, names):
    assert set(names) <= set(re.findall(r"[\w-]+", made(f"{{{{ {part} }}}}")))


def test_every_verb_has_its_help():
    page = made("{{ commands }}")
    for verb in re.findall(r"^## (.*)$", page, re.MULTILINE):
        with pytest.raises(SystemExit):
            parser().parse_args([verb, "--help"])
        assert f"usage: nnUNetv2_gsp {verb} " in page
    assert {"plan", "search", "check-submission"} <= set(re.findall(r"^## (.*)$", page, re.MULTILINE))


@pytest.mark.parametrize("number", range(1, 9))
def test_every_equation_has_its_line(number):
    assert re.fullmatch(r"```python\n\S.* = .*\n```", made(f"{{{{ equation {number} }}}}"))


def test_equations_are_mathml():
    assert made("$$a_b$$").startswith("<math")


@pytest.mark.parametrize(
    ("page", "link", "on_the_site"),
    [
        ("index.md", "[a](docs/limits.md#speed)", "[a](limits.md#speed)"),
        ("index.md", "![a](docs/group_shift.png)", "![a](group_shift.png)"),
        ("limits.md", "[a](../benchmarks/effect.md)", "[a](results/effect.md)"),
        ("explanation/speed.md", "[a](../../benchmarks/results/bench.md)", "[a](../results/speed-cpu.md)"),
        ("how-to/train.md", "[a](../glossary.md#stage)", "[a](../glossary.md#stage)"),
        ("bad_input.md", "[a test](../tests/test_plans.py)", "a test"),
        ("index.md", "[a](https://example.org)", "[a](https://example.org)"),
    ],
)
def test_links_of_the_repository_lead_to_pages_of_the_site(page, link, on_the_site):
    assert made(link, page) == on_the_site


def test_every_public_module_has_a_section():
    pages = "\n".join(hooks._python_pages().values())
    shown = set(re.findall(r"^::: ([\w.]+)$", pages, re.MULTILINE))
    files = (hooks.PROJECT / "nnunetv2_gsp").rglob("*.py")
    modules = {
        ".".join(file.relative_to(hooks.PROJECT).with_suffix("").parts).removesuffix(".__init__") for file in files
    }
    hidden = re.compile(r"nnunetv2_gsp(\.(cli|plugin)(\..*)?|.*\._.*|.*_kernels)?")
    assert {module for module in modules if not hidden.fullmatch(module)} == shown


def test_public_names_without_a_docstring_are_found(tmp_path):
    (tmp_path / "some.py").write_text('"""A module."""\n\ndef said():\n    """Say."""\n\n\ndef unsaid():\n    pass\n')
    assert list(hooks._undocumented(hooks.griffe.load("some", search_paths=[tmp_path]))) == ["some.unsaid"]
