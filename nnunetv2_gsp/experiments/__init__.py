"""Trains the runs that make the paper's tables, and puts what comes out beside the paper's values.

`tables` says what is trained and what the paper reports, `runs` knows a training and its state on disk, `executors` has
it done on this machine or by Slurm, `report` writes the table, and `experiment` does all of it.
"""

# names alone, so that the command line has them without what they need
EXECUTORS = {
    "local": "works in the foreground until all trainings have ended",
    "slurm": "submits a job array; the same call later collects",
}
