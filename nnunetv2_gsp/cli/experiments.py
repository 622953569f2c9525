"""`nnUNetv2_gsp experiments`: trains what a table of the paper needs."""
import argparse

from nnunetv2_gsp.cli.arguments import Verbs, add_set, positive, settings


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    from nnunetv2_gsp.experiments.executors import SlurmResources
    from nnunetv2_gsp.experiments.experiment import run_experiments

    wishes = {"partition": arguments.partition, "gpus": arguments.gpus, "cpus": arguments.cpus,
              "time_min": arguments.time}
    wishes = {name: wish for name, wish in wishes.items() if wish is not None}
    all_is_well = run_experiments(
        arguments.table, arguments.d, configuration=arguments.c, plans_name=arguments.p, trainers=arguments.tr,
        overrides=settings(arguments.set), device=arguments.device, executor=arguments.executor, at_a_time=arguments.n,
        slurm=SlurmResources(**wishes) if wishes else None, retry=arguments.retry, dry_run=arguments.dry_run)
    return 0 if all_is_well else 1


def add(verbs: Verbs) -> None:
    """Add the verb and its arguments."""
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
    add_set(experiments, "settings for every run, as in patch_size=[16,96,96] batch_size=2")
    experiments.add_argument("-device", choices=("cpu", "cuda", "mps"), default="cuda", help="default: %(default)s")
    experiments.add_argument("--executor", choices=("local", "slurm"), default="local",
                             help="local works in the foreground until all have ended; slurm submits a job array, and "
                                  "the same command later collects (default: %(default)s)")
    experiments.add_argument("-n", type=positive, metavar="N",
                             help="so many trainings at once (default: 1 locally, all in Slurm)")
    experiments.add_argument("--partition", help="of Slurm")
    experiments.add_argument("--gpus", help="a Slurm job's GPUs, as sbatch's --gpus-per-node takes them: 1 or a100:1")
    experiments.add_argument("--cpus", type=positive, metavar="N", help="a Slurm job's CPU cores")
    experiments.add_argument("--time", type=positive, metavar="MINUTES",
                             help="limit of a Slurm job; one that needs more is requeued and goes on (default: a day)")
    experiments.add_argument("--retry", action="store_true", help="train failed runs again")
    experiments.add_argument("--dry-run", action="store_true", help="list the runs and their state, write nothing")
    experiments.set_defaults(run=run)
