"""Runs our command in this process."""
import pytest

from nnunetv2_gsp import cli


def exit_code(*arguments):
    """Return what `nnUNetv2_gsp ARGUMENTS` exits with: a number, or the sentence that it prints to stderr."""
    with pytest.raises(SystemExit) as exited:
        cli.main([str(argument) for argument in arguments])
    return exited.value.code
