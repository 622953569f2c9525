"""`nnUNetv2_gsp convert`: makes an nnU-Net raw dataset of a challenge's data."""
import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

from nnunetv2_gsp.cli.arguments import Verbs, positive
from nnunetv2_gsp.datasets.editions import EDITIONS
from nnunetv2_gsp.errors import InputError


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    from nnunetv2_gsp.datasets.brats import convert_brats
    from nnunetv2_gsp.datasets.conversion import Report, raw_dataset
    from nnunetv2_gsp.datasets.msd import convert_msd
    from nnunetv2_gsp.datasets.promise12 import convert_promise12
    from nnunetv2_gsp.nnunet import n_processes

    if arguments.edition and arguments.challenge != "brats":
        raise InputError(f"Expected --edition with brats alone, got it with {arguments.challenge}; drop it.")
    edition = arguments.edition and f"brats{arguments.edition}"
    converters: dict[str, tuple[str, Callable[..., Report]]] = {
        "brats": ("BraTS", partial(convert_brats, edition=edition)),
        "promise12": ("PROMISE12", convert_promise12),
        "msd": ("MSD", convert_msd)}
    default_name, convert = converters[arguments.challenge]
    dataset = raw_dataset(arguments.d, arguments.name or default_name)
    report = convert(arguments.source, dataset, overwrite=arguments.overwrite, strict=arguments.strict,
                     processes=arguments.np or n_processes())
    print("\n".join(report.lines()))
    print(f"\nWrote {dataset}. Plan: nnUNetv2_plan_and_preprocess -d {arguments.d} --verify_dataset_integrity")
    return 0


def add(verbs: Verbs) -> None:
    """Add the verb and its arguments."""
    convert = verbs.add_parser(
        "convert", help="make an nnU-Net raw dataset of a challenge's data",
        description="Check every file of BraTS 2018-2024, PROMISE12, or Task01 and Task05 of the Medical Segmentation "
                    "Decathlon, and make a dataset in nnUNet_raw. Cases that are not in order are skipped, and the "
                    "reasons stand on the screen and in conversion_report.json. Interrupted, the same command goes on.")
    convert.add_argument("challenge", choices=("brats", "promise12", "msd"), metavar="CHALLENGE",
                         help="brats, promise12 or msd")
    convert.add_argument("source", type=Path, metavar="SOURCE", help="folder of the unpacked data; it is only read")
    convert.add_argument("-d", type=int, required=True, metavar="ID", help="of the new dataset")
    convert.add_argument("--name", help="of the new dataset (default: BraTS, PROMISE12 or MSD)")
    convert.add_argument("--edition", choices=[edition.removeprefix("brats") for edition in EDITIONS],
                         help="whose labels BraTS cases have, in place of the one that their names tell")
    convert.add_argument("--overwrite", action="store_true", help="replace a dataset of that name")
    convert.add_argument("--strict", action="store_true", help="make no dataset if a case has to be skipped")
    convert.add_argument("-np", type=positive, metavar="N",
                         help="so many cases at a time (default: as many as there are cores, 8 at most)")
    convert.set_defaults(run=run)
