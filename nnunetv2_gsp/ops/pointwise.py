"""Computes 1×1×1 convolutions as matrix products, which read feature maps in the layout that they have."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from nnunetv2_gsp.ops.recording import is_recording, is_transformed

PIECE = 2048  # voxels; a map of 128³ makes 1024 pieces, many for each multiprocessor of a GPU
# with fewer a product of its own is sooner (H200, fp16: 64→64 at 64³ 0.16 ms in pieces and 0.35 in one, 128→128 at 32³
# 0.18 and 0.05)
LEAST_PIECES = 64


def pointwise_convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve with a kernel of one voxel: the product of (channels out, channels in) and (channels in, voxels).

    `conv3d` reorders its input and output for kernels of more than one voxel: oneDNN into blocks of channels, cuDNN in
    half precision to channels last. A matrix product reads the features where they are.

    Args:
        x: (N, channels in, *spatial), floating point.
        weight: (channels out, channels in, 1, 1[, 1]).
        bias: (channels out,), added to every voxel; None adds nothing.

    Returns:
        (N, channels out, *spatial), contiguous, in the dtype of `x` or the one that autocast chooses.

    Raises:
        RuntimeError: `x` has another number of channels than `weight`; `conv3d` raises the same type.

    Example:
        >>> x = torch.tensor([1.0, 2.0, 10.0, 20.0]).reshape(1, 2, 1, 2)  # two channels of two voxels
        >>> pointwise_convolution(x, weight=torch.ones(1, 2, 1, 1), bias=torch.tensor([0.5]))
        tensor([[[[11.5000, 22.5000]]]])
    """
    if x.shape[1] != weight.shape[1]:
        raise RuntimeError(
            f"Expected the input of a convolution to have {weight.shape[1]} channels, but got "
            f"{x.shape[1]} channels instead: give the channels that the network was trained with."
        )
    voxels, matrix = x.flatten(2), weight.flatten(1)
    if (
        _on_gpu(voxels)
        and matrix.requires_grad
        and torch.is_grad_enabled()
        and not is_recording()
        and _count_pieces(voxels.shape[2]) >= LEAST_PIECES
    ):
        function = _Product if torch.compiler.is_compiling() else _TransformableProduct
        product = function.apply(*_cast_as_autocast_does(voxels, matrix, bias))
    else:
        product = _product(voxels, matrix, bias)
    convolved: Tensor = product.unflatten(2, x.shape[2:])
    return convolved


def gradient_of_weight(gradient: Tensor, voxels: Tensor) -> Tensor:
    """Compute the gradient of a 1×1×1 convolution's weight, in pieces of `PIECE` voxels or slightly more.

    A product whose result has 32×32 numbers of two million terms each keeps a few multiprocessors of a GPU busy and the
    others idle: cuBLAS does not split such sums. A batch of pieces fills the GPU, and is summed in fp32.

    Args:
        gradient: (N, channels out, voxels), gradient of the convolution's output.
        voxels: (N, channels in, voxels), input of the convolution.

    Returns:
        (channels out, channels in), in the dtype of `gradient`.

    Example:
        >>> gradient_of_weight(torch.ones(2, 3, 10), torch.ones(2, 4, 10)).shape
        torch.Size([3, 4])
    """
    n_pieces = _count_pieces(voxels.shape[2])

    def in_pieces(of_sample: Tensor) -> Tensor:
        """View (channels, voxels) as (pieces, channels, voxels of a piece)."""
        return of_sample.view(len(of_sample), n_pieces, -1).transpose(0, 1)

    parts = [
        torch.bmm(in_pieces(of_sample), in_pieces(sample).transpose(1, 2))
        for of_sample, sample in zip(gradient.unbind(), voxels.unbind(), strict=True)
    ]
    return torch.cat(parts).sum(0, dtype=torch.promote_types(torch.float32, gradient.dtype)).to(gradient.dtype)


class PointwiseConv2d(nn.Conv2d):
    """`pointwise_convolution` as a module; parameters and arguments are those of `nn.Conv2d`.

    Example:
        >>> PointwiseConv2d(4, 16, kernel_size=1)(torch.zeros(1, 4, 8, 8)).shape
        torch.Size([1, 16, 8, 8])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, channels in, H, W) to (N, channels out, H, W)."""
        if is_recording():  # the program that runs the export knows best how to compute a convolution
            return super().forward(x)
        return pointwise_convolution(x, self.weight, self.bias)


class PointwiseConv3d(nn.Conv3d):
    """`pointwise_convolution` as a module; parameters and arguments are those of `nn.Conv3d`.

    Example:
        >>> PointwiseConv3d(4, 16, kernel_size=1)(torch.zeros(1, 4, 8, 8, 8)).shape
        torch.Size([1, 16, 8, 8, 8])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, channels in, D, H, W) to (N, channels out, D, H, W)."""
        if is_recording():  # the program that runs the export knows best how to compute a convolution
            return super().forward(x)
        return pointwise_convolution(x, self.weight, self.bias)


def pointwise(conv_op: type[_ConvNd]) -> type[_ConvNd]:
    """Return the class that replaces `conv_op` where kernels have one voxel.

    Example:
        >>> pointwise(nn.Conv3d).__name__
        'PointwiseConv3d'
    """
    return {nn.Conv2d: PointwiseConv2d, nn.Conv3d: PointwiseConv3d}.get(conv_op, conv_op)


class _Product(torch.autograd.Function):
    """`_product`, whose gradient of the weight comes from `gradient_of_weight`."""

    @staticmethod
    def forward(voxels: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
        return _product(voxels, matrix, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        voxels, matrix = ctx.saved_tensors
        of_voxels, of_matrix, of_bias = ctx.needs_input_grad
        return (
            _product(gradient, matrix.t(), None) if of_voxels else None,
            gradient_of_weight(gradient, voxels) if of_matrix else None,
            gradient.sum((0, 2)) if of_bias else None,
        )


class _TransformableProduct(_Product):
    """`_Product` for `torch.func` and forward-mode derivatives, which the compiler does not accept in a Function."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _Product.setup_context(ctx, inputs, output)
        ctx.save_for_forward(*inputs[:2])

    @staticmethod
    def jvp(ctx: Any, voxels_t: Tensor, matrix_t: Tensor, bias_t: Tensor | None) -> Tensor:
        voxels, matrix = ctx.saved_tensors
        return _product(voxels_t, matrix, None) + _product(voxels, matrix_t, bias_t)


def _product(voxels: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    """Return matrix · voxels + bias, (N, channels out, voxels)."""
    matrices = matrix.expand(voxels.shape[0], -1, -1)
    if bias is None:
        return torch.bmm(matrices, voxels)
    if not _on_gpu(voxels):
        # the bias goes into the product, for adding it afterwards would cost another pass over the map
        return torch.baddbmm(bias[:, None], matrices, voxels)
    # there baddbmm copies the bias over the whole map first, which takes twice as long as a pass over the product
    product = torch.bmm(matrices, voxels)
    offset = bias[:, None].to(product.dtype)
    if torch.compiler.is_compiling() or is_transformed():
        return product + offset  # the compiler adds it in the kernel that reads the map
    return product.add_(offset)


def _count_pieces(voxels: int) -> int:
    """Return the power of two that cuts `voxels` into equal pieces of `PIECE` or slightly more; 1 if there is none."""
    n_pieces = 1
    while voxels % (2 * n_pieces) == 0 and voxels // (2 * n_pieces) >= PIECE:
        n_pieces *= 2
    return n_pieces


def _on_gpu(voxels: Tensor) -> bool:
    return voxels.is_cuda


def _cast_as_autocast_does(*tensors: Tensor | None) -> list[Tensor | None]:
    """Cast the operands of a product as autocast would, which does not see into a `torch.autograd.Function`."""
    kind = next(tensor.device.type for tensor in tensors if tensor is not None)
    if not torch.is_autocast_enabled(kind):
        return list(tensors)
    return [
        tensor if tensor is None or tensor.dtype is torch.double else tensor.to(torch.get_autocast_dtype(kind))
        for tensor in tensors
    ]
