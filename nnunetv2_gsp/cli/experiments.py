"""`nnUNetv2_gsp experiments`: trains the runs of a table of the paper."""

import argparse
from textwrap import fill

from nnunetv2_gsp.cli.arguments import Verbs, add_device, add_executor, add_set, listed, settings, slurm_resources


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    from nnunetv2_gsp.experiments.experiment import run_experiments

    outcome = run_experiments(
        arguments.table,
        arguments.d,
        configuration=arguments.c,
        plans_name=arguments.p,
        trainers=arguments.tr,
        folds=arguments.f,
        settings=settings(arguments.set),
        device=arguments.device,
        executor=arguments.executor,
        at_a_time=arguments.n,
        slurm=slurm_resources(arguments),
        retry=arguments.retry,
        dry_run=arguments.dry_run,
    )
    print("\n".join([outcome.text, *outcome.failed]))
    if outcome.failed:
        print("Failed runs are trained again with --retry.")
    return 0 if outcome.is_good else 1


def add(verbs: Verbs) -> None:
    """Add the verb and its arguments."""
    from nnunetv2_gsp.experiments import EXECUTORS
    from nnunetv2_gsp.experiments.tables import PAPER_TRAINER, TABLES

    experiments = verbs.add_parser(
        "experiments",
        help="train the networks of a table, of the paper or of this package, and collect the Dice",
        description=fill(
            "Write the plans of a table, train each of its runs with nnU-Net, and collect. The same "
            "command again goes on where it stands: finished runs stay, interrupted ones go on from their "
            "checkpoint, failed ones are named with their log."
        ),
        epilog="\n\n".join(
            [
                listed("tables", {name: table.description for name, table in TABLES.items()}),
                listed("executors", EXECUTORS),
            ]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    experiments.add_argument("table", choices=list(TABLES), metavar="TABLE", help="one of those listed below")
    experiments.add_argument("-d", required=True, metavar="DATASET", help="name or id of a planned dataset")
    experiments.add_argument(
        "-c", default="3d_fullres", metavar="CONFIGURATION", help="configuration of the plans (default: %(default)s)"
    )
    experiments.add_argument(
        "-p",
        default="nnUNetPlans",
        metavar="PLANS",
        help="plans to derive the table's from; cross-validation and networks train them (default: %(default)s)",
    )
    experiments.add_argument(
        "-tr",
        nargs="+",
        metavar="TRAINER",
        help=f"trainers in place of the table's own, such as nnUNetTrainer_50epochs (default: {PAPER_TRAINER}; for "
        f"cross-validation {' and '.join(TABLES['cross-validation'].trainers)}; for networks and variations "
        f"{TABLES['networks'].trainers[0]})",
    )
    experiments.add_argument(
        "-f",
        nargs="+",
        type=int,
        metavar="FOLD",
        help="folds of the table: 0 1 ... (default: all that it has)",
    )
    add_set(experiments, "settings for every run, as in patch_size=[16,96,96] batch_size=2")
    add_device(experiments, "cuda", "where nnU-Net trains")
    add_executor(experiments, "number of trainings at once (default: 1 locally, all in Slurm)")
    experiments.add_argument("--retry", action="store_true", help="train failed runs again")
    experiments.add_argument("--dry-run", action="store_true", help="list the runs and their state, write nothing")
    experiments.set_defaults(run=run)
