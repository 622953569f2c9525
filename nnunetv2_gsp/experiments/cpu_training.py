"""Trains on this process's share of the CPU: `nnUNetv2_train -device cpu` starts a thread for every core it sees.

Called as `python -m nnunetv2_gsp.experiments.cpu_training`, with arguments of `nnUNetv2_train`. Torch takes the number
of threads from OMP_NUM_THREADS or, without it, from the cores that the process may use, as Slurm limits them.
"""

import argparse


def main() -> None:
    """Train as `nnUNetv2_train` does with the same arguments, which leaves the number of threads to torch."""
    arguments = _parser().parse_args()
    import torch
    from nnunetv2.run.run_training import run_training

    run_training(
        arguments.dataset,
        arguments.configuration,
        arguments.fold,
        arguments.tr,
        arguments.p,
        continue_training=arguments.c,
        device=torch.device("cpu"),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m nnunetv2_gsp.experiments.cpu_training", description=__doc__)
    parser.add_argument("dataset", help="name or id of the dataset")
    parser.add_argument("configuration", help="configuration of the plans, such as 3d_fullres")
    parser.add_argument("fold", help="fold from 0 to 4, or all")
    parser.add_argument("-tr", default="nnUNetTrainer", help="trainer (default: %(default)s)")
    parser.add_argument("-p", default="nnUNetPlans", help="plans (default: %(default)s)")
    parser.add_argument("--c", action="store_true", help="continue from the latest checkpoint")
    return parser


if __name__ == "__main__":  # nnU-Net's worker processes import this module, too
    main()
