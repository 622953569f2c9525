"""Which runs make the paper's tables, and where do they run?

`tables` says what is trained and what the paper reports, `runs` knows a run and its state on disk, `executors` has it
done on this machine or by Slurm, `report` puts what came out beside the paper, and `experiment` does all of it.
"""
