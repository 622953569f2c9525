"""`nnUNetv2_gsp <verb>`: parses, calls one function, prints. Heavy imports wait until a verb needs them."""
import argparse
import json
import os
import sys
from pathlib import Path

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.plugin import startup  # noqa: F401  (where the .pth did not run, the verbs work all the same)


def _doctor(_: argparse.Namespace) -> int:
    from nnunetv2_gsp.plugin.doctor import diagnose

    findings = diagnose()
    for finding in findings:
        print(finding)
    return 0 if all(finding.ok for finding in findings) else 1


def _plan(arguments: argparse.Namespace) -> int:
    from nnunetv2_gsp.plans import summary, write_gsp_plans

    file = write_gsp_plans(arguments.d, arguments.p, arguments.o, arguments.template, dict(arguments.set), arguments.c,
                           arguments.overwrite)
    print(summary(json.loads(file.read_text()), file.parent))
    print(f"\nWrote {file}. Train with any trainer: nnUNetv2_train {arguments.d} CONFIGURATION FOLD -p {file.stem}")
    return 0


def _templates(_: argparse.Namespace) -> int:
    from nnunetv2_gsp.plans_templates import load_template, template_names

    width = max(map(len, template_names()))
    for name in template_names():
        print(f"{name:<{width}}  {load_template(name).description}")
    return 0


def _profile(arguments: argparse.Namespace) -> int:
    from nnunetv2_gsp.plans_templates import load_template
    from nnunetv2_gsp.profiling import profile_dataset, profile_template

    if arguments.d is not None:
        profile = profile_dataset(arguments.d, arguments.c, arguments.p, arguments.device, arguments.rounds)
    else:
        profile = profile_template(load_template(arguments.template, dict(arguments.set)), arguments.patch,
                                   arguments.channels, arguments.classes, arguments.device, arguments.rounds)
    print(profile.table())
    if arguments.json is not None:
        _write(arguments.json, json.dumps(profile.to_dict(), indent=4))
    if arguments.markdown is not None:
        _write(arguments.markdown, profile.markdown())
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    from nnunetv2_gsp.demo import run_demo

    run_demo(arguments.o, arguments.device)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nnUNetv2_gsp",
        description="Group Shift Pointwise networks for nnU-Net. Training and prediction are nnU-Net's own commands: "
                    "nnUNetv2_train DATASET 3d_fullres 0 -tr nnUNetTrainerGSP",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    doctor = verbs.add_parser("doctor", help="say what is found, what is not, and the line that mends it")
    doctor.set_defaults(run=_doctor)

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

    templates = verbs.add_parser("templates", help="list the templates, a line each")
    templates.set_defaults(run=_templates)

    profile = verbs.add_parser(
        "profile", help="count and time a GSP network beside stock nnU-Net",
        description="Parameters, MACs, FLOPs, activation memory and latency of the GSP network and of stock nnU-Net, "
                    "from the plans of a dataset (-d) or from a template alone.")
    profile.add_argument("-d", metavar="DATASET", help="name or id; without it a template is profiled")
    profile.add_argument("-c", default="3d_fullres", metavar="CONFIGURATION",
                         help="of the plans (default: %(default)s)")
    profile.add_argument("-p", default="nnUNetPlans", metavar="PLANS",
                         help="stock or GSP plans of the dataset (default: %(default)s)")
    _add_template(profile)
    profile.add_argument("--patch", nargs="+", type=int, metavar="VOXELS",
                         help="patch of the template's network, where it has none of its own")
    profile.add_argument("--channels", type=int, default=4, metavar="N",
                         help="input channels of the template's network (default: %(default)s)")
    profile.add_argument("--classes", type=int, default=4, metavar="N",
                         help="output channels of the template's network (default: %(default)s)")
    profile.add_argument("-device", default="cpu", help="where latency is measured: cpu, cuda or mps "
                                                        "(default: %(default)s)")
    profile.add_argument("--rounds", type=int, default=5, metavar="N",
                         help="timed forward passes of each network (default: %(default)s)")
    profile.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    profile.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there too")
    profile.set_defaults(run=_profile)

    demo = verbs.add_parser("demo", help="train, predict and evaluate on a brain tumour phantom, from raw files on")
    demo.add_argument("-o", type=Path, default=Path("nnUNet_gsp_demo"), metavar="FOLDER",
                      help="where the files go; run again, it resumes there (default: %(default)s)")
    demo.add_argument("-device", choices=("cpu", "cuda", "mps"), default="cpu",
                      help="cpu takes a small setting, cuda and mps a full-size one (default: %(default)s)")
    demo.set_defaults(run=_demo)
    return parser


def _add_template(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--template", default="default", metavar="NAME",
                        help="settings with a name, see nnUNetv2_gsp templates; or a .json file (default: %(default)s)")
    parser.add_argument("--set", nargs="+", action="extend", type=_setting, default=[], metavar="KEY=VALUE",
                        help="settings in place of the template's, as in shift_ratio=1 shift_position=CCS "
                             "'spatial_groups=[[2,2,2],[2,4,4]]'")


def _write(file: Path, text: str) -> None:
    """Write a file that is never there in part."""
    unfinished = file.with_name(f"{file.name}.part")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, file)


def _setting(text: str) -> tuple[str, object]:
    """Parse `key=value`: the value as JSON, as a number that JSON does not know (.25), or as the text it is."""
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {text}")
    for parse in (json.loads, float):
        try:
            return key, parse(value)
        except ValueError:
            continue
    return key, value


def main(arguments: list[str] | None = None) -> None:
    """Run one verb. Exits with 0 if all is well, 1 on a finding or a user's mistake, 2 on a wrong command line."""
    parsed = _parser().parse_args(arguments)
    try:
        sys.exit(parsed.run(parsed))
    except (InputError, OSError) as error:
        sys.exit(f"nnUNetv2_gsp {parsed.verb}: {error}")
    except KeyboardInterrupt:
        sys.exit(f"{os.linesep}nnUNetv2_gsp {parsed.verb}: interrupted")
