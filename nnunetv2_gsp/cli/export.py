"""`nnUNetv2_gsp export`: writes a trained model as a small zip without pickle."""

import argparse
from pathlib import Path

from nnunetv2_gsp.cli.arguments import Verbs


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    from nnunetv2_gsp.sharing import export_model

    bundle = export_model(arguments.model_folder, arguments.o, arguments.f, arguments.chk, arguments.overwrite)
    print(f"Wrote {bundle}")
    return 0


def add(verbs: Verbs) -> None:
    """Add the verb and its arguments."""
    export = verbs.add_parser("export", help="write a trained model as a small zip without pickle, to share")
    export.add_argument(
        "model_folder", type=Path, metavar="MODEL_FOLDER", help="TRAINER__PLANS__CONFIGURATION in nnUNet_results"
    )
    export.add_argument("-o", type=Path, required=True, metavar="FILE", help="the new zip")
    export.add_argument(
        "-f",
        nargs="+",
        metavar="FOLD",
        help="0 1 ..., or all for the fold of that name (default: those that have the checkpoint)",
    )
    export.add_argument(
        "-chk",
        default="checkpoint_final.pth",
        metavar="NAME",
        help="file of the checkpoint in each fold's folder (default: %(default)s)",
    )
    export.add_argument("--overwrite", action="store_true", help="replace a file of that name")
    export.set_defaults(run=run)
