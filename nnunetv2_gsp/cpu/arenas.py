"""Memory that a network's calls use one after the other: fresh memory costs more time than a small patch."""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn


def _plain_memory(floats: int) -> Tensor:
    return torch.empty(floats, dtype=torch.float32)


class Arenas:
    """Keeps at most one piece of idle memory for each network.

    Examples:
        >>> arenas, network = Arenas(), nn.ReLU()
        >>> memory = arenas.take(network, floats=100)
        >>> arenas.give_back(network, memory)
        >>> arenas.take(network, floats=50) is memory, arenas.take(network, floats=50).numel()
        (True, 50)
    """

    def __init__(self) -> None:
        self._idle: WeakKeyDictionary[nn.Module, deque[Tensor]] = WeakKeyDictionary()

    def take(self, network: nn.Module, floats: int, new_memory: Callable[[int], Tensor] = _plain_memory) -> Tensor:
        """Return uninitialised memory that is this call's alone until it gives it back.

        Args:
            network: network that is called; its next call gets the same memory.
            floats: smallest number of fp32 values that the memory has to hold.
            new_memory: allocates that many where no idle memory is large enough.
        """
        arena = torch.empty(0)
        with suppress(IndexError):  # of two threads one finds nothing
            arena = self.idle(network).pop()
        if arena.numel() < floats:
            del arena  # before there is another
            arena = new_memory(floats)
        return arena

    def give_back(self, network: nn.Module, arena: Tensor) -> None:
        """Take back memory that a call of `network` no longer needs."""
        self.idle(network).append(arena)

    def idle(self, network: nn.Module) -> deque[Tensor]:
        """Return the memory that no call of `network` uses, at most one piece."""
        return self._idle.setdefault(network, deque(maxlen=1))
