"""Parts walk through themselves, unless somebody's own code would be passed by."""

import pytest
import torch
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from torch import nn

from nnunetv2_gsp.architectures.blocks import GSPConvBlock
from nnunetv2_gsp.engines import computed_by
from nnunetv2_gsp.engines.part import Part, own_code
from nnunetv2_gsp.engines.plain import PLAIN
from tests.engines.networks import PATCH, assert_close, small_network


class Doubled(GSPConvBlock):
    """A subclass of one's own, whose `forward` a walk would pass by."""

    def forward(self, x):
        return 2 * super().forward(x)


class StagePlusOne(nn.Module):
    def __init__(self, stage):
        super().__init__()
        self.stage = stage

    def forward(self, x):
        return self.stage(x) + 1


class LayerPlusOne(ConvDropoutNormReLU):
    def forward(self, x):
        return super().forward(x) + 1


class WalksTwice(GSPConvBlock):
    """A subclass that says in a walk what it does, which every engine follows."""

    def walk(self, x, engine):
        for layer, shift in [*zip(self.convs, self.shifts, strict=True)] * 2:
            x = engine.convolve(x, layer, shift)
        return x


def image():
    return torch.randn(1, 2, *PATCH)


def with_class(module, kind):
    module.__class__ = kind


def with_own_forward(module):
    module.forward = lambda x, usual=module.forward: usual(x)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda network: None, None),
        (lambda network: with_class(network.encoder.stages[1], WalksTwice), None),
        (lambda network: with_class(network.encoder.stages[1], Doubled), "Doubled"),
        (lambda network: with_own_forward(network.decoder.stages[0]), "GSPConvBlock"),
        (lambda network: with_own_forward(network.decoder), "GSPDecoder"),
        (lambda network: with_class(network.encoder.stages[2].convs[1], LayerPlusOne), "LayerPlusOne"),
        (lambda network: with_own_forward(network.decoder.stages[0].convs[0]), "ConvDropoutNormReLU"),
        (lambda network: with_class(network.decoder.upsamplings[1].convolution, LayerPlusOne), "LayerPlusOne"),
        (lambda network: setattr(network, "encoder", nn.Identity()), "Identity"),
    ],
)
def test_code_that_a_walk_would_pass_by_is_named_wherever_it_is(change, name):
    network = small_network()
    change(network)
    assert next(filter(None, map(own_code, network.parts())), None) == name


def test_called_by_itself_a_part_walks_with_the_plain_engine():
    class Both(Part):
        def walk(self, maps, engine):
            assert engine is PLAIN
            return [each + 1 for each in maps]

    assert [each.item() for each in Both()([torch.tensor(1), torch.tensor(2)])] == [2, 3]


def test_a_subclass_of_a_part_counts_compiled_and_not():
    torch._dynamo.reset()
    network, x = small_network().train(), image()
    usual = network(x)
    network.decoder.stages[-1].__class__ = Doubled
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    assert_close(network(x), network.decoder(network.encoder(x)))
    assert_close(compiled(x), network(x))
    assert (network(x) - usual).abs().max() > 0.1 * usual.abs().max()


def test_a_part_of_ones_own_is_called_in_a_training_step():
    network, x = small_network().train(), image()
    network.decoder.stages[-1] = StagePlusOne(network.decoder.stages[-1])
    assert_close(network(x), network.decoder(network.encoder(x)))
    assert computed_by(network, x).obstacle == "checkpointed: a forward of its own in StagePlusOne"
