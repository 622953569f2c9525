"""Draws docs/receptive_field.png: the spatial groups of every stage, and how far the network's output sees.

What a voxel sees is what has a gradient: of the output at the centre of the patch to the voxels of the input.
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from torch import nn

from nnunetv2_gsp.architectures import GSPUNet
from nnunetv2_gsp.architectures.spatial_groups import feature_map_sizes, spatial_groups_of

PATCH = (64, 64)
FEATURES = (16, 32, 64, 128)
STRIDES = (1, 2, 2, 2)
INK, SEEN = "#222222", "#0072B2"
MAPS = feature_map_sizes(PATCH, STRIDES)
GROUPS = [spatial_groups_of(size, channels // 2) for size, channels in zip(MAPS, FEATURES, strict=True)]


def network(n_stages: int, position: str) -> GSPUNet:
    """Return a 2D network of the first stages."""
    return GSPUNet(
        input_channels=1,
        n_stages=n_stages,
        features_per_stage=FEATURES[:n_stages],
        conv_op=nn.Conv2d,
        strides=STRIDES[:n_stages],
        n_conv_per_stage=2,
        num_classes=2,
        n_conv_per_stage_decoder=2,
        spatial_groups=GROUPS[:n_stages],
        shift_position=position,
        nonlin=nn.Softplus,  # whose gradient is nowhere 0, so that what is seen does not depend on the weights
    )


def seen(n_stages: int, position: str) -> torch.Tensor:
    """Return (H, W) booleans: the voxels that the logits in the centre depend on, in one of sixteen images."""
    torch.manual_seed(0)
    model, found = network(n_stages, position).double(), torch.zeros(PATCH, dtype=torch.bool)
    for _ in range(16):  # max-pooling passes on one voxel of a block, another one in another image
        image = torch.randn(1, 1, *PATCH, dtype=torch.float64, requires_grad=True)
        centre = model(image)[0, :, PATCH[0] // 2, PATCH[1] // 2].sum()
        found |= torch.autograd.grad(centre, image)[0][0, 0] != 0
    return found


def main() -> None:
    """Draw a row of the stages' groups, and a row of what networks see."""
    figure, axes = plt.subplots(2, 4, figsize=(10, 5.8), facecolor="white")
    for stage, (axis, size, groups) in enumerate(zip(axes[0], MAPS, GROUPS, strict=True)):
        blocks = torch.arange(groups[0])[:, None] + groups[0] * torch.arange(groups[1])
        height, width = (voxels // count for voxels, count in zip(size, groups, strict=True))
        axis.imshow(blocks.repeat_interleave(height, 0).repeat_interleave(width, 1) % 20, cmap="tab20")
        title = f"stage {stage}: {size[0]}×{size[1]} voxels\n{groups[0]}×{groups[1]} groups of {height}×{width}"
        axis.set_title(title, fontsize=9, color=INK)
    colours = matplotlib.colors.ListedColormap(["#EEEEEE", SEEN])
    for axis, (n_stages, position) in zip(axes[1], ((4, "none"), (2, "CSC"), (3, "CSC"), (4, "CSC")), strict=True):
        picture = seen(n_stages, position)
        axis.imshow(picture, cmap=colours, vmin=0, vmax=1)
        part = f"{picture.double().mean():.0%} of the patch seen"
        title = f"{n_stages} stages, {'no shift' if position == 'none' else position}:\n{part}"
        axis.set_title(title, fontsize=9, color=INK)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    figure.tight_layout(h_pad=2)
    figure.savefig(Path(__file__).with_name("receptive_field.png"), dpi=110)


if __name__ == "__main__":
    main()
