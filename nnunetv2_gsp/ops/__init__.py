"""What is a group shift? `reference.py` is the paper's definition, `group_shift.py` the same, fast."""
from nnunetv2_gsp.ops.group_shift import GroupShift, group_shift

__all__ = ["GroupShift", "group_shift"]
