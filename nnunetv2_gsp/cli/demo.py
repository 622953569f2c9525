"""`nnUNetv2_gsp demo`: shows the whole way on a phantom."""
import argparse
from pathlib import Path

from nnunetv2_gsp.cli.arguments import Verbs


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    from nnunetv2_gsp.demo import run_demo

    run_demo(arguments.o, arguments.device)
    return 0


def add(verbs: Verbs) -> None:
    """Add the verb and its arguments."""
    demo = verbs.add_parser("demo", help="on a brain tumour phantom, train stock and GSP, compare, predict, submit")
    demo.add_argument("-o", type=Path, default=Path("nnUNet_gsp_demo"), metavar="FOLDER",
                      help="where the files go; run again, it resumes there (default: %(default)s)")
    demo.add_argument("-device", choices=("cpu", "cuda", "mps"), default="cpu",
                      help="cpu takes a small setting, cuda and mps a full-size one (default: %(default)s)")
    demo.set_defaults(run=run)
