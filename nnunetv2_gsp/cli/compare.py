"""`nnUNetv2_gsp compare`: compares models on the same cases."""

import argparse
from pathlib import Path

from nnunetv2_gsp.cli.arguments import Verbs, add_definition, positive

_OF_MODELS = {"d": "-d", "tr": "-tr", "c": "-c", "p": "-p", "f": "-f"}
_OF_FOLDERS = {"pred": "-pred", "gt": "-gt", "djfile": "-djfile", "images": "--images"}


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    _check_one_side(arguments)
    from nnunetv2_gsp.comparison.report import compare_folders, compare_trained_models, output_files
    from nnunetv2_gsp.comparison.verdict import verdict
    from nnunetv2_gsp.metrics.definitions import DEFINITIONS

    definition = DEFINITIONS[arguments.definition]
    if arguments.d is not None:
        choices = {"configuration": arguments.c, "plans_names": arguments.p, "folds": arguments.f}
        comparison = compare_trained_models(
            arguments.d,
            arguments.tr,
            definition,
            arguments.o,
            processes=arguments.np,
            primary=arguments.primary,
            overwrite=arguments.overwrite,
            **{name: choice for name, choice in choices.items() if choice is not None},
        )
    else:
        comparison = compare_folders(
            arguments.pred,
            arguments.gt,
            definition,
            arguments.o,
            dataset_json=arguments.djfile,
            images=arguments.images,
            processes=arguments.np,
            primary=arguments.primary,
            overwrite=arguments.overwrite,
        )
    written = (
        f"Wrote {output_files(arguments.o)['html']}, which opens in any browser, and comparison.md, .csv and "
        f".json beside."
    )
    print("\n".join([*comparison.caveats, verdict(comparison), "", written]))
    return 0


def add(verbs: Verbs) -> None:
    """Add the verb and its arguments."""
    compare = verbs.add_parser(
        "compare",
        help="stock against GSP on the same cases: tests, costs, pictures, one page",
        description="Compare trained models by the validation of the same folds (-d, -tr), or any folders of "
        "predictions (-pred, -gt). The first one is the baseline. All of them must have the same "
        "cases.",
    )
    compare.add_argument("-d", metavar="DATASET", help="name or id of the dataset")
    compare.add_argument("-tr", nargs="+", metavar="TRAINER", help="two or more trainers, the baseline first")
    compare.add_argument("-c", metavar="CONFIGURATION", help="configuration of the plans (default: 3d_fullres)")
    compare.add_argument(
        "-p", nargs="+", metavar="PLANS", help="plans, one for all or one for each trainer (default: nnUNetPlans)"
    )
    compare.add_argument("-f", nargs="+", metavar="FOLD", help="folds: 0 1 ... or all (default: 0 1 2 3 4)")
    compare.add_argument("-pred", nargs="+", type=Path, metavar="FOLDER", help="predictions, the baseline's first")
    compare.add_argument("-gt", type=Path, metavar="FOLDER", help="references of the predictions")
    compare.add_argument(
        "-djfile", type=Path, metavar="FILE", help="dataset.json with the labels or regions; as for evaluate"
    )
    compare.add_argument("--images", type=Path, metavar="FOLDER", help="images, such as imagesTs, to draw the cases on")
    add_definition(compare)
    compare.add_argument(
        "--primary",
        default="Dice",
        metavar="METRIC[:REGION]",
        help="primary endpoint, which decides: a metric's mean over regions, or a metric of one region, as in "
        "HD95:enhancing_tumor (default: %(default)s)",
    )
    compare.add_argument(
        "-o", type=Path, required=True, metavar="FOLDER", help="folder for comparison.html, .md, .csv and .json"
    )
    compare.add_argument("-np", type=positive, metavar="N", help="processes (default: one for each core, at most 8)")
    compare.add_argument("--overwrite", action="store_true", help="replace files of those names")
    compare.set_defaults(run=run, refuse=compare.error)


def _check_one_side(arguments: argparse.Namespace) -> None:
    """Exit with the code of a wrong command line unless either models or folders are named, and not both."""
    models, folders = (
        [flag for name, flag in side.items() if getattr(arguments, name) is not None]
        for side in (_OF_MODELS, _OF_FOLDERS)
    )
    is_complete = {"-d", "-tr"} <= {*models} or {"-pred", "-gt"} <= {*folders}
    if not is_complete or (models and folders):
        arguments.refuse(
            f"expected either -d and -tr (with -c, -p, -f) or -pred and -gt (with -djfile, --images), got "
            f"{' '.join([*models, *folders]) or 'neither'}"
        )
