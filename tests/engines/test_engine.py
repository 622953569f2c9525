"""What an engine may rely on: the walk takes any kind of map, asks for these operations alone, and says what is reread.

The engine here only follows shapes. Of a map that two operations read it has to have been told.
"""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from nnunetv2_gsp.engines.engine import Engine
from tests.architectures.networks import gsp_unet, isotropic


@dataclass(eq=False)
class Shape:
    """A map without values: shape (N, C, *spatial), how often it was read, whether it was announced as finished."""

    sizes: tuple
    n_reads: int = 0
    is_finished: bool = False


class Shapes(Engine[Shape]):
    def __init__(self):
        self.maps = []

    def _new(self, batch, channels, *spatial):
        self.maps.append(Shape((batch, channels, *spatial)))
        return self.maps[-1]

    def _read(self, x):
        x.n_reads += 1
        return x.sizes

    def begin(self, image):
        return self._new(*image.shape)

    def convolve(self, x, layer, shift):
        batch, channels, *spatial = self._read(x)
        assert channels == layer.conv.in_channels
        return self._new(batch, layer.conv.out_channels, *spatial)

    def pool(self, x, pool):
        if isinstance(pool, nn.Identity):
            return x
        batch, channels, *spatial = self._read(x)
        return self._new(batch, channels, *(size // step for size, step in zip(spatial, pool.stride, strict=True)))

    def interpolate(self, x, interpolation, shift):
        batch, channels, *spatial = self._read(x)
        factors = interpolation.scale_factor
        return self._new(batch, channels, *(int(size * step) for size, step in zip(spatial, factors, strict=True)))

    def join(self, x, skip):
        (batch, channels, *spatial), (_, more, *skip_spatial) = self._read(x), self._read(skip)
        assert spatial == skip_spatial
        return self._new(batch, channels + more, *spatial)

    def finish(self, x):
        x.is_finished = True
        return x

    def head(self, x, convolution):
        batch, channels, *spatial = self._read(x)
        assert channels == convolution.in_channels
        return self._new(batch, convolution.out_channels, *spatial)

    def end(self, logits):
        return [each.sizes for each in logits] if isinstance(logits, list) else logits.sizes


@pytest.fixture(params=[True, False], ids=["deep supervision", "one resolution"])
def network(request):
    strides = [(1, 1, 1), (1, 2, 2), (2, 2, 2)]
    return gsp_unet((4, 16, 8), (8, 12, 16), strides, shift_position="CSCSUpShift", deep_supervision=request.param)


def test_a_network_walks_over_any_kind_of_map(network):
    image, engine = torch.zeros(2, 2, 4, 16, 8), Shapes()
    logits = network(image)
    expected = [tuple(each.shape) for each in logits] if isinstance(logits, list) else tuple(logits.shape)
    assert engine.end(network.walk(engine.begin(image), engine)) == expected


def test_a_map_that_two_operations_read_was_announced(network):
    engine = Shapes()
    network.walk(engine.begin(torch.zeros(1, 2, 4, 16, 8)), engine)
    reread = [each for each in engine.maps if each.n_reads > 1]
    # the skips of two stages, and with deep supervision what a head reads before the next stage does
    assert len(reread) == (3 if network.decoder.deep_supervision else 2)
    assert all(each.is_finished for each in reread)


def test_each_part_is_walked_through_by_way_of_the_engine():
    """So that an engine can do something around a part, as one that computes it again does."""
    network, seen = gsp_unet((8, 8), (8, 8, 8), isotropic(3, dim=2)), []

    class Noting(Shapes):
        def through(self, part, maps):
            seen.append(part)
            return super().through(part, maps)

    def parts_below(part):
        for inner in part.parts():
            yield from (inner, *parts_below(inner))

    engine = Noting()
    network.walk(engine.begin(torch.zeros(1, 2, 8, 8)), engine)
    assert len(seen) == len(set(seen)) == 2 + 3 + 2 * 2
    assert set(seen) == set(parts_below(network))
