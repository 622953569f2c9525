"""What every bench takes and leaves: its command line, and a file of figures."""
import argparse
import json
from dataclasses import asdict
from pathlib import Path

from nnunetv2_gsp.timing import Timing, environment


def command_line(description: str | None, rounds: int) -> argparse.Namespace:
    """Parse what every bench takes: `rounds` and, where the figures go too, `json`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, help="default: %(default)s")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    return parser.parse_args()


def save(file: Path | None, timings: dict[str, Timing]) -> None:
    """Write the figures and what they depend on, if a file was asked for."""
    if file is not None:
        file.write_text(json.dumps({"environment": environment(), "timings_ms": {
            name: asdict(timing) for name, timing in timings.items()}}, indent=1))
