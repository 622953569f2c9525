"""Operators of a GSP network: shifts, 1×1×1 convolutions, an InstanceNorm for flat regions, linear interpolation.

`reference.py` defines the group shift and the local shift; `group_shift.py` and `local_shift.py` compute them fast.
"""

from nnunetv2_gsp.ops.group_shift import GroupShift, group_shift
from nnunetv2_gsp.ops.instance_norm import SteadyInstanceNorm2d, SteadyInstanceNorm3d, instance_norm, steady
from nnunetv2_gsp.ops.interpolation import LinearUpsampling, linear_upsampling
from nnunetv2_gsp.ops.leaky_relu_shift import leaky_relu_group_shift_
from nnunetv2_gsp.ops.local_shift import LocalShift, local_shift
from nnunetv2_gsp.ops.pointwise import PointwiseConv2d, PointwiseConv3d, pointwise

__all__ = [
    "GroupShift",
    "LinearUpsampling",
    "LocalShift",
    "PointwiseConv2d",
    "PointwiseConv3d",
    "SteadyInstanceNorm2d",
    "SteadyInstanceNorm3d",
    "group_shift",
    "instance_norm",
    "leaky_relu_group_shift_",
    "linear_upsampling",
    "local_shift",
    "pointwise",
    "steady",
]
