"""Shell completion of verbs, flags, choices and paths."""

import argparse
from pathlib import Path
from typing import Any

import shtab


class CompletedParser(argparse.ArgumentParser):
    """A parser whose paths a shell completes: files for arguments named FILE, folders for other paths.

    Examples:
        >>> CompletedParser().add_argument("-o", type=Path, metavar="FILE").complete == shtab.FILE
        True
    """

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        """Add an argument, with its completion; the verbs' parsers are of this class, too."""
        action = super().add_argument(*names, **options)
        if action.type is Path:
            action.complete = shtab.FILE if action.metavar == "FILE" else shtab.DIRECTORY  # type: ignore[attr-defined]
        return action


def add_completion(parser: argparse.ArgumentParser) -> None:
    """Add --print-completion."""
    shtab.add_argument_to(
        parser,
        "--print-completion",
        help="print the completion of this command for a shell, to be "
        "sourced or put where the shell looks for completions",
    )
