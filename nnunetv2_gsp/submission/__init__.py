"""Predictions go out: the inverse of `datasets`, from the same tables of labels."""

from nnunetv2_gsp.submission.checking import check_submission
from nnunetv2_gsp.submission.writing import write_submission

__all__ = ["check_submission", "write_submission"]
