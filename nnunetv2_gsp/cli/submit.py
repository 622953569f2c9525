"""`nnUNetv2_gsp submit`: writes predictions as a challenge's archive."""

import argparse
from pathlib import Path

from nnunetv2_gsp.cli.arguments import INCOMPLETE, Verbs, add_challenge, positive, voxels


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    from nnunetv2_gsp.nnunet import n_processes
    from nnunetv2_gsp.submission import write_submission

    n_cases = write_submission(
        arguments.i,
        arguments.o,
        arguments.challenge,
        images=arguments.images,
        names=arguments.names,
        et_threshold=arguments.et_threshold,
        cross_validation=arguments.cv_folder,
        references=arguments.gt,
        overwrite=arguments.overwrite,
        processes=arguments.np or n_processes(),
    )
    print(f"Wrote {arguments.o}: {n_cases} cases, checked against the rules of {arguments.challenge}.")
    if arguments.images is None:
        print(INCOMPLETE)
    return 0


def add(verbs: Verbs) -> None:
    """Add the verb and its arguments."""
    submit = verbs.add_parser(
        "submit",
        help="write nnU-Net's predictions as the archive that a challenge accepts",
        description="Predictions of a network that was trained on a dataset made by nnUNetv2_gsp convert become the "
        "challenge's labels, names and geometry in a flat zip, which is checked before it gets its name.",
    )
    submit.add_argument(
        "-i", type=Path, required=True, metavar="PREDICTIONS", help="folder that nnUNetv2_predict wrote"
    )
    submit.add_argument("-o", type=Path, required=True, metavar="FILE", help="the new zip")
    add_challenge(submit)
    submit.add_argument(
        "--et-threshold",
        type=voxels,
        default=0,
        metavar="N",
        help="BraTS: an enhancing tumour of fewer voxels becomes necrosis (default: none does); auto: "
        "the number is chosen on a cross-validation",
    )
    submit.add_argument(
        "--cv-folder",
        type=Path,
        metavar="FOLDER",
        help="folder that nnUNetv2_accumulate_crossval_results wrote, for --et-threshold auto",
    )
    submit.add_argument(
        "-gt",
        type=Path,
        metavar="FOLDER",
        help="references of the cross-validation (default: those of the dataset that its plans name)",
    )
    submit.add_argument(
        "--names",
        metavar="TEMPLATE",
        help="names in the archive (default: {case}.nii.gz, for PROMISE12 {case}_segmentation.mhd)",
    )
    submit.add_argument("--overwrite", action="store_true", help="replace a file of that name")
    submit.add_argument(
        "-np",
        type=positive,
        metavar="N",
        help="cases that are converted at a time (default: one for each core, at most 8)",
    )
    submit.set_defaults(run=run)
