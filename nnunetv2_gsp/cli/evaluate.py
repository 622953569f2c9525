"""`nnUNetv2_gsp evaluate`: scores predictions under a named definition."""

import argparse
from pathlib import Path

from nnunetv2_gsp.cli.arguments import Verbs, add_definition, positive


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    from nnunetv2_gsp.metrics.definitions import DEFINITIONS
    from nnunetv2_gsp.metrics.evaluation import evaluate_folders, output_files

    definition, output = DEFINITIONS[arguments.definition], arguments.o or arguments.pred
    evaluation = evaluate_folders(
        arguments.gt,
        arguments.pred,
        definition,
        dataset_json=arguments.djfile,
        lesion_wise=arguments.lesion_wise,
        processes=arguments.np,
        chill=arguments.chill,
        output=output,
        overwrite=arguments.overwrite,
    )
    json_file, csv_file = output_files(output, definition)
    print(f"{evaluation.text()}\n\nWrote {json_file} and {csv_file.name}.")
    return 0


def add(verbs: Verbs) -> None:
    """Add the verb and its arguments."""
    evaluate = verbs.add_parser(
        "evaluate",
        help="score predictions under a named definition: Dice, HD95, NSD, ABD, volumes",
        description="Score every case and region: Dice, HD95, NSD, ABD and volumes, as JSON and CSV, and single "
        "lesions where the challenge does. What HD95 means, what an empty mask scores and how lesions are told apart "
        "is up to the definition; every output names it. An evaluation that was stopped goes on with the same command.",
    )
    evaluate.add_argument("-gt", type=Path, required=True, metavar="FOLDER", help="references, such as labelsTr")
    evaluate.add_argument("-pred", type=Path, required=True, metavar="FOLDER", help="predictions, with the same names")
    add_definition(evaluate)
    evaluate.add_argument(
        "-djfile",
        type=Path,
        metavar="FILE",
        help="dataset.json with the labels or regions (default: the one nnU-Net left in or above the "
        "predictions, or beside the references; else every label found)",
    )
    evaluate.add_argument(
        "--lesion-wise",
        action="store_true",
        help="refuse a definition that scores no lesions; those of BraTS from 2023 on score them in any case",
    )
    evaluate.add_argument("-np", type=positive, metavar="N", help="processes (default: one for each core, at most 8)")
    evaluate.add_argument("--chill", action="store_true", help="leave out cases that only one of the folders has")
    evaluate.add_argument(
        "-o",
        type=Path,
        metavar="FOLDER",
        help="folder for evaluation_DEFINITION.json and .csv (default: that of the predictions)",
    )
    evaluate.add_argument("--overwrite", action="store_true", help="replace files of those names")
    evaluate.set_defaults(run=run)
