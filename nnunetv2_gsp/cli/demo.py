"""`nnUNetv2_gsp demo`: demonstrates the whole workflow on a phantom."""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from nnunetv2_gsp.cli.arguments import Verbs, add_device

if TYPE_CHECKING:
    from nnunetv2_gsp.demo import Demo


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    from nnunetv2_gsp.demo import run_demo

    demo = run_demo(arguments.o, arguments.device)
    print(f"\nfiles       {demo.folder}\ncomparison  {demo.page}\nsubmission  {demo.submission}")
    print(f"web page    {demo.web_page if demo.web_page.exists() else _how_to_make(demo)}")
    return 0


def _how_to_make(demo: "Demo") -> str:
    line = ["nnUNetv2_gsp", "export", str(demo.model), "-o", str(demo.web_page.parent), "--format", "web"]
    return f"segments in a browser; to make it, run: {shlex.join(line)}"


def add(verbs: Verbs) -> None:
    """Add the verb and its arguments."""
    demo = verbs.add_parser(
        "demo",
        help="on a brain tumour phantom, train stock nnU-Net and GSP, compare, predict and submit",
        description="Make a brain tumour phantom, convert it, let nnU-Net plan, train stock and GSP equally long, "
        "compare them, predict held-out cases, evaluate, and make a challenge's archive. Interrupted, the "
        "same command goes on where it stands.",
    )
    demo.add_argument(
        "-o",
        type=Path,
        default=Path("nnUNet_gsp_demo"),
        metavar="FOLDER",
        help="where the files go (default: %(default)s)",
    )
    add_device(demo, "cpu", "where nnU-Net trains and predicts; cuda and mps take a full-size setting, cpu a small one")
    demo.set_defaults(run=run)
