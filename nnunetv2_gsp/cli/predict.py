"""`nnUNetv2_gsp predict`: predicts a folder of images, in less time and memory than nnU-Net's own command."""

import argparse
import sys
from pathlib import Path
from textwrap import fill
from typing import Any

from nnunetv2_gsp.cli.arguments import Verbs, add_device, add_executor, listed, positive, slurm_resources
from nnunetv2_gsp.errors import ConflictingInputError
from nnunetv2_gsp.nnunet import FINAL_CHECKPOINT
from nnunetv2_gsp.slurm import SlurmResources, resources_for

EXECUTORS = {
    "local": "predicts in this process",
    "slurm": "submits a job array; the same command later tells how far it is, and submits what is missing",
}


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    model = _model(arguments)
    _check_parts(arguments)
    settings = {
        "device": arguments.device,
        "all_on_device": not arguments.not_on_device,
        "step_size": arguments.step_size,
        "mirroring": not arguments.disable_tta,
        "save_probabilities": arguments.save_probabilities,
        "previous_stage": arguments.prev_stage_predictions,
        "shows_progress": not arguments.disable_progress_bar,
        "tells_times": arguments.verbose,
    }
    described = (arguments.i, arguments.o, model, arguments.f, arguments.chk)
    slurm = resources_for(arguments.executor, slurm_resources(arguments))
    return _predict(arguments, described, settings) if slurm is None else _submit(arguments, described, settings, slurm)


def _predict(arguments: argparse.Namespace, described: tuple[Any, ...], settings: dict[str, Any]) -> int:
    from nnunetv2_gsp.prediction.predicting import predict_folder

    predictions = predict_folder(
        *described,
        **settings,
        continue_prediction=arguments.continue_prediction,
        n_parts=arguments.num_parts,
        part=arguments.part_id,
    )
    for problem in predictions.problems:
        print(problem, file=sys.stderr)
    there = f"; {predictions.n_there} were there" if predictions.n_there else ""
    failed = f"; {len(predictions.problems)} could not be predicted, see above" if predictions.problems else ""
    print(f"Wrote {predictions.n_predicted} predictions into {arguments.o}{there}{failed}.")
    return int(bool(predictions.problems))


def _submit(
    arguments: argparse.Namespace, described: tuple[Any, ...], settings: dict[str, Any], slurm: SlurmResources
) -> int:
    from nnunetv2_gsp.prediction.submitting import LOGS, submit_predictions

    found = submit_predictions(*described, n_jobs=arguments.n or 1, slurm=slurm, **settings)
    print(f"{found.n_there} of {found.n_cases} cases are predicted in {arguments.o}.")
    if found.left:
        print(f"Ended jobs left {', '.join(found.left)}: the logs in {arguments.o / LOGS} say why.", file=sys.stderr)
    if found.in_slurm:
        print(f"Slurm still has {', '.join(found.in_slurm)}.")
    if found.submitted:
        print(f"Submitted {', '.join(found.submitted)}; their logs are in {arguments.o / LOGS}.")
    return 0


def add(verbs: Verbs) -> None:
    """Add the verb and its arguments."""
    predict = verbs.add_parser(
        "predict",
        help="predict a folder of images, faster and in less memory than nnUNetv2_predict",
        description=fill(
            "Predict with any model that nnU-Net trained. Windows and preprocessing are nnU-Net's, and labels are "
            "equal up to ties; but scores at the size of the image never exist, and cases are read and written while "
            "the network works."
        ),
        epilog=listed("executors", EXECUTORS),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    predict.add_argument("-i", type=Path, required=True, metavar="FOLDER", help="images, named CASE_0000 and so on")
    predict.add_argument("-o", type=Path, required=True, metavar="FOLDER", help="folder for the predictions")
    predict.add_argument("-m", type=Path, metavar="MODEL", help="model folder, or the zip of an exported model")
    predict.add_argument("-d", metavar="DATASET", help="name or id of the dataset in nnUNet_results, in place of -m")
    predict.add_argument("-c", metavar="CONFIGURATION", help="nnU-Net configuration, such as 3d_fullres; with -d")
    predict.add_argument("-tr", default="nnUNetTrainer", metavar="TRAINER", help="trainer (default: %(default)s)")
    predict.add_argument("-p", default="nnUNetPlans", metavar="PLANS", help="plans (default: %(default)s)")
    predict.add_argument("-f", nargs="+", metavar="FOLD", help="folds (default: all numbered ones, or fold all)")
    predict.add_argument("-chk", default=FINAL_CHECKPOINT, metavar="NAME", help="checkpoint (default: %(default)s)")
    predict.add_argument(
        "-step_size",
        type=_step_size,
        default=0.5,
        metavar="PART",
        help="step from window to window, as a part of the patch size (default: %(default)s)",
    )
    predict.add_argument("--disable_tta", action="store_true", help="do without mirroring: faster, less accurate")
    predict.add_argument(
        "--save_probabilities",
        action="store_true",
        help="write probabilities, too, for ensembles; takes nnU-Net's time and memory",
    )
    predict.add_argument("--continue_prediction", "--c", action="store_true", help="leave the cases that are predicted")
    predict.add_argument(
        "-prev_stage_predictions", type=Path, metavar="FOLDER", help="predictions of a cascade's previous stage"
    )
    add_executor(
        predict,
        "Slurm jobs that share the cases; cases that are there stay, and the same command goes on (default: 1)",
    )
    predict.add_argument("-num_parts", type=positive, default=1, metavar="N", help="calls that share the cases")
    predict.add_argument("-part_id", type=_from_zero, default=0, metavar="N", help="which of them this is, from 0 on")
    add_device(predict, "cuda", "device")
    predict.add_argument(
        "--not_on_device",
        action="store_true",
        help="keep whole images and their scores off the GPU, to spare its memory",
    )
    predict.add_argument("--verbose", action="store_true", help="tell the size and the seconds of each case")
    predict.add_argument("--disable_progress_bar", action="store_true", help="show no progress")
    for flag, work in (("-npp", "reads and preprocesses"), ("-nps", "writes")):
        predict.add_argument(
            flag,
            type=_from_zero,
            metavar="N",
            help=f"taken for nnUNetv2_predict's sake, without effect: one thread {work} cases while the network works",
        )
    predict.set_defaults(run=run)


def _check_parts(arguments: argparse.Namespace) -> None:
    if arguments.part_id >= arguments.num_parts:
        raise ConflictingInputError(
            f"-part_id from 0 to {arguments.num_parts - 1}, one below -num_parts", str(arguments.part_id)
        )
    if arguments.executor == "slurm" and arguments.num_parts > 1:
        raise ConflictingInputError("-n jobs with --executor slurm", "-num_parts", remedy="drop -num_parts")
    if arguments.executor != "slurm" and arguments.n is not None:
        raise ConflictingInputError("-n jobs with --executor slurm alone", f"-n {arguments.n} without it")


def _model(arguments: argparse.Namespace) -> Path:
    """Return the model that is named, by its folder or file, or by dataset, trainer, plans and configuration."""
    if (arguments.m is None) == (arguments.d is None):
        raise ConflictingInputError("a model, by -m or by -d", "none" if arguments.m is None else "two")
    if arguments.m is not None:
        return Path(arguments.m)
    if arguments.c is None:
        raise ConflictingInputError("a configuration with -c beside -d", "none")
    from nnunetv2_gsp.prediction.model import trained_model

    return trained_model(arguments.d, arguments.tr, arguments.p, arguments.c)


def _step_size(text: str) -> float:
    try:
        if 0 < (step := float(text)) <= 1:
            return step
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"expected a number above 0 and up to 1, got {text}")


def _from_zero(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number from 0 on, got {text}")
    return int(text)
