"""Networks that nnU-Net plans give the logits of a call, from fewer and smaller maps at a time."""

import weakref
from collections import Counter

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nnunetv2_gsp.prediction import sparing as module
from nnunetv2_gsp.prediction.sparing import sparing

FEATURES, STRIDES = [8, 16, 32], [1, 2, 2]


def planned(kind, n_axes=3):
    torch.manual_seed(0)
    of_axes = {2: (nn.Conv2d, nn.InstanceNorm2d), 3: (nn.Conv3d, nn.InstanceNorm3d)}
    convolution, norm = of_axes[n_axes]
    blocks = {"n_conv_per_stage" if kind is PlainConvUNet else "n_blocks_per_stage": 2, "n_conv_per_stage_decoder": 2}
    return kind(
        2,
        len(FEATURES),
        FEATURES,
        convolution,
        3,
        STRIDES,
        **blocks,
        num_classes=3,
        conv_bias=True,
        norm_op=norm,
        norm_op_kwargs={"affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
    ).eval()


class Memory(TorchDispatchMode):
    """Counts the bytes of tensors that operators made and that somebody still holds."""

    def __init__(self):
        super().__init__()
        self.holders, self.bytes, self.peak = Counter(), 0, 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        made = operator(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, (tuple, list)) else (made,):
            storage = tensor.untyped_storage()
            self.hold(storage.data_ptr(), storage.nbytes())
            weakref.finalize(tensor, self.let_go, storage.data_ptr(), storage.nbytes())
        return made

    def hold(self, address, n_bytes):
        self.bytes += 0 if self.holders[address] else n_bytes
        self.holders[address] += 1
        self.peak = max(self.peak, self.bytes)

    def let_go(self, address, n_bytes):
        self.holders[address] -= 1
        self.bytes -= 0 if self.holders[address] else n_bytes


def peak_bytes(function, image):
    with torch.inference_mode(), Memory() as memory:
        function(image)
    return memory.peak


@pytest.mark.parametrize("kind", [PlainConvUNet, ResidualEncoderUNet])
def test_maps_go_when_nothing_reads_them_any_more(kind):
    network, image = planned(kind), torch.randn(1, 2, 16, 16, 16)
    assert peak_bytes(sparing(network), image) < 0.8 * peak_bytes(network, image)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda network: network.register_forward_hook(lambda *_: torch.ones(1)), id="hook"),
        pytest.param(lambda network: setattr(network, "forward", lambda _: torch.ones(1)), id="forward of its own"),
        pytest.param(lambda network: setattr(network, "__class__", type("Other", (PlainConvUNet,), {})), id="class"),
    ],
)
def test_a_network_that_was_changed_is_called(change):
    network = planned(PlainConvUNet)
    change(network)
    assert sparing(network) is network


@pytest.mark.parametrize("n_axes", [2, 3])
@pytest.mark.parametrize("kind", [PlainConvUNet, ResidualEncoderUNet])
def test_logits_are_those_of_a_call_with_the_weights_of_now(kind, n_axes, monkeypatch):
    monkeypatch.setattr(module, "_LARGE", 1)
    network, image = planned(kind, n_axes), torch.randn(2, 2, *(20, 16, 12)[-n_axes:])
    logits_of = sparing(network)
    for factor in (1.0, 1.5):
        weights = {name: factor * values for name, values in network.state_dict().items()}
        network.load_state_dict(weights, assign=True)
        with torch.inference_mode():
            assert torch.allclose(logits_of(image), network(image), rtol=0, atol=1e-5)


convolutions = st.tuples(
    st.sampled_from([1, 2, 3, 5]), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2), st.sampled_from([1, 2])
)


@given(convolutions, st.integers(9, 40), st.booleans())
def test_slabs_are_parts_of_the_whole_convolution(settings, size, has_bias):
    kernel, stride, padding, dilation, groups = settings
    convolution = nn.Conv3d(2, 4, kernel, stride, padding, dilation, groups, has_bias)
    image, asked = torch.randn(1, 2, size, 9, 10), []
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        whole = convolution(image)
        patch.setattr(module, "_LARGE", 1)
        convolved = module._convolved
        patch.setattr(module, "_convolved", lambda *arguments: asked.append(arguments) or convolved(*arguments))
        with module._InSlabs():
            slabs = convolution(image)
    assert len(asked) == 1
    assert torch.allclose(slabs, whole, rtol=0, atol=1e-6)
