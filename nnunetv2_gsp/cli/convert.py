"""`nnUNetv2_gsp convert`: makes an nnU-Net raw dataset of a challenge's data."""

import argparse
from pathlib import Path

from nnunetv2_gsp.challenges import EDITIONS, FAMILIES
from nnunetv2_gsp.cli.arguments import Verbs, positive


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    from nnunetv2_gsp.datasets.challenges import convert_challenge
    from nnunetv2_gsp.nnunet import n_processes

    dataset, report = convert_challenge(
        arguments.challenge,
        arguments.source,
        arguments.d,
        name=arguments.name,
        edition=arguments.edition,
        split=arguments.split,
        overwrite=arguments.overwrite,
        strict=arguments.strict,
        processes=arguments.np or n_processes(),
    )
    print(
        f"{report.edition}: {len(report.training)} cases to train with, {len(report.test)} to predict, "
        f"{len(report.skipped)} skipped"
    )
    for folder, cases in report.folders.items() if len(report.folders) > 1 else ():
        print(f"{folder}: {cases['training']} to train with, {cases['test']} to predict")
    for note in report.notes:
        print(f"note: {note}")
    for skipped in report.skipped:
        print(f"skipped {skipped.case}: {skipped.reason}")
    print(f"\nWrote {dataset}. Plan: nnUNetv2_plan_and_preprocess -d {arguments.d} --verify_dataset_integrity")
    return 0


def add(verbs: Verbs) -> None:
    """Add the verb and its arguments."""
    titles = {family: challenges[0].title for family, challenges in FAMILIES.items()}
    *others, last = FAMILIES
    convert = verbs.add_parser(
        "convert",
        help="make an nnU-Net raw dataset of a challenge's data",
        description="Check every file of a task of BraTS (2018 to 2025), of PROMISE12, or of Task01 or Task05 of the "
        "Medical Segmentation Decathlon, and make a dataset in nnUNet_raw. Whatever is not in order or no case's is "
        "skipped; the reasons stand on the screen and in conversion_report.json. After an interruption, the same "
        "command goes on where it stopped.",
    )
    convert.add_argument(
        "challenge", choices=tuple(FAMILIES), metavar="CHALLENGE", help=f"{', '.join(others)} or {last}"
    )
    convert.add_argument("source", type=Path, metavar="SOURCE", help="folder of the unpacked data; it is only read")
    convert.add_argument("-d", type=int, required=True, metavar="ID", help="id of the new dataset")
    convert.add_argument(
        "--name",
        help=f"name of the new dataset (default: {', '.join(titles.values())})",
    )
    convert.add_argument(
        "--edition",
        choices=EDITIONS,
        metavar="EDITION",
        help="edition and task of BraTS, whose labels the cases have (default: the one that names of cases and folders "
        f"tell): {', '.join(EDITIONS)}",
    )
    convert.add_argument(
        "--split",
        choices=("folders", "all"),
        default="folders",
        help="folders: do not train on what stands in folders called val, test and so on; all: train on every case "
        "that has a label (default: %(default)s)",
    )
    convert.add_argument("--overwrite", action="store_true", help="replace a dataset of that name")
    convert.add_argument(
        "--strict", action="store_true", help="make no dataset if anything in SOURCE has to be skipped"
    )
    convert.add_argument(
        "-np",
        type=positive,
        metavar="N",
        help="cases that are converted at a time (default: one for each core, at most 8)",
    )
    convert.set_defaults(run=run)
