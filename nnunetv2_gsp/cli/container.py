"""`nnUNetv2_gsp container`: packs models as a container that predicts where there is no network."""

import argparse
from pathlib import Path

from nnunetv2_gsp.challenges import CONTAINERS
from nnunetv2_gsp.cli.arguments import Verbs, listed
from nnunetv2_gsp.container.registry import INTERFACES


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    from nnunetv2_gsp.container.writing import write_container

    write_container(
        arguments.models,
        arguments.o,
        arguments.interface,
        challenge=arguments.challenge,
        input_slugs=arguments.input_slugs,
        output_slug=arguments.output_slug,
        cuda=arguments.cuda,
    )
    print(f"Wrote {arguments.o}. Its README.md has the commands that build, try and push the image.")
    return 0


def add(verbs: Verbs) -> None:
    """Add the verb and its arguments."""
    container = verbs.add_parser(
        "container",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help="pack models as a container that predicts where there is no network",
        description="Write a folder with a Dockerfile, the models without pickle, this package and a README. The\n"
        "image runs without network, as any user, and writes nothing but its results, which it checks.",
        epilog=listed("interfaces", {name: interface.title for name, interface in INTERFACES.items()}),
    )
    container.add_argument(
        "models",
        nargs="+",
        type=Path,
        metavar="MODEL",
        help="a zip that nnUNetv2_gsp export wrote, or TRAINER__PLANS__CONFIGURATION in nnUNet_results; several "
        "predict together, by the mean of their probabilities",
    )
    container.add_argument("-o", type=Path, required=True, metavar="FOLDER", help="the new folder")
    container.add_argument(
        "--interface",
        required=True,
        choices=tuple(INTERFACES),
        metavar="INTERFACE",
        help="how the challenge runs containers: one of those listed below",
    )
    container.add_argument(
        "--challenge",
        choices=CONTAINERS,
        metavar="CHALLENGE",
        help="BraTS: edition or task whose labels and rules the results follow (default: "
        + ", ".join(f"{each.challenge} for {name}" for name, each in INTERFACES.items() if each.challenge)
        + ")",
    )
    container.add_argument(
        "--input-slugs",
        nargs="+",
        default=(),
        metavar="SLUG",
        help="grand-challenge: socket of each channel, in the model's order (default: the only one)",
    )
    container.add_argument("--output-slug", metavar="SLUG", help="grand-challenge: socket of the segmentation")
    container.add_argument("--cuda", action="store_true", help="torch for CUDA (default: for the CPU, a smaller image)")
    container.set_defaults(run=run)
