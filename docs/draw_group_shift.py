"""Draws docs/group_shift.png: what a group shift does to the channel groups of a feature map.

The map is a slice of the MNI152 head in every channel, so that what moved can be seen. Needs the extra `demo`.
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from nilearn.datasets import load_mni152_template

from nnunetv2_gsp.ops import group_shift

GROUPS = (2, 2)
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")  # Okabe and Ito: distinct without red against green
INK = "#222222"


def head_slice() -> torch.Tensor:
    """Return an axial slice (H, W) with even sides, values from 0 to 1."""
    volume = load_mni152_template(resolution=2).get_fdata()
    plane = np.rot90(volume[:, :, volume.shape[2] // 2])
    height, width = (size // 2 * 2 for size in plane.shape)
    plane = plane[:height, :width] / plane.max()
    return torch.from_numpy(np.ascontiguousarray(plane)).float()


def tinted_blocks(plane: torch.Tensor) -> torch.Tensor:
    """Return (3, H, W): the slice, each block in the colour of the spatial group it started in."""
    height, width = plane.shape
    colours = torch.tensor([matplotlib.colors.to_rgb(colour) for colour in COLOURS])
    rows, columns = torch.meshgrid(
        torch.arange(height) // (height // 2), torch.arange(width) // (width // 2), indexing="ij"
    )
    tint = colours[rows + 2 * columns].permute(2, 0, 1)  # Eq. 2: the first axis runs fastest
    return 1 - (1 - tint) * (0.25 + 0.75 * plane) * (plane > 0.05) - (plane <= 0.05) * (1 - tint) * 0.25


def main() -> None:
    """Draw one row before the shift and one after, four shifted channel groups and the channels that stay."""
    image = tinted_blocks(head_slice())
    before = image[:, None].expand(-1, 5, -1, -1)  # (colour, channel, H, W)
    after = group_shift(before.contiguous(), GROUPS, 4)
    figure, axes = plt.subplots(2, 5, figsize=(10, 5.2), facecolor="white")
    for row, (maps, name) in enumerate(((before, "before"), (after, "after"))):
        for channel, axis in enumerate(axes[row]):
            axis.imshow(maps[:, channel].permute(1, 2, 0).clip(0, 1).numpy(), interpolation="nearest")
            axis.axhline(maps.shape[2] / 2 - 0.5, color="white", linewidth=2)
            axis.axvline(maps.shape[3] / 2 - 0.5, color="white", linewidth=2)
            axis.set_xticks([])
            axis.set_yticks([])
            for spine in axis.spines.values():
                spine.set_visible(False)
            if row == 0:
                steps = "moves 0 blocks" if channel == 0 else f"moves {channel} block{'s' if channel > 1 else ''}"
                title = f"channel group {channel}\n{steps}" if channel < 4 else "the other half\nof the channels stays"
                axis.set_title(title, fontsize=10, color=INK)
        axes[row, 0].set_ylabel(name, fontsize=12, color=INK)
    figure.suptitle(
        "Group Shift with 2×2 spatial groups: afterwards every voxel holds features of every block",
        fontsize=12,
        color=INK,
    )
    figure.tight_layout(h_pad=2)
    figure.savefig(Path(__file__).with_name("group_shift.png"), dpi=110)


if __name__ == "__main__":
    main()
