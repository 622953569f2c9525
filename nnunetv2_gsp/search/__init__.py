"""Searches the family of GSP networks for those with the best Dice for their cost, on one dataset.

`space` lists the settings that can be chosen, `halving` says which trials go on to longer trainings, `front` which
networks no other one beats, `study` runs the trials with Optuna, whatever it is that trains them, `trainings` trains
them with nnU-Net, `report` writes table, page and the winner's template, and `search` combines them.
"""

# names alone, so that the command line need not import what they require
TRAINERS = ("nnUNetTrainerGSP_5epochs", "nnUNetTrainerGSP_20epochs", "nnUNetTrainerGSP_100epochs")
N_TRIALS = 30
EXECUTORS = {
    "local": "trains on this machine",
    "slurm": "submits the trainings of each step as a job array, and waits for them",
}
