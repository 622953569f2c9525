"""Chooses the engine of a call: by itself, or as NNUNETV2_GSP_ENGINE says."""

import logging
import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nnunetv2_gsp.engines.checkpointed import checkpointed, traced_checkpointed
from nnunetv2_gsp.engines.engine import Engine, NotApplicable, NotMeant
from nnunetv2_gsp.engines.fused import fused
from nnunetv2_gsp.engines.fused_training import fused_training
from nnunetv2_gsp.engines.plain import PLAIN
from nnunetv2_gsp.engines.triton import triton
from nnunetv2_gsp.errors import InputError, UnavailableError

VARIABLE = "NNUNETV2_GSP_ENGINE"
AUTO = "auto"
_log = logging.getLogger(__name__)


class _Entry(NamedTuple):
    """How an engine is asked for a call.

    Attributes:
        open: returns the engine for a network and an image, or raises NotApplicable.
        traced: returns the engine for a call that the compiler traces, where nothing can be raised and caught, or None;
            without it the engine computes no such call.
        by_itself: whether auto tries it.
    """

    open: Callable[[Any, Tensor], Engine[Any]]
    traced: Callable[[Any, Tensor], Engine[Any] | None] | None = None
    by_itself: bool = True


# in the order in which auto tries them
_ENTRIES = {
    "fused": _Entry(fused),
    "fused_training": _Entry(fused_training),
    "checkpointed": _Entry(checkpointed, traced_checkpointed),
    "plain": _Entry(lambda *_: PLAIN, lambda *_: PLAIN),
    "triton": _Entry(triton, triton, by_itself=False),  # until a GPU has shown it right and faster
}
ENGINES = (*_ENTRIES, AUTO)


class Choice(NamedTuple):
    """The engine that computed a call, and what kept a faster one from it.

    Attributes:
        engine: name of the engine, one of `ENGINES`.
        obstacle: name of a faster engine, and why it does not apply; None if no faster one is meant for such a call.
        level: level of `logging` at which the obstacle is reported.
    """

    engine: str
    obstacle: str | None = None
    level: int = logging.DEBUG


_End = Callable[[Engine[Any], Any], Any]


def _logits_of(engine: Engine[Any], logits: Any) -> Tensor | list[Tensor]:
    return engine.end(logits)


def compute(network: Any, image: Tensor) -> Tensor | list[Tensor]:
    """Walk through a network with the engine that is asked for, or with the first one that applies.

    An engine that is asked for computes all calls of the kind it is meant for, such as predictions; the others are
    computed as if nothing was asked for.

    Args:
        network: network to compute, a `Part`; its attribute `engine` is one of `ENGINES`, or None for what
            NNUNETV2_GSP_ENGINE says.
        image: input of the network, (N, C, *patch).

    Returns:
        Logits (N, classes, *patch); with deep supervision a list of them, the full resolution first.

    Raises:
        UnavailableError: the engine that is asked for is meant for such calls, and does not apply; says why.
        InputError: there is no engine of that name.
    """
    if torch.compiler.is_compiling():
        return _walk(network, image, _traced(network, image))  # type: ignore[no-any-return]
    logits, choice = _computed(network, image)
    _say_once(choice)
    return logits  # type: ignore[no-any-return]


def add_logits(network: Any, image: Tensor, weights: Tensor, sums: Tensor, mirrored: Sequence[int] = ()) -> None:
    """Add weights · logits of an image to sums, with the engine that `compute` would take.

    The fused layers add tile by tile, so there is never memory for the logits.

    Args:
        network: network to compute, as in `compute`, without deep supervision.
        image: input of the network, (1, C, *patch).
        weights: weights (*patch) of the voxels.
        sums: sums (classes, *patch), in any strides.
        mirrored: spatial axes, from 0 on, along which the logits are mirrored before.

    Raises:
        UnavailableError, InputError: as `compute` does.
    """
    _, choice = _computed(network, image, lambda engine, logits: engine.add(logits, weights, sums, mirrored))
    _say_once(choice)


def computed_by(network: Any, image: Tensor) -> Choice:
    """Compute a call as `compute` does, and return which engine did it."""
    return _computed(network, image)[1]


def _computed(network: Any, image: Tensor, end: _End = _logits_of) -> tuple[Any, Choice]:
    wish, obstacle = _wish_for(network), Choice("plain")
    for name in _tried(wish):
        try:
            return _walk(network, image, _ENTRIES[name].open(network, image), end), obstacle._replace(engine=name)
        except NotMeant:
            continue
        except NotApplicable as refusal:
            if name == wish:
                raise UnavailableError(
                    f"a call that the engine {name} computes",
                    str(refusal),
                    remedy=f"ask for plain or {AUTO} ({VARIABLE}, or the network's attribute engine)",
                ) from refusal
            obstacle = Choice(name, f"{name}: {refusal}", refusal.level)
    raise AssertionError("plain computes every call")


def _traced(network: Any, image: Tensor) -> Engine[Any]:
    for name in _tried(_wish_for(network)):
        traced = _ENTRIES[name].traced
        if traced is not None:
            engine = traced(network, image)
            if engine is not None:
                return engine
    return PLAIN


def _tried(wish: str) -> tuple[str, ...]:
    """Return names of engines, the one that is asked for first."""
    names = tuple(name for name, entry in _ENTRIES.items() if entry.by_itself)
    return names if wish == AUTO else (wish, *names)


def _wish_for(network: Any) -> str:
    wish: str = network.engine or wished_engine()
    if wish not in ENGINES:
        raise InputError(
            f"an engine among {', '.join(ENGINES)}", repr(wish), remedy="set the network's attribute engine"
        )
    return wish


def wished_engine() -> str:
    """Return the engine that NNUNETV2_GSP_ENGINE asks for: one of `ENGINES`, auto if it is not set.

    Raises:
        InputError: the variable names another.

    Examples:
        >>> from unittest.mock import patch
        >>> with patch.dict(os.environ, {VARIABLE: "plain"}):
        ...     wished_engine()
        'plain'
    """
    wish = os.environ.get(VARIABLE) or AUTO
    if wish not in ENGINES:
        raise InputError(
            f"{VARIABLE} to be one of {', '.join(ENGINES)}", repr(wish), remedy="export another, or unset it"
        )
    return wish


def _walk(network: Any, image: Tensor, engine: Engine[Any], end: _End = _logits_of) -> Any:
    return end(engine, network.walk(engine.begin(image), engine))


@lru_cache(maxsize=100)
def _say_once(choice: Choice) -> None:
    if choice.obstacle is None:
        return
    _log.log(
        choice.level,
        "GSP networks are computed by the %s engine here, more slowly or with more memory than they could be (%s).",
        choice.engine,
        choice.obstacle,
    )
