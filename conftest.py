"""Which modules `pytest --doctest-modules` leaves out: those that cannot be imported as parts of the package."""

from importlib.util import find_spec

collect_ignore = [
    # found by nnU-Net in a folder, under a name without the package
    "nnunetv2_gsp/plugin/ext_trainer",
    "tests/ext_trainers",
]
if find_spec("triton") is None:
    collect_ignore += ["nnunetv2_gsp/ops/shift_kernels.py", "nnunetv2_gsp/ops/layer_kernels.py"]
