"""Trains the runs behind the paper's tables, and puts the results beside the paper's values.

`tables` lists the trainings and the paper's values, `runs` describes a training and its state on disk, `executors`
starts trainings on this machine or in Slurm, `report` writes the table, and `experiment` combines them.
"""

# names alone, so that the command line need not import what they require
EXECUTORS = {
    "local": "works in the foreground until all trainings have ended",
    "slurm": "submits a job array; the same call later collects",
}
