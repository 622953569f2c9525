"""`nnUNetv2_gsp profile`: counts and times a GSP network beside stock nnU-Net."""

import argparse
from pathlib import Path

from nnunetv2_gsp.cli.arguments import Verbs, add_device, add_template, positive, settings


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    from nnunetv2_gsp.profiling import profile

    profiled = profile(
        dataset=arguments.d,
        configuration=arguments.c,
        plans_name=arguments.p,
        template=arguments.template,
        settings=settings(arguments.set),
        patch_size=arguments.patch,
        input_channels=arguments.channels,
        classes=arguments.classes,
        device=arguments.device,
        rounds=arguments.rounds,
        json_file=arguments.json,
        markdown_file=arguments.markdown,
        overwrite=arguments.overwrite,
    )
    print(profiled.table())
    return 0


def add(verbs: Verbs) -> None:
    """Add the verb and its arguments."""
    profile = verbs.add_parser(
        "profile",
        help="count and time a GSP network beside stock nnU-Net",
        description="Parameters, MACs, FLOPs, activation memory and latency of the GSP network and of stock nnU-Net, "
        "from the plans of a dataset (-d) or from a template alone.",
    )
    profile.add_argument("-d", metavar="DATASET", help="name or id of the dataset; without it a template is profiled")
    profile.add_argument("-c", metavar="CONFIGURATION", help="configuration of the plans (default: 3d_fullres)")
    profile.add_argument("-p", metavar="PLANS", help="stock or GSP plans of the dataset (default: nnUNetPlans)")
    add_template(profile, default=None)
    profile.add_argument(
        "--patch",
        nargs="+",
        type=int,
        metavar="VOXELS",
        help="edges of the patch, depth first, in place of the template's own",
    )
    profile.add_argument(
        "--channels", type=positive, metavar="N", help="input channels of the template's network (default: 4)"
    )
    profile.add_argument(
        "--classes", type=positive, metavar="N", help="output channels of the template's network (default: 4)"
    )
    add_device(profile, "cpu", "where latency is measured: cpu, cuda or mps")
    profile.add_argument(
        "--rounds", type=int, default=5, metavar="N", help="timed forward passes of each network (default: %(default)s)"
    )
    profile.add_argument("--json", type=Path, metavar="FILE", help="write all values there too")
    profile.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there too")
    profile.add_argument("--overwrite", action="store_true", help="replace files of those names")
    profile.set_defaults(run=run)
