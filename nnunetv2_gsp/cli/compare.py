"""`nnUNetv2_gsp compare`: compares models on the same cases."""
import argparse
from pathlib import Path

from nnunetv2_gsp.cli.arguments import Verbs, add_definition, positive
from nnunetv2_gsp.errors import InputError


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    from nnunetv2_gsp.evaluation.compare import FOLDS, compare, prediction_folders, trained_models
    from nnunetv2_gsp.evaluation.definitions import definition_named
    from nnunetv2_gsp.evaluation.evaluate import check_outputs
    from nnunetv2_gsp.evaluation.report import output_files, write_report

    of_models = (arguments.d, arguments.tr, arguments.c, arguments.p, arguments.f)
    of_folders = (arguments.pred, arguments.gt, arguments.djfile, arguments.i)
    is_of_models = arguments.pred is None and arguments.gt is None
    needed, mistaken = ((of_models[:2], of_folders) if is_of_models else (of_folders[:2], of_models))
    if None in needed or any(option is not None for option in mistaken):
        raise InputError("Expected either -d and -tr (with -c, -p, -f) or -pred and -gt (with -djfile, -i), got "
                         "something else; give one pair and drop the rest.")
    definition = definition_named(arguments.definition)
    check_outputs(output_files(arguments.o).values(), arguments.overwrite)
    if is_of_models:
        task = trained_models(arguments.d, arguments.c or "3d_fullres", arguments.tr, arguments.p or ["nnUNetPlans"],
                              arguments.f or FOLDS)
    else:
        task = prediction_folders(arguments.pred, arguments.gt, arguments.djfile, arguments.i)
    comparison = compare(task, definition, arguments.np)
    files = write_report(comparison, arguments.o, arguments.overwrite)
    print("\n".join([*comparison.caveats, comparison.verdict(), "",
                     f"Wrote {files['html']}, which opens in any browser, and comparison.md, .csv and .json beside."]))
    return 0


def add(verbs: Verbs) -> None:
    """Add the verb and its arguments."""
    compare = verbs.add_parser(
        "compare", help="stock against GSP on the same cases: tests, costs, pictures, one page",
        description="Compare trained models by the validation of the same folds (-d, -tr), or any folders of "
                    "predictions (-pred, -gt). The first one is the baseline. What does not have the same cases is "
                    "refused.")
    compare.add_argument("-d", metavar="DATASET", help="name or id")
    compare.add_argument("-tr", nargs="+", metavar="TRAINER", help="two or more, the baseline first")
    compare.add_argument("-c", metavar="CONFIGURATION", help="of the plans (default: 3d_fullres)")
    compare.add_argument("-p", nargs="+", metavar="PLANS",
                         help="one for all, or one for each trainer (default: nnUNetPlans)")
    compare.add_argument("-f", nargs="+", metavar="FOLD", help="0 1 ... or all (default: 0 1 2 3 4)")
    compare.add_argument("-pred", nargs="+", type=Path, metavar="FOLDER", help="predictions, the baseline's first")
    compare.add_argument("-gt", type=Path, metavar="FOLDER", help="their references")
    compare.add_argument("-djfile", type=Path, metavar="FILE", help="dataset.json with the labels or regions; as for "
                                                                    "evaluate")
    compare.add_argument("-i", type=Path, metavar="FOLDER", help="images, such as imagesTs, to draw the cases on")
    add_definition(compare)
    compare.add_argument("-o", type=Path, required=True, metavar="FOLDER",
                         help="for comparison.html, .md, .csv and .json")
    compare.add_argument("-np", type=positive, metavar="N", help="processes (default: one for each core, at most 8)")
    compare.add_argument("--overwrite", action="store_true", help="replace files of those names")
    compare.set_defaults(run=run)
