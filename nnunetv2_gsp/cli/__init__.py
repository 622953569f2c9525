"""`nnUNetv2_gsp VERB`: each verb's module parses arguments, calls one library function, and prints its result."""

import argparse
import atexit
import gc
import os
import sys

from nnunetv2_gsp import __version__
from nnunetv2_gsp.cli import (
    check_submission,
    compare,
    container,
    convert,
    demo,
    doctor,
    evaluate,
    experiments,
    export,
    import_,
    plan,
    predict,
    profile,
    search,
    submit,
    templates,
)
from nnunetv2_gsp.cli.completion import CompletedParser, add_completion
from nnunetv2_gsp.cli.hints import hints_for
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.messages import show_messages
from nnunetv2_gsp.plugin import startup  # noqa: F401  (where the .pth did not run, the verbs work all the same)

_VERBS = (
    doctor,
    plan,
    predict,
    templates,
    profile,
    experiments,
    search,
    export,
    import_,
    container,
    convert,
    evaluate,
    compare,
    submit,
    check_submission,
    demo,
)


def parser() -> argparse.ArgumentParser:
    """Return the parser of `nnUNetv2_gsp`; imports that a verb needs are made when it runs.

    Examples:
        >>> parser().parse_args(["plan", "-d", "Dataset004_Hippocampus"]).template
        'default'
    """
    command = CompletedParser(
        prog="nnUNetv2_gsp",
        description="Group Shift Pointwise networks for nnU-Net. Training is nnU-Net's own command: "
        "nnUNetv2_train DATASET 3d_fullres 0 -tr nnUNetTrainerGSP",
    )
    command.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    add_completion(command)
    verbs = command.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in _VERBS:
        verb.add(verbs)
    return command


def main(arguments: list[str] | None = None) -> None:
    """Run one verb and exit with 0 on success, 1 on a finding or a user's mistake, 2 on a wrong command line.

    Args:
        arguments: words behind the command's name; None takes those of this process.
    """
    _look_less_for_garbage()
    try:
        sys.exit(_run(parser().parse_args(arguments)))
    except BrokenPipeError:  # as in `| head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter would flush once more
        sys.exit(1)


def _look_less_for_garbage() -> None:
    """Spare the time to look through the objects of torch and nnU-Net, none of which is garbage."""
    gc.set_threshold(50_000)  # of a prediction's start it is a fifth, 0.5 s, with Python's 700
    atexit.register(gc.freeze)  # and the interpreter ends 0.7 s sooner


def _run(parsed: argparse.Namespace) -> int | str:
    """Run a verb, and return its exit code, or the sentence that is printed to exit with 1."""
    try:
        with show_messages():
            code: int = parsed.run(parsed)
        sys.stdout.flush()  # while a closed pipe can still be caught
        return code
    except BrokenPipeError:  # an OSError, but nobody's mistake
        raise
    except InputError as error:
        return f"nnUNetv2_gsp {parsed.verb}: {error.told(hints_for(error.parameters, parsed))}"
    except OSError as error:
        return f"nnUNetv2_gsp {parsed.verb}: {error}"
    except KeyboardInterrupt:
        return f"{os.linesep}nnUNetv2_gsp {parsed.verb}: interrupted"
