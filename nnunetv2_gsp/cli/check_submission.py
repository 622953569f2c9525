"""`nnUNetv2_gsp check-submission`: checks an archive against the rules of its challenge."""

import argparse
from pathlib import Path

from nnunetv2_gsp.cli.arguments import INCOMPLETE, Verbs, add_challenge, positive


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    from nnunetv2_gsp.nnunet import n_processes
    from nnunetv2_gsp.submission import check_submission

    violations = check_submission(arguments.file, arguments.challenge, arguments.images, arguments.np or n_processes())
    for violation in violations:
        print(violation)
    print(
        f"{arguments.file}: {len(violations) or 'no'} violation{'s' * (len(violations) != 1)} of the rules of "
        f"{arguments.challenge}"
    )
    if arguments.images is None:
        print(INCOMPLETE)
    return 1 if violations else 0


def add(verbs: Verbs) -> None:
    """Add the verb and its arguments."""
    check = verbs.add_parser(
        "check-submission",
        help="check whether a challenge would accept an archive, whatever program wrote it",
        description="Check names, labels, types, sizes and geometry of an archive against the rules of its challenge "
        "and list every violation at once; what the challenge takes though hardly anybody means it is noted.",
    )
    check.add_argument("file", type=Path, metavar="FILE", help="the zip")
    add_challenge(check)
    check.add_argument(
        "-np", type=positive, metavar="N", help="cases that are read at a time (default: one for each core, at most 8)"
    )
    check.set_defaults(run=run)
