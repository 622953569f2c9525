"""`nnUNetv2_gsp submit`: writes predictions as a challenge's archive."""
import argparse
from pathlib import Path

from nnunetv2_gsp.cli.arguments import INCOMPLETE, Verbs, add_challenge, voxels
from nnunetv2_gsp.errors import InputError


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    from nnunetv2_gsp.nnunet import n_processes
    from nnunetv2_gsp.submission import write_submission
    from nnunetv2_gsp.submission.writing import check_target

    check_target(arguments.o, arguments.overwrite)  # before a cross-validation is read
    threshold = _et_threshold(arguments)
    n_cases = write_submission(arguments.i, arguments.o, arguments.challenge, images=arguments.images,
                               names=arguments.names, et_threshold=threshold, overwrite=arguments.overwrite,
                               processes=n_processes())
    print(f"Wrote {arguments.o}: {n_cases} cases, checked against the rules of {arguments.challenge}.")
    if arguments.images is None:
        print(INCOMPLETE)
    return 0


def _et_threshold(arguments: argparse.Namespace) -> int:
    """Return the threshold in voxels, 0 for none; choose and show it if that is asked for."""
    from nnunetv2_gsp.nnunet import n_processes
    from nnunetv2_gsp.submission.enhancing import choose_threshold
    from nnunetv2_gsp.submission.rules import rules_of
    from nnunetv2_gsp.submission.writing import check_convention

    wish, rules = arguments.et_threshold, rules_of(arguments.challenge)
    if wish is not None and not rules.is_brats:
        raise InputError(f"Expected --et-threshold with BraTS alone, got it with {arguments.challenge}; drop it.")
    if (wish == "auto") != (arguments.cv_folder is not None) or (arguments.gt and wish != "auto"):
        raise InputError("Expected --cv-folder together with --et-threshold auto, and -gt with both alone; add what is "
                         "missing or drop the rest.")
    if wish != "auto":
        return wish or 0
    check_convention(arguments.cv_folder, rules)
    choice = choose_threshold(arguments.cv_folder, rules, arguments.gt, n_processes())
    print(f"ET threshold {choice.threshold} voxels: mean ET Dice {choice.dice_without:.4f} -> {choice.dice_with:.4f} "
          f"on the {choice.n_cases} cases of {arguments.cv_folder}")
    return choice.threshold


def add(verbs: Verbs) -> None:
    """Add the verb and its arguments."""
    submit = verbs.add_parser(
        "submit", help="write nnU-Net's predictions as the archive that a challenge takes",
        description="Predictions of a network that was trained on a dataset made by nnUNetv2_gsp convert become the "
                    "challenge's labels, names and geometry in a flat zip, which is checked before it is there.")
    submit.add_argument("-i", type=Path, required=True, metavar="PREDICTIONS",
                        help="folder that nnUNetv2_predict wrote")
    submit.add_argument("-o", type=Path, required=True, metavar="FILE", help="the new zip")
    add_challenge(submit)
    submit.add_argument("--et-threshold", type=voxels, metavar="N",
                        help="BraTS: fewer voxels of enhancing tumour than that become necrosis (default: none do); "
                             "auto: chosen on a cross-validation")
    submit.add_argument("--cv-folder", type=Path, metavar="FOLDER",
                        help="what nnUNetv2_accumulate_crossval_results wrote, for --et-threshold auto")
    submit.add_argument("-gt", type=Path, metavar="FOLDER",
                        help="labels of the cross-validation (default: those of the dataset that its plans name)")
    submit.add_argument("--names", metavar="TEMPLATE",
                        help="names in the archive (default: {case}.nii.gz, for PROMISE12 {case}_segmentation.mhd)")
    submit.add_argument("--overwrite", action="store_true", help="replace a file of that name")
    submit.set_defaults(run=run)
