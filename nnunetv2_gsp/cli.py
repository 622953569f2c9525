"""`nnUNetv2_gsp <verb>`: parses, calls one function, prints. Heavy imports wait until a verb needs them."""
import argparse
import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from nnunetv2_gsp.datasets.editions import CHALLENGES, EDITIONS
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.files import write_json, write_text
from nnunetv2_gsp.plugin import startup  # noqa: F401  (where the .pth did not run, the verbs work all the same)

_INCOMPLETE = "Not checked: whether all cases are there and where they lie; name the challenge's images with --images."

Verbs = Any  # argparse has no public name for what add_subparsers returns


def _doctor(_: argparse.Namespace) -> int:
    from nnunetv2_gsp.plugin.doctor import diagnose

    findings = diagnose()
    for finding in findings:
        print(finding)
    return 0 if all(finding.ok for finding in findings) else 1


def _add_doctor(verbs: Verbs) -> None:
    doctor = verbs.add_parser("doctor", help="say what is found, what is not, and the line that mends it")
    doctor.set_defaults(run=_doctor)


def _plan(arguments: argparse.Namespace) -> int:
    from nnunetv2_gsp.plans import summary, write_gsp_plans

    file = write_gsp_plans(arguments.d, arguments.p, arguments.o, arguments.template, _settings(arguments.set),
                           arguments.c, arguments.overwrite)
    print(summary(json.loads(file.read_text()), file.parent))
    print(f"\nWrote {file}. Train with any trainer: nnUNetv2_train {arguments.d} CONFIGURATION FOLD -p {file.stem}")
    return 0


def _add_plan(verbs: Verbs) -> None:
    plan = verbs.add_parser(
        "plan", help="write plans that name the GSP network, for any trainer's -p",
        description="Derive GSP plans from the plans that nnU-Net made for a dataset. Data that are preprocessed serve "
                    "again wherever the preprocessing is the same; where it is not, the command is printed.")
    plan.add_argument("-d", required=True, metavar="DATASET", help="name or id")
    plan.add_argument("-p", default="nnUNetPlans", metavar="PLANS", help="plans to start from (default: %(default)s)")
    plan.add_argument("-c", nargs="+", metavar="CONFIGURATION", help="which configurations (default: every one)")
    _add_template(plan)
    plan.add_argument("-o", metavar="NAME",
                      help="name of the new plans (default: nnUNetGSPPlans, or nnUNetGSPPlans_TEMPLATE)")
    plan.add_argument("--overwrite", action="store_true", help="replace plans of that name")
    plan.set_defaults(run=_plan)


def _templates(_: argparse.Namespace) -> int:
    from nnunetv2_gsp.plans_templates import load_template, template_names

    width = max(map(len, template_names()))
    for name in template_names():
        print(f"{name:<{width}}  {load_template(name).description}")
    return 0


def _add_templates(verbs: Verbs) -> None:
    templates = verbs.add_parser("templates", help="list the templates, a line each")
    templates.set_defaults(run=_templates)


def _profile(arguments: argparse.Namespace) -> int:
    from nnunetv2_gsp.plans_templates import load_template
    from nnunetv2_gsp.profiling import profile_dataset, profile_template

    of_plans = (arguments.c, arguments.p)
    of_a_template = (arguments.template, arguments.set or None, arguments.patch, arguments.channels, arguments.classes)
    mistaken = of_a_template if arguments.d is not None else of_plans
    if any(option is not None for option in mistaken):
        raise InputError("Expected either -d with -c and -p, whose plans say all, or a template with --set, --patch, "
                         "--channels and --classes, got some of both; drop one side.")
    for file in filter(None, (arguments.json, arguments.markdown)):
        if not file.absolute().parent.is_dir():
            raise InputError(f"Expected a folder for {file}, found none; make it, or name another file.")
        if file.is_dir():
            raise InputError(f"Expected a file to write to, got the folder {file}; name a file in it.")
    if arguments.d is not None:
        profile = profile_dataset(arguments.d, arguments.c or "3d_fullres", arguments.p or "nnUNetPlans",
                                  arguments.device, arguments.rounds)
    else:
        template = load_template(arguments.template or "default", _settings(arguments.set))
        profile = profile_template(template, arguments.patch, arguments.channels or 4, arguments.classes or 4,
                                   arguments.device, arguments.rounds)
    print(profile.table())
    if arguments.json is not None:
        write_json(profile.to_dict(), arguments.json)
    if arguments.markdown is not None:
        write_text(profile.markdown(), arguments.markdown)
    return 0


def _add_profile(verbs: Verbs) -> None:
    profile = verbs.add_parser(
        "profile", help="count and time a GSP network beside stock nnU-Net",
        description="Parameters, MACs, FLOPs, activation memory and latency of the GSP network and of stock nnU-Net, "
                    "from the plans of a dataset (-d) or from a template alone.")
    profile.add_argument("-d", metavar="DATASET", help="name or id; without it a template is profiled")
    profile.add_argument("-c", metavar="CONFIGURATION", help="of the plans (default: 3d_fullres)")
    profile.add_argument("-p", metavar="PLANS", help="stock or GSP plans of the dataset (default: nnUNetPlans)")
    _add_template(profile, default=None)
    profile.add_argument("--patch", nargs="+", type=int, metavar="VOXELS",
                         help="patch, in place of the template's own")
    profile.add_argument("--channels", type=_positive, metavar="N",
                         help="input channels of the template's network (default: 4)")
    profile.add_argument("--classes", type=_positive, metavar="N",
                         help="output channels of the template's network (default: 4)")
    profile.add_argument("-device", default="cpu", help="where latency is measured: cpu, cuda or mps "
                                                        "(default: %(default)s)")
    profile.add_argument("--rounds", type=int, default=5, metavar="N",
                         help="timed forward passes of each network (default: %(default)s)")
    profile.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    profile.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there too")
    profile.set_defaults(run=_profile)


def _experiments(arguments: argparse.Namespace) -> int:
    from nnunetv2_gsp.experiments.executors import SlurmResources
    from nnunetv2_gsp.experiments.experiment import run_experiments

    wishes = {"partition": arguments.partition, "gpus": arguments.gpus, "cpus": arguments.cpus,
              "time_min": arguments.time}
    wishes = {name: wish for name, wish in wishes.items() if wish is not None}
    all_is_well = run_experiments(
        arguments.table, arguments.d, configuration=arguments.c, plans_name=arguments.p, trainers=arguments.tr,
        overrides=_settings(arguments.set), device=arguments.device, executor=arguments.executor, at_a_time=arguments.n,
        slurm=SlurmResources(**wishes) if wishes else None, retry=arguments.retry, dry_run=arguments.dry_run)
    return 0 if all_is_well else 1


def _add_experiments(verbs: Verbs) -> None:
    from nnunetv2_gsp.experiments.tables import TABLES

    experiments = verbs.add_parser(
        "experiments", help="train what a table of the paper needs, and collect it beside the paper's values",
        description="Write the plans of a table, train each of its runs with nnU-Net, and collect. The same command "
                    "again goes on where it stands: finished runs stay, interrupted ones go on from their checkpoint, "
                    "failed ones are named with their log.")
    experiments.add_argument("table", choices=TABLES, metavar="TABLE",
                             help="table1, table2, ratio, brats-positions, brats-location, or cross-validation (stock "
                                  "and GSP in five folds)")
    experiments.add_argument("-d", required=True, metavar="DATASET", help="name or id, planned")
    experiments.add_argument("-c", default="3d_fullres", metavar="CONFIGURATION", help="default: %(default)s")
    experiments.add_argument("-p", default="nnUNetPlans", metavar="PLANS",
                             help="plans to derive the table's from; for cross-validation the plans that are trained "
                                  "(default: %(default)s)")
    experiments.add_argument("-tr", nargs="+", metavar="TRAINER",
                             help="in place of the table's own (nnUNetTrainerGSPPaper; for cross-validation "
                                  "nnUNetTrainer and nnUNetTrainerGSP)")
    _add_set(experiments, "settings for every run, as in patch_size=[16,96,96] batch_size=2")
    experiments.add_argument("-device", choices=("cpu", "cuda", "mps"), default="cuda", help="default: %(default)s")
    experiments.add_argument("--executor", choices=("local", "slurm"), default="local",
                             help="local works in the foreground until all have ended; slurm submits a job array, and "
                                  "the same command later collects (default: %(default)s)")
    experiments.add_argument("-n", type=_positive, metavar="N",
                             help="so many trainings at once (default: 1 locally, all in Slurm)")
    experiments.add_argument("--partition", help="of Slurm")
    experiments.add_argument("--gpus", help="a Slurm job's GPUs, as sbatch's --gpus-per-node takes them: 1 or a100:1")
    experiments.add_argument("--cpus", type=_positive, metavar="N", help="a Slurm job's CPU cores")
    experiments.add_argument("--time", type=_positive, metavar="MINUTES",
                             help="limit of a Slurm job; one that needs more is requeued and goes on (default: a day)")
    experiments.add_argument("--retry", action="store_true", help="train failed runs again")
    experiments.add_argument("--dry-run", action="store_true", help="list the runs and their state, write nothing")
    experiments.set_defaults(run=_experiments)


def _export(arguments: argparse.Namespace) -> int:
    from nnunetv2_gsp.sharing import export_model

    print(f"Wrote {export_model(arguments.model_folder, arguments.o, arguments.f, arguments.chk)}")
    return 0


def _add_export(verbs: Verbs) -> None:
    export = verbs.add_parser("export", help="write a trained model as a small zip without pickle, to share")
    export.add_argument("model_folder", type=Path, metavar="MODEL_FOLDER",
                        help="TRAINER__PLANS__CONFIGURATION in nnUNet_results")
    export.add_argument("-o", type=Path, required=True, metavar="FILE", help="the new zip")
    export.add_argument("-f", nargs="+", metavar="FOLD",
                        help="0 1 ... or all (default: every fold that has the checkpoint)")
    export.add_argument("-chk", default="checkpoint_final.pth", metavar="NAME",
                        help="checkpoint (default: %(default)s)")
    export.set_defaults(run=_export)


def _import(arguments: argparse.Namespace) -> int:
    from nnunetv2_gsp.sharing import import_model, prediction_command

    folder = import_model(arguments.file)
    print(f"Wrote {folder}. Predict: {prediction_command(folder)}")
    return 0


def _add_import(verbs: Verbs) -> None:
    importing = verbs.add_parser("import",
                                 help="make a model folder in nnUNet_results of such a zip, after checking it")
    importing.add_argument("file", type=Path, metavar="FILE", help="what nnUNetv2_gsp export wrote")
    importing.set_defaults(run=_import)


def _convert(arguments: argparse.Namespace) -> int:
    from nnunetv2_gsp.commands import n_processes
    from nnunetv2_gsp.datasets.brats import convert_brats
    from nnunetv2_gsp.datasets.conversion import Report, raw_dataset
    from nnunetv2_gsp.datasets.msd import convert_msd
    from nnunetv2_gsp.datasets.promise12 import convert_promise12

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


def _add_convert(verbs: Verbs) -> None:
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
    convert.add_argument("-np", type=_positive, metavar="N",
                         help="so many cases at a time (default: as many as there are cores, 8 at most)")
    convert.set_defaults(run=_convert)


def _submit(arguments: argparse.Namespace) -> int:
    from nnunetv2_gsp.commands import n_processes
    from nnunetv2_gsp.submission import write_submission
    from nnunetv2_gsp.submission.writing import check_target

    check_target(arguments.o, arguments.overwrite)  # before a cross-validation is read
    threshold = _et_threshold(arguments)
    n_cases = write_submission(arguments.i, arguments.o, arguments.challenge, images=arguments.images,
                               names=arguments.names, et_threshold=threshold, overwrite=arguments.overwrite,
                               processes=n_processes())
    print(f"Wrote {arguments.o}: {n_cases} cases, checked against the rules of {arguments.challenge}.")
    if arguments.images is None:
        print(_INCOMPLETE)
    return 0


def _et_threshold(arguments: argparse.Namespace) -> int:
    """Return the threshold in voxels, 0 for none; choose and show it if that is asked for."""
    from nnunetv2_gsp.commands import n_processes
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


def _add_submit(verbs: Verbs) -> None:
    submit = verbs.add_parser(
        "submit", help="write nnU-Net's predictions as the archive that a challenge takes",
        description="Predictions of a network that was trained on a dataset made by nnUNetv2_gsp convert become the "
                    "challenge's labels, names and geometry in a flat zip, which is checked before it is there.")
    submit.add_argument("-i", type=Path, required=True, metavar="PREDICTIONS",
                        help="folder that nnUNetv2_predict wrote")
    submit.add_argument("-o", type=Path, required=True, metavar="FILE", help="the new zip")
    _add_challenge(submit)
    submit.add_argument("--et-threshold", type=_voxels, metavar="N",
                        help="BraTS: fewer voxels of enhancing tumour than that become necrosis (default: none do); "
                             "auto: chosen on a cross-validation")
    submit.add_argument("--cv-folder", type=Path, metavar="FOLDER",
                        help="what nnUNetv2_accumulate_crossval_results wrote, for --et-threshold auto")
    submit.add_argument("-gt", type=Path, metavar="FOLDER",
                        help="labels of the cross-validation (default: those of the dataset that its plans name)")
    submit.add_argument("--names", metavar="TEMPLATE",
                        help="names in the archive (default: {case}.nii.gz, for PROMISE12 {case}_segmentation.mhd)")
    submit.add_argument("--overwrite", action="store_true", help="replace a file of that name")
    submit.set_defaults(run=_submit)


def _check_submission(arguments: argparse.Namespace) -> int:
    from nnunetv2_gsp.commands import n_processes
    from nnunetv2_gsp.submission import check_submission

    violations = check_submission(arguments.file, arguments.challenge, arguments.images, n_processes())
    for violation in violations:
        print(violation)
    print(f"{arguments.file}: {len(violations) or 'no'} violation{'s' * (len(violations) != 1)} of the rules of "
          f"{arguments.challenge}")
    if arguments.images is None:
        print(_INCOMPLETE)
    return 1 if violations else 0


def _add_check_submission(verbs: Verbs) -> None:
    check = verbs.add_parser(
        "check-submission", help="say whether a challenge would take an archive, from whatever program",
        description="Check names, labels, types, sizes and geometry of an archive against the rules of its challenge "
                    "and list every violation at once.")
    check.add_argument("file", type=Path, metavar="FILE", help="the zip")
    _add_challenge(check)
    check.set_defaults(run=_check_submission)


def _add_challenge(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--challenge", required=True, metavar="CHALLENGE",
                        choices=CHALLENGES, help=f"{', '.join(CHALLENGES[:-1])} or {CHALLENGES[-1]}")
    parser.add_argument("--images", type=Path, metavar="SOURCE",
                        help="the challenge's images of the cases to predict, or imagesTs made of them: whose cases "
                             "have to be there and whose geometry counts (default: the size of the edition counts)")


def _evaluate(arguments: argparse.Namespace) -> int:
    from nnunetv2_gsp.evaluation.definitions import definition_named
    from nnunetv2_gsp.evaluation.evaluate import check_outputs, evaluate_folders, output_files, write_evaluation

    definition, folder = definition_named(arguments.definition), arguments.o or arguments.pred
    check_outputs(output_files(folder, definition), arguments.overwrite)
    evaluation = evaluate_folders(arguments.gt, arguments.pred, definition, arguments.djfile, arguments.lesion_wise,
                                  arguments.np, arguments.chill)
    files = write_evaluation(evaluation, folder, arguments.overwrite)
    print(f"{evaluation.table()}\n\nWrote {files[0]} and {files[1].name}.")
    return 0


def _add_evaluate(verbs: Verbs) -> None:
    evaluate = verbs.add_parser(
        "evaluate", help="score predictions under a named definition: Dice, HD95, NSD, ABD, volumes",
        description="Score every case and region: Dice, HD95, NSD at 1 mm, ABD and volumes, as JSON and CSV. What HD95 "
                    "means, and what an empty mask scores, is the definition's to say; every output names it.")
    evaluate.add_argument("-gt", type=Path, required=True, metavar="FOLDER", help="references, such as labelsTr")
    evaluate.add_argument("-pred", type=Path, required=True, metavar="FOLDER", help="predictions, by the same names")
    _add_definition(evaluate)
    evaluate.add_argument("-djfile", type=Path, metavar="FILE",
                          help="dataset.json with the labels or regions (default: the one nnU-Net left in or above the "
                               "predictions, or beside the references; else every label found)")
    evaluate.add_argument("--lesion-wise", action="store_true",
                          help="score lesions, too, as BraTS 2023 does; with --definition brats2023")
    evaluate.add_argument("-np", type=_positive, metavar="N", help="processes (default: one for each core, at most 8)")
    evaluate.add_argument("--chill", action="store_true", help="leave out cases that only one of the folders has")
    evaluate.add_argument("-o", type=Path, metavar="FOLDER", help="for evaluation_DEFINITION.json and .csv (default: "
                                                                  "that of the predictions)")
    evaluate.add_argument("--overwrite", action="store_true", help="replace files of those names")
    evaluate.set_defaults(run=_evaluate)


def _compare(arguments: argparse.Namespace) -> int:
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


def _add_compare(verbs: Verbs) -> None:
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
    _add_definition(compare)
    compare.add_argument("-o", type=Path, required=True, metavar="FOLDER",
                         help="for comparison.html, .md, .csv and .json")
    compare.add_argument("-np", type=_positive, metavar="N", help="processes (default: one for each core, at most 8)")
    compare.add_argument("--overwrite", action="store_true", help="replace files of those names")
    compare.set_defaults(run=_compare)


def _demo(arguments: argparse.Namespace) -> int:
    from nnunetv2_gsp.demo import run_demo

    run_demo(arguments.o, arguments.device)
    return 0


def _add_demo(verbs: Verbs) -> None:
    demo = verbs.add_parser("demo", help="on a brain tumour phantom, train stock and GSP, compare, predict, submit")
    demo.add_argument("-o", type=Path, default=Path("nnUNet_gsp_demo"), metavar="FOLDER",
                      help="where the files go; run again, it resumes there (default: %(default)s)")
    demo.add_argument("-device", choices=("cpu", "cuda", "mps"), default="cpu",
                      help="cpu takes a small setting, cuda and mps a full-size one (default: %(default)s)")
    demo.set_defaults(run=_demo)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nnUNetv2_gsp",
        description="Group Shift Pointwise networks for nnU-Net. Training and prediction are nnU-Net's own commands: "
                    "nnUNetv2_train DATASET 3d_fullres 0 -tr nnUNetTrainerGSP",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    for add_verb in (_add_doctor, _add_plan, _add_templates, _add_profile, _add_experiments, _add_export, _add_import,
                     _add_convert, _add_evaluate, _add_compare, _add_submit, _add_check_submission, _add_demo):
        add_verb(verbs)
    return parser


def _add_template(parser: argparse.ArgumentParser, default: str | None = "default") -> None:
    parser.add_argument("--template", default=default, metavar="NAME",
                        help="settings with a name, see nnUNetv2_gsp templates; or a .json file (default: default)")
    _add_set(parser, "settings in place of the template's, as in shift_ratio=1 shift_position=CCS "
                     "'spatial_groups=[[2,2,2],[2,4,4]]'")


def _add_definition(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--definition", default="brats2023", metavar="NAME",
                        help="captk, brats2023, directed, panoptica, nnunet or promise12 (default: %(default)s)")


def _add_set(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--set", nargs="+", action="extend", type=_setting, default=[], metavar="KEY=VALUE", help=what)


def _settings(pairs: list[tuple[str, object]]) -> dict[str, object]:
    settings = dict(pairs)
    if len(settings) < len(pairs):
        raise InputError(f"Expected each setting once with --set, got {' '.join(key for key, _ in pairs)}; drop the "
                         f"repeated ones.")
    return settings


def _setting(text: str) -> tuple[str, object]:
    """Parse `key=value`: the value as JSON, as a number that JSON does not know (.25), or as the text it is."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {text}")
    for parse in (json.loads, float):
        try:
            return key, parse(value)
        except ValueError:
            continue
    return key, value


def _voxels(text: str) -> int | str:
    return text if text == "auto" else _positive(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1 on, got {text}")
    return int(text)


def main(arguments: list[str] | None = None) -> None:
    """Run one verb. Exits with 0 if all is well, 1 on a finding or a user's mistake, 2 on a wrong command line."""
    parsed = _parser().parse_args(arguments)
    try:
        code = parsed.run(parsed)
        sys.stdout.flush()  # while a closed pipe can still be caught
        sys.exit(code)
    except BrokenPipeError:  # as in `| head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter would flush once more
        sys.exit(1)
    except (InputError, OSError) as error:
        sys.exit(f"nnUNetv2_gsp {parsed.verb}: {error}")
    except KeyboardInterrupt:
        sys.exit(f"{os.linesep}nnUNetv2_gsp {parsed.verb}: interrupted")
