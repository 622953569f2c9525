"""`python -m nnunetv2_gsp.container FOLDER`: what a container runs."""

import argparse
import logging
import sys
from pathlib import Path

from nnunetv2_gsp.container.job import load_models, predict_all
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.messages import show_messages

_log = logging.getLogger("nnunetv2_gsp.container")


def main(arguments: list[str] | None = None) -> int:
    """Predict all cases and return the exit code: 0 if the challenge gets what it needs, else 1.

    Args:
        arguments: words behind the module's name; None takes those of this process.
    """
    parser = argparse.ArgumentParser(description="Predict all cases that lie where the container's interface has them.")
    parser.add_argument("folder", type=Path, help="folder with container.json and the models")
    parser.add_argument("-i", "--data_path", type=Path, metavar="FOLDER", help="images (default: the interface's own)")
    parser.add_argument("-o", "--output_path", type=Path, metavar="FOLDER", help="results (default: the interface's)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="JSON file for what became of each case")
    parser.add_argument("--check", action="store_true", help="load the models and do no more")
    # MLCube puts `infer` before these, and names of weights behind them, which lie in the image here
    parsed, _ = parser.parse_known_args(arguments)
    with show_messages():
        try:
            if parsed.check:
                load_models(parsed.folder)
                return 0
            outcome = predict_all(parsed.folder, parsed.data_path, parsed.output_path, parsed.report)
            return 0 if outcome.is_success else 1
        except (InputError, OSError) as error:
            _log.error("%s", error.told() if isinstance(error, InputError) else error)
            return 1


if __name__ == "__main__":
    sys.exit(main())
