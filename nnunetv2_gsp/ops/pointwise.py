"""1×1×1 convolutions as matrix products: every voxel's features times one matrix, in the layout they have."""
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from nnunetv2_gsp.ops.recording import is_recording


def pointwise_convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve with a kernel of one voxel: a product of (channels out, channels in) and (channels in, voxels).

    `conv3d` reorders its input and output for kernels that have neighbours to look at: oneDNN into blocks of channels,
    cuDNN in half precision to channels last. A matrix product takes the features as they lie.

    Args:
        x: (N, channels in, *spatial).
        weight: (channels out, channels in, 1, 1[, 1]).
        bias: (channels out,), or None.

    Returns:
        (N, channels out, *spatial), contiguous, in the dtype of `x`, or the one that autocast chooses.

    Raises:
        RuntimeError: `x` has another number of channels, as `conv3d` says it; the product would speak of batches.
    """
    if x.shape[1] != weight.shape[1]:
        raise RuntimeError(f"Expected the input of a convolution to have {weight.shape[1]} channels, but got "
                           f"{x.shape[1]} channels instead: give the channels that the network was trained with.")
    matrices = weight.flatten(1).expand(x.shape[0], -1, -1)
    voxels = x.flatten(2)
    # the bias goes into the product, for adding it afterwards would cost another pass over the map
    product = torch.bmm(matrices, voxels) if bias is None else torch.baddbmm(bias[:, None], matrices, voxels)
    return product.unflatten(2, x.shape[2:])


class PointwiseConv2d(nn.Conv2d):
    """A 1×1 convolution by `pointwise_convolution`; parameters and arguments are those of `nn.Conv2d`."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels in, H, W) to (N, channels out, H, W)."""
        if is_recording():  # whoever reads it knows best how to compute a convolution
            return super().forward(x)
        return pointwise_convolution(x, self.weight, self.bias)


class PointwiseConv3d(nn.Conv3d):
    """A 1×1×1 convolution by `pointwise_convolution`; parameters and arguments are those of `nn.Conv3d`."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels in, D, H, W) to (N, channels out, D, H, W)."""
        if is_recording():  # whoever reads it knows best how to compute a convolution
            return super().forward(x)
        return pointwise_convolution(x, self.weight, self.bias)


def pointwise(conv_op: type[_ConvNd]) -> type[_ConvNd]:
    """Return the convolution to take for `conv_op` where kernels have one voxel."""
    return {nn.Conv2d: PointwiseConv2d, nn.Conv3d: PointwiseConv3d}.get(conv_op, conv_op)
