"""Runs a verb as a shell would."""

from inspect import signature

import pytest

from nnunetv2_gsp import cli


def exit_code(*arguments):
    """Return what the command exits with: a number, or the text that the interpreter then prints to exit with 1."""
    with pytest.raises(SystemExit) as exited:
        cli.main([str(argument) for argument in arguments])
    return exited.value.code


def calls_of(monkeypatch, module, name, outcome=None):
    """Put the outcome in place of a function of the library; returns the arguments of each call by their names."""
    parameters, calls = signature(getattr(module, name)), []

    def call(*positional, **named):
        calls.append(parameters.bind(*positional, **named).arguments)
        return outcome

    monkeypatch.setattr(module, name, call)
    return calls
