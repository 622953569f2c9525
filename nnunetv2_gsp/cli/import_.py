"""`nnUNetv2_gsp import`: makes a model folder from a zip that `export` wrote."""

import argparse
from pathlib import Path

from nnunetv2_gsp.cli.arguments import Verbs


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    from nnunetv2_gsp.sharing import import_model, prediction_command

    folder = import_model(arguments.file)
    print(f"Wrote {folder}. Predict: {prediction_command(folder)}")
    return 0


def add(verbs: Verbs) -> None:
    """Add the verb and its arguments."""
    importing = verbs.add_parser(
        "import", help="check a zip that export wrote, and make a model folder from it in nnUNet_results"
    )
    importing.add_argument("file", type=Path, metavar="FILE", help="the zip")
    importing.set_defaults(run=run)
