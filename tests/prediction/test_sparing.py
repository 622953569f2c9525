"""Networks that nnU-Net plans give the logits of a call, from fewer and smaller maps at a time."""

import weakref
from collections import Counter

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from hypothesis import example, given
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
def test_maps_go_when_nothing_reads_them_any_more(kind, monkeypatch):
    monkeypatch.setattr(module, "_LARGE", 1)
    network, image = planned(kind), torch.randn(1, 2, 64, 16, 16)
    assert peak_bytes(sparing(network), image) < 0.6 * peak_bytes(network, image)


def test_logits_go_with_who_asked_for_them():
    logits_of = sparing(planned(PlainConvUNet))
    with torch.inference_mode():
        logits = weakref.ref(logits_of(torch.randn(1, 2, 8, 8, 8)))
    assert logits() is None


class Scaled(nn.Module):
    """A module whose weight a trace would keep as it is."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda network: network.register_forward_hook(lambda *_: torch.ones(1)), id="hook"),
        pytest.param(lambda network: setattr(network, "forward", lambda _: torch.ones(1)), id="forward of its own"),
        pytest.param(lambda network: setattr(network, "__class__", type("Other", (PlainConvUNet,), {})), id="class"),
        pytest.param(lambda network: network.encoder.register_forward_hook(lambda *_: None), id="hook inside"),
        pytest.param(lambda network: network.encoder.stages.append(Scaled()), id="module from elsewhere"),
        pytest.param(
            lambda network: network.decoder.register_parameter("scale", nn.Parameter(torch.ones(1))), id="weight"
        ),
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
        network.load_state_dict({name: factor * values for name, values in network.state_dict().items()})
        with torch.inference_mode():
            assert torch.allclose(logits_of(image), network(image), rtol=0, atol=1e-5)


def test_a_hook_of_all_modules_sees_each_of_them():
    network = planned(PlainConvUNet)
    with nn.modules.module.register_module_forward_hook(lambda *_: None):
        assert sparing(network) is network


def alone(convolution, patch):
    """Return what computes a network that is one module as if nnU-Net planned it, and what is computed in slabs."""
    asked, of_slabs = [], module._of_slabs
    patch.setattr(module, "_LARGE", 1)
    patch.setattr(module, "_PLANNED", (nn.Sequential,))
    patch.setattr(module, "_of_slabs", lambda *arguments: asked.append(arguments) or of_slabs(*arguments))
    return sparing(nn.Sequential(convolution).eval()), asked


@example((1, 1, 2, 1, 1), 13, True)  # the last slab lies behind the image
@given(
    st.tuples(
        st.sampled_from([1, 2, 3, 5]), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2), st.sampled_from([1, 2])
    ),
    st.integers(9, 40),
    st.booleans(),
)
def test_slabs_are_parts_of_the_whole_convolution(settings, size, has_bias):
    convolution, image = nn.Conv3d(2, 4, *settings, has_bias), torch.randn(1, 2, size, 9, 10)
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        logits_of, asked = alone(convolution, patch)
        assert torch.allclose(logits_of(image), convolution(image), rtol=0, atol=1e-6)
    assert len(asked) == 1


@given(st.tuples(*[st.integers(1, 3)] * 3), st.integers(1, 13), st.sampled_from([1, 2]), st.booleans())
def test_slabs_are_parts_of_the_whole_transposed_convolution(stride, size, groups, has_bias):
    convolution = nn.ConvTranspose3d(2, 4, stride, stride, groups=groups, bias=has_bias)
    image = torch.randn(1, 2, size, 4, 5)
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        logits_of, asked = alone(convolution, patch)
        assert torch.allclose(logits_of(image), convolution(image), rtol=0, atol=1e-6)
    assert len(asked) == 1


@pytest.mark.parametrize(
    "convolution",
    [
        nn.Conv3d(2, 4, 3, padding="same"),
        nn.Conv3d(2, 4, 3, padding=1, padding_mode="reflect"),
        nn.ConvTranspose3d(2, 4, 3, 2),
        nn.ConvTranspose3d(2, 4, 2, 2, padding=1),
        nn.ConvTranspose3d(2, 4, 2, 2, output_padding=1),
        nn.ConvTranspose3d(2, 4, 2, 2, dilation=2),
    ],
    ids=str,
)
def test_other_convolutions_are_torchs(convolution, monkeypatch):
    image = torch.randn(1, 2, 9, 6, 7)
    logits_of, asked = alone(convolution, monkeypatch)
    with torch.inference_mode():
        assert torch.equal(logits_of(image), convolution(image))
    assert not asked


class Joining(nn.Module):
    """Joins two maps, and has them read in the ways that the subclasses say."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.norm = nn.Conv3d(3, 4, 1), nn.Conv3d(3, 4, 3, padding=1), nn.InstanceNorm3d(3)


class ByConvolutions(Joining):
    def forward(self, image):
        joined = torch.cat((image[:, :1], image[:, 1:]), 1)
        return self.first(joined) + self.second(joined)


class ByAnotherToo(Joining):
    def forward(self, image):
        joined = torch.cat([image[:, :1], image[:, 1:]], dim=1)
        return self.first(joined) + self.norm(joined).sum()


class AlongAnAxis(Joining):
    def forward(self, image):
        return self.second(torch.cat([image, image], 2))


@pytest.mark.parametrize("kind", [ByConvolutions, ByAnotherToo, AlongAnAxis])
def test_maps_are_joined_where_convolutions_alone_read_them(kind, monkeypatch):
    monkeypatch.setattr(module, "_LARGE", 1)
    network, image = kind().eval(), torch.randn(1, 3, 13, 6, 7)
    trace = module._Sparing(module.symbolic_trace(network))
    with torch.inference_mode():
        assert torch.allclose(trace.run(image), network(image), rtol=0, atol=1e-5)
    assert len(trace._joined) == (kind is ByConvolutions)
