"""The terms in which a network walks through itself, whatever computes it."""

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from torch import Tensor, nn

Map = TypeVar("Map")


class NotApplicable(Exception):  # noqa: N818 (an answer, not a mistake: another engine takes over)
    """An engine does not know something of a network or a call; says what."""


class NotMeant(NotApplicable):
    """A call is not of the kind that an engine is made for, which is nothing to be told about."""


class Engine(ABC, Generic[Map]):
    """A way to compute a network. `Map` is a feature map together with what is still pending on it.

    What may be pending is the engine's own affair: norm, nonlinearity, shift, pooling and interpolation can be done at
    once, when the next convolution reads the map, or when its gradient is due.
    """

    @abstractmethod
    def begin(self, image: Tensor) -> Map:
        """Take the image, (N, C, *patch)."""

    def through(self, part: Any, maps: Any) -> Any:
        """Walk through a part of the network (`Part`), which takes and returns maps, or lists of maps."""
        return part.walk(maps, self)

    @abstractmethod
    def convolve(self, x: Map, layer: ConvDropoutNormReLU, shift: nn.Module) -> Map:
        """Convolve, with the dropout, norm and nonlinearity of the layer, and shift the result."""

    @abstractmethod
    def pool(self, x: Map, pool: nn.Module) -> Map:
        """Apply max-pooling, or the identity in its place."""

    @abstractmethod
    def interpolate(self, x: Map, interpolation: nn.Module, shift: nn.Module) -> Map:
        """Interpolate to the next higher resolution, and shift there."""

    @abstractmethod
    def join(self, x: Map, skip: Map) -> Map:
        """Concatenate the channels of two maps of one size."""

    @abstractmethod
    def finish(self, x: Map) -> Map:
        """Say that more than one will read the map."""

    @abstractmethod
    def head(self, x: Map, convolution: nn.Module) -> Map:
        """Convolve to logits."""

    @abstractmethod
    def end(self, logits: Any) -> Tensor | list[Tensor]:
        """Return what the decoder came to, logits of one resolution or a list of them, as tensors."""
