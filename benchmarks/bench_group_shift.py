"""What does a group shift cost? Against `clone()`, the price of moving the data once; at 32 channels and 128³, fp32.

Run it with `python -m benchmarks.bench_group_shift [--rounds N] [--json FILE]`.
"""
import torch

from benchmarks.timing import command_line, save
from nnunetv2_gsp.ops import group_shift
from nnunetv2_gsp.ops.reference import group_shift_reference
from nnunetv2_gsp.timing import environment, interleaved

SHAPE, SPATIAL_GROUPS, SHIFT_CHANNELS = (1, 32, 128, 128, 128), (2, 2, 2), 16


def main() -> None:
    """Check the shift, then time it and `clone()`, taking turns."""
    arguments = command_line(__doc__, rounds=25)

    x = torch.randn(SHAPE)
    small = x[:, :, :8, :8, :8].contiguous()
    if not torch.equal(group_shift(small, SPATIAL_GROUPS, SHIFT_CHANNELS),
                       group_shift_reference(small, SPATIAL_GROUPS, SHIFT_CHANNELS)):
        raise SystemExit("group_shift differs from its reference: no figures.")
    shifted = group_shift(x.requires_grad_(), SPATIAL_GROUPS, SHIFT_CHANNELS)
    cloned = x.clone()
    upstream = torch.randn(SHAPE)

    timings = interleaved({
        "clone, forward": lambda: x.clone(),
        "shift, forward": lambda: group_shift(x, SPATIAL_GROUPS, SHIFT_CHANNELS),
        # the gradient of a clone is passed on as it is, so a copy of it is the price to compare with
        "clone, backward": lambda: torch.autograd.grad(cloned, x, upstream, retain_graph=True)[0].clone(),
        "shift, backward": lambda: torch.autograd.grad(shifted, x, upstream, retain_graph=True),
    }, arguments.rounds)
    ratios = {way: timings[f"shift, {way}"].median_ms / timings[f"clone, {way}"].median_ms
              for way in ("forward", "backward")}

    print(f"{SHAPE}, groups {SPATIAL_GROUPS}, {SHIFT_CHANNELS} channels shifted; {environment()}")
    print("| | clone, ms (10-90 %) | shift, ms (10-90 %) | ratio |\n|---|---|---|---|")
    for way, ratio in ratios.items():
        print(f"| {way} | {timings[f'clone, {way}']} | {timings[f'shift, {way}']} | {ratio:.2f} |")
    save(arguments.json, timings)


if __name__ == "__main__":
    main()
