"""Arguments that several verbs share, and parsers of their values."""

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunetv2_gsp.challenges import SUBMISSIONS
from nnunetv2_gsp.errors import ConflictingInputError
from nnunetv2_gsp.metrics.definitions import DEFINITIONS
from nnunetv2_gsp.nnunet import DEVICES

if TYPE_CHECKING:
    from nnunetv2_gsp.slurm import SlurmResources

INCOMPLETE = (
    "Not checked: whether all cases are there, and whether each lies where its image does; name the challenge's images "
    "with --images."
)

Verbs = Any  # argparse has no public name for what add_subparsers returns


def add_template(parser: argparse.ArgumentParser, default: str | None = "default") -> None:
    """Add --template and --set.

    Examples:
        >>> parser = argparse.ArgumentParser()
        >>> add_template(parser)
        >>> parser.parse_args(["--set", "shift_ratio=1"])
        Namespace(template='default', set=[('shift_ratio', 1)])
    """
    parser.add_argument(
        "--template",
        default=default,
        metavar="NAME",
        help="settings with a name, see nnUNetv2_gsp templates; or a .json file (default: default)",
    )
    add_set(
        parser,
        "settings in place of the template's, as in shift_ratio=1 shift_position=CCS "
        "'spatial_groups=[[2,2,2],[2,4,4]]'",
    )


def add_definition(parser: argparse.ArgumentParser) -> None:
    """Add --definition."""
    *others, last = DEFINITIONS
    parser.add_argument(
        "--definition",
        choices=list(DEFINITIONS),
        default="brats2023",
        metavar="NAME",
        help=f"{', '.join(others)} or {last} (default: %(default)s)",
    )


def add_device(parser: argparse.ArgumentParser, default: str, what: str) -> None:
    """Add -device; `what` is its help without the default."""
    parser.add_argument("-device", choices=DEVICES, default=default, help=f"{what} (default: %(default)s)")


def add_set(parser: argparse.ArgumentParser, what: str) -> None:
    """Add --set KEY=VALUE; `what` is its help."""
    parser.add_argument("--set", nargs="+", action="extend", type=setting, default=[], metavar="KEY=VALUE", help=what)


def add_executor(parser: argparse.ArgumentParser, at_a_time: str) -> None:
    """Add --executor, -n and what is asked of Slurm; `at_a_time` is the help of -n. The epilog lists the executors."""
    from nnunetv2_gsp.slurm import EXECUTORS

    parser.add_argument("--executor", choices=EXECUTORS, default="local", help="see below (default: %(default)s)")
    parser.add_argument("-n", type=positive, metavar="N", help=at_a_time)
    parser.add_argument("--partition", metavar="NAME", help="a Slurm job's partition (default: Slurm's own)")
    parser.add_argument(
        "--gpus",
        metavar="GPUS",
        help="a Slurm job's GPUs, as sbatch's --gpus-per-node takes them: 1 or a100:1 (default: 1 "
        "where the device is cuda)",
    )
    parser.add_argument("--cpus", type=positive, metavar="N", help="a Slurm job's cores (default: Slurm's own)")
    parser.add_argument(
        "--time",
        type=positive,
        metavar="MINUTES",
        help="limit of a Slurm job; one that needs more is requeued and goes on (default: a day)",
    )


def slurm_resources(arguments: argparse.Namespace) -> "SlurmResources | None":
    """Return what is asked of Slurm with the flags of `add_executor`, or None if nothing is."""
    from nnunetv2_gsp.slurm import SlurmResources

    wishes = {
        "partition": arguments.partition,
        "gpus": arguments.gpus,
        "cpus": arguments.cpus,
        "time_min": arguments.time,
    }
    wishes = {name: wish for name, wish in wishes.items() if wish is not None}
    return SlurmResources(**wishes) if wishes else None


def add_challenge(parser: argparse.ArgumentParser) -> None:
    """Add --challenge and --images."""
    parser.add_argument(
        "--challenge",
        required=True,
        metavar="CHALLENGE",
        choices=SUBMISSIONS,
        help=f"{', '.join(SUBMISSIONS[:-1])} or {SUBMISSIONS[-1]}",
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="SOURCE",
        help="the challenge's images of the cases to predict, or the imagesTs made of them: they say "
        "which cases have to be there, and where they lie (default: only the size and place that all "
        "images of the edition have are checked)",
    )


def listed(title: str, choices: Mapping[str, str]) -> str:
    """Return a list of choices as text for the end of a verb's help.

    Args:
        title: name of the listed things, such as executors.
        choices: name of each choice -> description.

    Examples:
        >>> print(listed("executors", {"local": "on this machine", "slurm": "as a job array"}))
        executors:
          local  on this machine
          slurm  as a job array
    """
    width = max(map(len, choices))
    return "\n".join([f"{title}:", *(f"  {name:<{width}}  {description}" for name, description in choices.items())])


def settings(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return the settings given with --set, name -> value.

    Args:
        pairs: name and value of each, as `setting` returns them.

    Raises:
        ConflictingInputError: a key occurs twice.

    Examples:
        >>> settings([setting("shift_ratio=1"), setting("spatial_groups=[[2,2,2],[2,4,4]]")])
        {'shift_ratio': 1, 'spatial_groups': [[2, 2, 2], [2, 4, 4]]}
    """
    settings = dict(pairs)
    if len(settings) < len(pairs):
        raise ConflictingInputError(
            "each setting once", " ".join(key for key, _ in pairs), remedy="drop the repeated ones"
        )
    return settings


def setting(text: str) -> tuple[str, object]:
    """Parse `key=value`; the value is JSON, a number that JSON does not know (.25), or else a text.

    Examples:
        >>> setting("shift_ratio=.25"), setting("shift_position=CCS")
        (('shift_ratio', 0.25), ('shift_position', 'CCS'))
    """
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {text}")
    for parse in (json.loads, float):
        try:
            return key, parse(value)
        except ValueError:
            continue
    return key, value


def voxels(text: str) -> int | str:
    """Parse a number of voxels from 1 on, or "auto".

    Examples:
        >>> voxels("auto"), voxels("200")
        ('auto', 200)
    """
    return text if text == "auto" else positive(text)


def above_zero(text: str) -> float:
    """Parse a number above 0.

    Examples:
        >>> above_zero("1.5")
        1.5
    """
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return number


def positive(text: str) -> int:
    """Parse a whole number from 1 on.

    Examples:
        >>> positive("0")
        Traceback (most recent call last):
            ...
        argparse.ArgumentTypeError: expected a number from 1 on, got 0
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1 on, got {text}")
    return int(text)
