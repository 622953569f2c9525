"""Every parameter that an error blames has a hint, every hint names a flag of a verb, and no error names one itself."""

import argparse
import ast
import builtins
import re
from pathlib import Path

import pytest

import nnunetv2_gsp
from nnunetv2_gsp.cli.hints import _HINTS, hints_for
from tests.cli.verbs import actions, verbs

PACKAGE = Path(nnunetv2_gsp.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))


def blamed(source):
    """Return the names in every `parameters=[...]` of a module, and in the defaults of arguments called so."""
    given = []
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            given += [keyword.value for keyword in node.keywords if keyword.arg == "parameters"]
        elif isinstance(node, ast.FunctionDef):
            arguments = node.args
            positional = [*arguments.posonlyargs, *arguments.args]
            with_default = positional[len(positional) - len(arguments.defaults) :]
            given += [
                default
                for argument, default in zip(
                    [*with_default, *arguments.kwonlyargs], [*arguments.defaults, *arguments.kw_defaults], strict=True
                )
                if argument.arg == "parameters" and default is not None
            ]
    return {
        constant.value
        for value in given
        for constant in ast.walk(value)
        if isinstance(constant, ast.Constant) and isinstance(constant.value, str)
    }


def test_names_are_found_wherever_they_stand(tmp_path):
    (tmp_path / "module.py").write_text("""
raise InputError("a", "b", parameters=["one", *(("two",) if c else ())])
def check(target, parameters=("three",), *, other=None): ...
def check(target, *, parameters=("four",)): ...
""")
    assert blamed(tmp_path / "module.py") == {"one", "two", "three", "four"}


@pytest.mark.parametrize(
    "source", [source for source in SOURCES if blamed(source)], ids=lambda source: str(source.relative_to(PACKAGE))
)
def test_every_parameter_that_is_blamed_has_a_hint(source):
    assert blamed(source) <= set(_HINTS)


@pytest.mark.parametrize(("kept_as", "hint"), [hint for hints in _HINTS.values() for hint in hints.items()])
def test_a_hint_names_a_flag_that_some_verb_has(kept_as, hint):
    taken = [action for verb in verbs().values() for action in actions(verb) if action.dest == kept_as]
    assert taken
    flags = {flag for action in taken for flag in action.option_strings}
    assert {word for word in hint.split() if word.startswith("-")} <= flags


def test_a_verb_hints_at_its_own_flags_alone():
    assert hints_for(["output", "template"], argparse.Namespace(o="model.zip")) == ["choose another with -o"]


def is_ours(name):
    return name.endswith("Error") and not hasattr(builtins, name)


def texts_of_errors(source):
    """Return the texts in every error of a user's that a module makes; f-strings in pieces."""
    calls = [
        node
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and is_ours(getattr(node.func, "id", ""))
        and len(node.args) + len(node.keywords) > 1
    ]
    return [
        constant.value
        for call in calls
        for constant in ast.walk(call)
        if isinstance(constant, ast.Constant) and isinstance(constant.value, str)
    ]


@pytest.mark.parametrize(
    "source",
    [source for source in SOURCES if source.parent.name != "cli"],
    ids=lambda source: str(source.relative_to(PACKAGE)),
)
def test_the_library_does_not_know_the_command_line(source):
    ours = {flag for verb in verbs().values() for action in actions(verb) for flag in action.option_strings}
    for text in texts_of_errors(source):
        if "nnUNetv2_" not in text.replace("nnUNetv2_gsp", ""):  # nnU-Net's commands have flags of these names, too
            assert not ours & set(re.findall(r"(?<![\w-])--?\w[\w-]*", text)), text
        assert not re.search(f"nnUNetv2_gsp ({'|'.join(verbs())})", text), text
