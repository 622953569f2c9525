"""What is a shift, and a convolution with a kernel of one voxel?

`reference.py` defines the group shift and the local shift; the other modules are the same, fast.
"""
from nnunetv2_gsp.ops.group_shift import GroupShift, group_shift
from nnunetv2_gsp.ops.leaky_relu_shift import leaky_relu_group_shift_
from nnunetv2_gsp.ops.local_shift import LocalShift, local_shift
from nnunetv2_gsp.ops.pointwise import PointwiseConv2d, PointwiseConv3d, pointwise

__all__ = ["GroupShift", "LocalShift", "PointwiseConv2d", "PointwiseConv3d", "group_shift", "leaky_relu_group_shift_",
           "local_shift", "pointwise"]
