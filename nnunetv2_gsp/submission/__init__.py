"""Writes and checks a challenge's archives: the inverse of `datasets`, with the same label tables."""

from nnunetv2_gsp.submission.checking import check_submission
from nnunetv2_gsp.submission.writing import write_submission

__all__ = ["check_submission", "write_submission"]
