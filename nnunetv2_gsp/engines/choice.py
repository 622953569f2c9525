"""Chooses the engine of a call: by itself, or as NNUNETV2_GSP_ENGINE says."""

import logging
import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nnunetv2_gsp.engines.checkpointed import CHECKPOINTED, checkpointed, is_training_step
from nnunetv2_gsp.engines.engine import Engine, NotApplicable, NotMeant
from nnunetv2_gsp.engines.fused import fused
from nnunetv2_gsp.engines.plain import PLAIN
from nnunetv2_gsp.ops.recording import has_hooks

VARIABLE = "NNUNETV2_GSP_ENGINE"
AUTO = "auto"
_log = logging.getLogger(__name__)

# name -> returns the engine for a call of a network, or raises NotApplicable; auto tries them in this order
_OPENERS: dict[str, Callable[[Any, Tensor], Engine[Any]]] = {
    "fused": fused,
    "checkpointed": checkpointed,
    "plain": lambda *_: PLAIN,
}
ENGINES = (*_OPENERS, AUTO)


class Choice(NamedTuple):
    """The engine that ran, and why one that is made for such a call did not."""

    engine: str
    reason: str | None


def wished_engine() -> str:
    """Return the engine that NNUNETV2_GSP_ENGINE asks for: one of `ENGINES`, auto if it is not set.

    Raises:
        ValueError: it names none of them.
    """
    wish = os.environ.get(VARIABLE) or AUTO
    if wish not in ENGINES:
        raise ValueError(
            f"Expected {VARIABLE} to be one of {', '.join(ENGINES)}, got {wish!r}; export another, or unset it."
        )
    return wish


def compute(network: Any, image: Tensor) -> Tensor | list[Tensor]:
    """Walk through a network with the engine that it asks for, or with the first one that applies.

    Args:
        network: network to compute, a `Part`; its attribute `engine` is one of `ENGINES`.
        image: input of the network, (N, C, *patch).

    Returns:
        Logits (N, classes, *patch); with deep supervision a list of them, the full resolution first.

    Raises:
        RuntimeError: the engine that is asked for does not apply; the message says why.
    """
    if torch.compiler.is_compiling():
        return _walk(network, image, _traceable(network))  # type: ignore[no-any-return]
    logits, choice = _computed(network, image)
    if choice.reason is not None:
        _say_once(choice)
    return logits


def explain(network: Any, image: Tensor) -> Choice:
    """Compute, and say which engine did it."""
    return _computed(network, image)[1]


def _computed(network: Any, image: Tensor) -> tuple[Tensor | list[Tensor], Choice]:
    reason = None
    for name in _OPENERS if network.engine == AUTO else [network.engine]:
        try:
            return _walk(network, image, _OPENERS[name](network, image)), Choice(name, reason)
        except NotApplicable as obstacle:
            if network.engine != AUTO:
                raise RuntimeError(
                    f"The engine {name}, which {VARIABLE} or `network.engine` asks for, does not apply "
                    f"to this call: {obstacle}. Ask for plain or {AUTO}."
                ) from obstacle
            if not isinstance(obstacle, NotMeant):
                reason = f"{name} does not apply: {obstacle}"
    raise AssertionError("plain applies to every call")


def _traceable(network: Any) -> Engine[Any]:
    """Return the engine of a call under the compiler, where nothing can be tried and nothing logged."""
    if (
        network.engine in (AUTO, "checkpointed")
        and is_training_step(network)
        and not any(map(has_hooks, network.modules()))
    ):
        return CHECKPOINTED
    return PLAIN


def _walk(network: Any, image: Tensor, engine: Engine[Any]) -> Any:
    return engine.end(network.walk(engine.begin(image), engine))


@lru_cache(maxsize=100)
def _say_once(choice: Choice) -> None:
    _log.warning(
        "GSP network: %s; the %s engine computes instead, slower or with more memory.", choice.reason, choice.engine
    )
