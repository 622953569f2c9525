"""Which challenges are there? Names alone, so that the command line has them without what they stand for."""

EDITIONS = ("brats2018", "brats2019", "brats2020", "brats2021", "brats2023", "brats2024")
CHALLENGES = (*EDITIONS, "promise12")  # that take archives
