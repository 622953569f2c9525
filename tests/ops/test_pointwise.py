import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nnunetv2_gsp.ops import PointwiseConv2d, PointwiseConv3d, pointwise


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("stock", "shape"), [(nn.Conv2d, (2, 6, 5, 3)), (nn.Conv3d, (3, 6, 4, 3, 5))])
def test_is_a_convolution_with_a_kernel_of_one_voxel(stock, shape, bias):
    torch.manual_seed(0)
    convolution = pointwise(stock)(6, 4, 1, bias=bias).double()
    expected = stock(6, 4, 1, bias=bias).double()
    expected.load_state_dict(convolution.state_dict())
    x = torch.randn(shape, dtype=torch.double).transpose(-1, -2)
    results = []
    for module in (convolution, expected):
        image = x.clone(memory_format=torch.preserve_format).requires_grad_()
        output = module(image)
        output.square().sum().backward()
        results.append([output, image.grad, *(parameter.grad for parameter in module.parameters())])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_takes_the_dtype_that_autocast_chooses():
    with torch.autocast("cpu", torch.bfloat16):
        assert PointwiseConv2d(3, 2, 1)(torch.randn(1, 3, 4, 4)).dtype is torch.bfloat16


def test_another_number_of_channels_is_named():
    with pytest.raises(RuntimeError, match="to have 3 channels, but got 2 channels"):
        PointwiseConv3d(3, 2, 1)(torch.randn(1, 2, 4, 4, 4))


class Operators(TorchDispatchMode):
    """Note every operator's name."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **kwargs or {})


def test_no_map_is_copied_or_laid_out_anew():
    convolution = PointwiseConv3d(6, 4, 1)
    x = torch.randn(2, 6, 4, 4, 4, requires_grad=True)
    with Operators() as operators:
        output = convolution(x)
        output.backward(torch.ones_like(output))
    assert "baddbmm" in operators.names
    assert not operators.names & {"convolution", "clone", "copy_", "_to_copy", "contiguous", "cat"}
