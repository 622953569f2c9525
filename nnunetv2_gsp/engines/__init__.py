"""Computes a network: one walk through its modules, and several engines that carry it out, one in each file."""

from nnunetv2_gsp.engines.choice import ENGINES, VARIABLE, add_logits, compute, computed_by, wished_engine
from nnunetv2_gsp.engines.engine import Engine, NotApplicable
from nnunetv2_gsp.engines.part import Part

__all__ = [
    "ENGINES",
    "VARIABLE",
    "Engine",
    "NotApplicable",
    "Part",
    "add_logits",
    "compute",
    "computed_by",
    "wished_engine",
]
