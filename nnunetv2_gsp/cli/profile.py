"""`nnUNetv2_gsp profile`: counts and times a GSP network beside stock nnU-Net."""
import argparse
from pathlib import Path

from nnunetv2_gsp.cli.arguments import Verbs, add_template, positive, settings
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.files import write_json, write_text


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
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
        template = load_template(arguments.template or "default", settings(arguments.set))
        profile = profile_template(template, arguments.patch, arguments.channels or 4, arguments.classes or 4,
                                   arguments.device, arguments.rounds)
    print(profile.table())
    if arguments.json is not None:
        write_json(profile.to_dict(), arguments.json)
    if arguments.markdown is not None:
        write_text(profile.markdown(), arguments.markdown)
    return 0


def add(verbs: Verbs) -> None:
    """Add the verb and its arguments."""
    profile = verbs.add_parser(
        "profile", help="count and time a GSP network beside stock nnU-Net",
        description="Parameters, MACs, FLOPs, activation memory and latency of the GSP network and of stock nnU-Net, "
                    "from the plans of a dataset (-d) or from a template alone.")
    profile.add_argument("-d", metavar="DATASET", help="name or id; without it a template is profiled")
    profile.add_argument("-c", metavar="CONFIGURATION", help="of the plans (default: 3d_fullres)")
    profile.add_argument("-p", metavar="PLANS", help="stock or GSP plans of the dataset (default: nnUNetPlans)")
    add_template(profile, default=None)
    profile.add_argument("--patch", nargs="+", type=int, metavar="VOXELS",
                         help="patch, in place of the template's own")
    profile.add_argument("--channels", type=positive, metavar="N",
                         help="input channels of the template's network (default: 4)")
    profile.add_argument("--classes", type=positive, metavar="N",
                         help="output channels of the template's network (default: 4)")
    profile.add_argument("-device", default="cpu", help="where latency is measured: cpu, cuda or mps "
                                                        "(default: %(default)s)")
    profile.add_argument("--rounds", type=int, default=5, metavar="N",
                         help="timed forward passes of each network (default: %(default)s)")
    profile.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    profile.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there too")
    profile.set_defaults(run=run)
