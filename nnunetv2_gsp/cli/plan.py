"""`nnUNetv2_gsp plan`: writes plans that name the GSP network."""

import argparse
import json

from nnunetv2_gsp.cli.arguments import Verbs, add_template, settings


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    from nnunetv2_gsp.plans import summary, write_gsp_plans

    file = write_gsp_plans(
        arguments.d,
        arguments.p,
        arguments.name,
        arguments.template,
        settings(arguments.set),
        arguments.c,
        arguments.overwrite,
    )
    print(summary(json.loads(file.read_text()), file.parent))
    print(f"\nWrote {file}. Train with any trainer: nnUNetv2_train {arguments.d} CONFIGURATION FOLD -p {file.stem}")
    return 0


def add(verbs: Verbs) -> None:
    """Add the verb and its arguments."""
    plan = verbs.add_parser(
        "plan",
        help="write plans that name the GSP network, for any trainer's -p",
        description="Derive GSP plans from the plans that nnU-Net made for a dataset. Data that are preprocessed serve "
        "again wherever the preprocessing is the same; where it is not, the command is printed.",
    )
    plan.add_argument("-d", required=True, metavar="DATASET", help="name or id of the dataset")
    plan.add_argument("-p", default="nnUNetPlans", metavar="PLANS", help="plans to start from (default: %(default)s)")
    plan.add_argument("-c", nargs="+", metavar="CONFIGURATION", help="which configurations (default: every one)")
    add_template(plan)
    plan.add_argument("--name", help="name of the new plans (default: nnUNetGSPPlans, or nnUNetGSPPlans_TEMPLATE)")
    plan.add_argument("--overwrite", action="store_true", help="replace GSP plans of that name")
    plan.set_defaults(run=run)
