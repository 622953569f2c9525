"""`nnUNetv2_gsp search`: searches for the networks with the best Dice for their cost."""

import argparse
from pathlib import Path
from textwrap import fill

from nnunetv2_gsp.cli.arguments import Verbs, above_zero, add_device, add_executor, listed, positive, slurm_resources

_WHAT = (
    "Choose settings of the shifts, widths, convolutions and stages of a planned network with Optuna, and train them "
    "with nnU-Net. The first trials are the template default and others of this package. What exceeds the budget is "
    "never trained. The other trials are trained with the first trainer, and only the best of those that cost no more "
    "with the next one."
)
_AGAIN = (
    "The same command again goes on where a search was killed or interrupted, and a larger --trials adds to it. The "
    "search folder gets a table (search.md, search.csv), a page with the Pareto front of Dice and cost (search.html), "
    "and the template of the network with the best Dice (winner.json), which nnUNetv2_gsp plan takes with --template."
)


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    from nnunetv2_gsp.search.search import search_networks

    outcome = search_networks(
        arguments.d,
        configuration=arguments.c,
        plans_name=arguments.p,
        trainers=arguments.tr,
        folds=arguments.f,
        budget_gmacs=arguments.budget_macs,
        budget_ms=arguments.budget_ms,
        n_trials=arguments.trials,
        kept=arguments.keep,
        seed=arguments.seed,
        device=arguments.device,
        executor=arguments.executor,
        at_a_time=arguments.n or 1,
        slurm=slurm_resources(arguments),
        output=arguments.o,
        dry_run=arguments.dry_run,
    )
    print("\n".join([outcome.text, *outcome.failed]))
    if outcome.failed:
        print("Failed trainings are tried again by the same command.")
    return 1 if outcome.failed else 0


def add(verbs: Verbs) -> None:
    """Add the verb and its arguments."""
    from nnunetv2_gsp.search import EXECUTORS, N_TRIALS, TRAINERS

    search = verbs.add_parser(
        "search",
        help="search for the networks with the best Dice for their cost on a dataset",
        description=f"{fill(_WHAT)}\n\n{fill(_AGAIN)}",
        epilog=listed("executors", EXECUTORS),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    search.add_argument("-d", required=True, metavar="DATASET", help="name or id of a planned dataset")
    search.add_argument(
        "-c", default="3d_fullres", metavar="CONFIGURATION", help="configuration of the plans (default: %(default)s)"
    )
    search.add_argument(
        "-p",
        default="nnUNetPlans",
        metavar="PLANS",
        help="plans that nnU-Net made, from which the networks' plans are derived (default: %(default)s)",
    )
    search.add_argument(
        "-o", type=Path, metavar="FOLDER", help="the search folder (default: search below the dataset's results)"
    )
    budget = search.add_mutually_exclusive_group()
    budget.add_argument(
        "--budget-macs",
        type=above_zero,
        metavar="G",
        help="largest cost of a network: 10⁹ multiply-accumulates of one patch, as nnUNetv2_gsp profile counts them "
        "(default: no limit)",
    )
    budget.add_argument(
        "--budget-ms",
        type=above_zero,
        metavar="MS",
        help="largest cost of a network: milliseconds of one patch on this CPU, which then count in place of MACs",
    )
    search.add_argument(
        "--trials",
        type=positive,
        default=N_TRIALS,
        metavar="N",
        help="networks to train, those of earlier calls included (default: %(default)s)",
    )
    search.add_argument(
        "-tr",
        nargs="+",
        default=list(TRAINERS),
        metavar="TRAINER",
        help=f"trainers, from the shortest training to the longest (default: {' '.join(TRAINERS)})",
    )
    search.add_argument(
        "-f", nargs="+", type=int, default=[0], metavar="FOLD", help="folds to train each network in (default: 0)"
    )
    search.add_argument(
        "--keep",
        type=above_zero,
        default=0.5,
        metavar="FRACTION",
        help="of the trials, which goes on to the next trainer (default: %(default)s)",
    )
    search.add_argument("--seed", type=int, default=0, help="for what Optuna chooses (default: %(default)s)")
    add_device(search, "cuda", "where nnU-Net trains")
    add_executor(search, "number of networks, and of trainings, at once (default: 1)")
    search.add_argument("--dry-run", action="store_true", help="list the first networks and their costs, write nothing")
    search.set_defaults(run=run)
