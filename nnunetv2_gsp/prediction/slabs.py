"""Logits of a case come in slabs, from the first slice to the last, so that not all of them have to be in memory."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Slab:
    """Logits of some slices, which begin with the last slice of the slab before, as labels lie between slices.

    Attributes:
        first: index of the first slice.
        logits: logits (classes, slices, H, W); they may be overwritten when the next slab is asked for.
    """

    first: int
    logits: Tensor


@dataclass(frozen=True)
class Logits:
    """Logits of a case at the network's resolution, in the network's order of axes.

    Attributes:
        shape: shape (classes, D, H, W) of all of them.
        slabs: slabs of them in order; they may be computed when they are asked for, and once only.
    """

    shape: tuple[int, ...]
    slabs: Iterable[Slab]

    def whole(self) -> Tensor:
        """Return all of them, (classes, D, H, W).

        Examples:
            >>> import torch
            >>> logits = torch.arange(6.0).view(1, 3, 1, 2)
            >>> slabs = [Slab(0, logits[:, :2]), Slab(1, logits[:, 1:])]
            >>> torch.equal(Logits((1, 3, 1, 2), slabs).whole(), logits)
            True
        """
        whole = None
        for slab in self.slabs:
            if slab.logits.shape == self.shape:
                return slab.logits
            if whole is None:
                whole = slab.logits.new_empty(self.shape)
            whole[:, slab.first : slab.first + slab.logits.shape[1]] = slab.logits
        assert whole is not None
        return whole


def in_one_slab(logits: Tensor) -> Logits:
    """Return logits (classes, D, H, W) that are all in memory.

    Examples:
        >>> import torch
        >>> in_one_slab(torch.zeros(2, 3, 4, 5)).shape
        (2, 3, 4, 5)
    """
    return Logits(tuple(logits.shape), [Slab(0, logits)])
