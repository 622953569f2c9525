"""Runs a verb as a shell would."""

import pytest

from nnunetv2_gsp import cli


def exit_code(*arguments):
    """Return what the command exits with: a number, or the text that the interpreter then prints to exit with 1."""
    with pytest.raises(SystemExit) as exited:
        cli.main([str(argument) for argument in arguments])
    return exited.value.code
