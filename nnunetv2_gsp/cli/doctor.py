"""`nnUNetv2_gsp doctor`: checks what training needs here, and says what mends each problem."""

import argparse

from nnunetv2_gsp.cli.arguments import Verbs


def run(_: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    from nnunetv2_gsp.plugin.doctor import diagnose

    findings = diagnose()
    for finding in findings:
        print(finding)
    return 0 if all(finding.ok for finding in findings) else 1


def add(verbs: Verbs) -> None:
    """Add the verb and its arguments."""
    doctor = verbs.add_parser("doctor", help="check what training needs here, and say what mends each problem")
    doctor.set_defaults(run=run)
