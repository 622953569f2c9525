"""The interface between the walk through a network and the engines that compute it."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from torch import Tensor, nn

Map = TypeVar("Map")


class NotApplicable(Exception):  # noqa: N818 (an answer, not a mistake: another engine takes over)
    """An engine does not know something of a network or a call.

    Attributes:
        level: level of `logging` at which the reason is reported to users who did not ask for the engine.
    """

    def __init__(self, reason: str, level: int = logging.WARNING):
        super().__init__(reason)
        self.level = level


class NotMeant(NotApplicable):
    """A call is not of the kind that an engine is made for, which nobody needs to be told."""


class Engine(ABC, Generic[Map]):
    """A way to compute a network. `Map` is a feature map with the operations that are still pending on it.

    Each engine decides when to compute norm, nonlinearity, shift, pooling and interpolation: at once, when the next
    convolution reads the map, or when its gradient is due.
    """

    @abstractmethod
    def begin(self, image: Tensor) -> Map:
        """Take the image, (N, C, *patch)."""

    def through(self, part: Any, maps: Any) -> Any:
        """Walk through a part of the network (`Part`), which takes and returns maps, or lists of maps."""
        return part.walk(maps, self)

    @abstractmethod
    def convolve(self, x: Map, layer: ConvDropoutNormReLU, shift: nn.Module) -> Map:
        """Apply the layer (convolution, dropout, norm and nonlinearity), and shift the result."""

    @abstractmethod
    def pool(self, x: Map, pool: nn.Module) -> Map:
        """Apply max-pooling, or the identity in its place."""

    @abstractmethod
    def interpolate(self, x: Map, interpolation: nn.Module, shift: nn.Module) -> Map:
        """Interpolate to the next higher resolution, and shift the result."""

    @abstractmethod
    def join(self, x: Map, skip: Map) -> Map:
        """Concatenate the channels of two maps of one size."""

    @abstractmethod
    def finish(self, x: Map) -> Map:
        """Announce that more than one operation will read the map."""

    @abstractmethod
    def head(self, x: Map, convolution: nn.Module) -> Map:
        """Convolve to logits."""

    @abstractmethod
    def end(self, logits: Any) -> Tensor | list[Tensor]:
        """Return the decoder's logits, of one resolution or a list of several, as tensors."""

    def add(self, logits: Any, weights: Tensor, sums: Tensor, mirrored: Sequence[int]) -> None:
        """Add weights · logits to `sums`, which an engine may do without all logits in memory.

        Args:
            logits: the decoder's logits of one image and of one resolution.
            weights: weights (*patch) of the voxels.
            sums: sums (classes, *patch).
            mirrored: spatial axes, from 0 on, along which the logits are mirrored before.
        """
        [of_image] = self.end(logits)
        add_weighted(of_image, weights, sums, mirrored)


def add_weighted(logits: Tensor, weights: Tensor, sums: Tensor, mirrored: Sequence[int]) -> None:
    """Add weights · logits to `sums`, logits (classes, *patch), the rest as `Engine.add` has it."""
    sums.addcmul_(logits.flip([axis + 1 for axis in mirrored]) if mirrored else logits, weights)
