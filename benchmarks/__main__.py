"""Measure, and write benchmarks/results: one JSON file and one page of tables.

A section that fails its check stops everything; what was measured before it stays. Named sections alone are measured
anew, the others stay as they are in the folder. Whole cases (`case`, `ct`, `ct-stock` and `cases-memory`) take long on
a CPU, so they have to be named.
"""

import argparse
import os
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

from benchmarks import case, layer, networks, shift, training
from benchmarks.measuring import WrongError, environment
from benchmarks.page import Table, save

SECTIONS: dict[str, Callable[[], list[Table]]] = {
    "shift": shift.tables,
    "layer": layer.tables,
    "isotropic": networks.isotropic,
    "anisotropic": networks.anisotropic,
    "memory": networks.memory,
    "training": training.tables,
    "case": case.brats,
    "ct": case.ct,
    "ct-stock": case.ct_stock,
    "cases-memory": case.memory_over_cases,
}
NAMED_ONLY = ("case", "ct", "ct-stock", "cases-memory")


def main() -> None:
    """Measure section by section, writing the page after each."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "sections",
        nargs="*",
        metavar="SECTION",
        choices=[*SECTIONS, []],
        help=f"any of {', '.join(SECTIONS)}; default: all but {', '.join(NAMED_ONLY)}",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path(__file__).with_name("results"),
        metavar="FOLDER",
        help="default: benchmarks/results",
    )
    arguments = parser.parse_args()
    for name in arguments.sections or [name for name in SECTIONS if name not in NAMED_ONLY]:
        load = f"{os.getloadavg()[0]:.1f}"
        try:
            tables = SECTIONS[name]()
        except WrongError as error:
            sys.exit(f"{name}: {error}")
        save(
            arguments.output,
            name,
            {
                "date": date.today().isoformat(),
                **environment(),
                "load average before": load,
                "after": f"{os.getloadavg()[0]:.1f}",
            },
            tables,
        )
        print(f"{name}: {arguments.output / 'bench.md'}", flush=True)


if __name__ == "__main__":
    main()
