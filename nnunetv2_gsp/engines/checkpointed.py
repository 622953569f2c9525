"""The engine of training steps: recomputes in the backward pass what is cheap, instead of keeping it in memory.

Norm, nonlinearity, shift, pooling, interpolation and concatenation cost little compared with the memory of their
outputs. Of each layer only the convolution's output is kept; its input is recomputed when its gradient is due. Modules
that a second call would change run once (`has_state`), and their output is kept instead.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.checkpoint import checkpoint

from nnunetv2_gsp.engines.engine import Engine, NotApplicable, NotMeant
from nnunetv2_gsp.engines.part import own_code
from nnunetv2_gsp.engines.plain import then_shift
from nnunetv2_gsp.ops.recording import has_hooks, has_hooks_of_all_modules, is_recording, is_transformed

# libraries whose modules keep no state but buffers; a module from elsewhere may keep anything
_CODE_WITHOUT_STATE = ("torch.nn.modules.", "nnunetv2_gsp.")
_RANDOM = (_DropoutNd, nn.RReLU)


class Kept(NamedTuple):
    """A feature map as the tensors that are kept for it, and the function that computes it from them.

    Examples:
        >>> Kept((torch.tensor([-1.0, 2.0]),)).then(torch.relu).now()
        tensor([0., 2.])
    """

    tensors: tuple[Tensor, ...]
    compute: Callable[..., Tensor] | None = None  # None: the one tensor is the map itself

    def now(self) -> Tensor:
        """Return the map, (N, C, *spatial)."""
        return self.tensors[0] if self.compute is None else self.compute(*self.tensors)

    def then(self, function: Callable[[Tensor], Tensor]) -> "Kept":
        """Return `function` of this map as a map that is still to be computed."""
        return Kept(self.tensors, function if self.compute is None else partial(_composed, function, self.compute))


class Checkpointed(Engine[Kept]):
    """Keeps each convolution's output; everything between two convolutions is pending until the second reads it."""

    def begin(self, image: Tensor) -> Kept:
        """Keep the image, (N, C, *patch)."""
        return Kept((image,))

    def convolve(self, x: Kept, layer: ConvDropoutNormReLU, shift: nn.Module) -> Kept:
        """Convolve, run what has to run once, and leave the rest of the layer and the shift pending."""
        return Kept((_run_once(layer)(_recomputed(x, layer.conv)),), partial(after_convolution, layer, shift))

    def pool(self, x: Kept, pool: nn.Module) -> Kept:
        """Leave the pooling pending."""
        return x if isinstance(pool, nn.Identity) else x.then(pool)

    def interpolate(self, x: Kept, interpolation: nn.Module, shift: nn.Module) -> Kept:
        """Leave interpolation and shift pending."""
        return x.then(partial(_composed, shift, interpolation))

    def join(self, x: Kept, skip: Kept) -> Kept:
        """Leave the concatenation pending."""
        return Kept((*x.tensors, *skip.tensors), partial(_joined, x.compute, skip.compute, len(x.tensors)))

    def finish(self, x: Kept) -> Kept:
        """Compute the pending map, as two readers would compute it twice."""
        return Kept((x.now(),))

    def head(self, x: Kept, convolution: nn.Module) -> Kept:
        """Convolve to logits."""
        return Kept((_recomputed(x, convolution),))

    def end(self, logits: Any) -> Tensor | list[Tensor]:
        """Return the logits as tensors."""
        return [each.now() for each in logits] if isinstance(logits, list) else logits.now()


CHECKPOINTED = Checkpointed()


def checkpointed(network: Any, image: Tensor) -> Checkpointed:
    """Return the engine for a call of `network`.

    Args:
        network: network to compute, a `Part`.
        image: input of the network, (N, C, *patch).

    Raises:
        NotMeant: no backward pass will follow, hooks see all modules, or `torch.func` transforms the call.
        NotApplicable: somebody wants to see each module run once, or parts have a `forward` of their own.
    """
    if not is_training_step(network) or is_transformed():
        raise NotMeant("it is no training step")
    if has_hooks_of_all_modules():
        raise NotMeant("hooks of all modules see each of them run once")
    reason = _obstacle(network)
    if reason is not None:
        raise NotApplicable(reason)
    return CHECKPOINTED


def traced_checkpointed(network: Any, image: Tensor) -> Checkpointed | None:
    """Return the engine for a call that the compiler traces, or None where another has to compute it.

    Args:
        network: network to compute, a `Part`.
        image: input of the network, (N, C, *patch).
    """
    return CHECKPOINTED if is_training_step(network) and _obstacle(network) is None else None


def _obstacle(network: Any) -> str | None:
    for module in network.modules():
        if module is not network and has_hooks(module):  # its own see one call, whoever computes it
            return "hooks of modules see each of them run once"
    for part in network.parts():
        name = own_code(part)
        if name is not None:
            return f"a forward of its own in {name}"
    return None


def is_training_step(network: nn.Module) -> bool:
    """Tell whether a backward pass will follow.

    Examples:
        >>> is_training_step(nn.ReLU()), is_training_step(nn.ReLU().eval())
        (True, False)
    """
    return network.training and torch.is_grad_enabled() and not is_recording()


def has_state(module: nn.Module) -> bool:
    """Tell whether a second call of a module may give another result than the first, or have further side effects.

    So it is if the module has buffers (BatchNorm), draws random numbers, which not every device can repeat (mps), or
    comes from a library whose code is not known here (parametrizations, norms of other libraries).

    Examples:
        >>> has_state(nn.BatchNorm3d(8)), has_state(nn.Dropout()), has_state(nn.InstanceNorm3d(8))
        (True, True, False)
    """
    return len(list(module.buffers())) > 0 or any(
        isinstance(part, _RANDOM) or not type(part).__module__.startswith(_CODE_WITHOUT_STATE)
        for part in module.modules()
    )


def after_convolution(layer: Any, shift: nn.Module, y: Tensor) -> Tensor:
    """Compute the modules of a ConvDropoutNormReLU behind its convolution and every module with state, then the shift.

    Args:
        layer: convolution layer, a ConvDropoutNormReLU.
        shift: module behind the layer, a shift or the identity.
        y: (N, C, *spatial), output of the last module that runs once; it is not changed.

    Returns:
        The shifted map (N, C, *spatial).
    """
    modules = layer.all_modules[_n_run_once(layer) :]
    if list(modules[:1]) != [getattr(layer, "norm", None)]:
        y = y.clone()  # dropout or a nonlinearity in place would overwrite the kept map; a norm makes a new one
    return then_shift(modules, shift, y)


def _recomputed(x: Kept, convolution: nn.Module) -> Tensor:
    """Convolve a map, and keep only its tensors for the backward pass; the convolution itself runs once.

    In eager mode the convolution has to be inside, or it would keep the map; recomputing stops in front of it, but
    behind its weight where that is computed first (spectral norm), and on a GPU behind it: cheap beside what a gradient
    in pieces saves. The compiler does not stop there, and recomputes for convolutions outside as well.
    """
    if x.compute is None:
        return convolution(x.now())  # type: ignore[no-any-return]
    # nothing in here draws random numbers
    recompute = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
    if torch.compiler.is_compiling() or has_state(convolution):
        return convolution(recompute(x.compute, *x.tensors))  # type: ignore[no-any-return]
    return recompute(partial(_composed, convolution, x.compute), *x.tensors)  # type: ignore[no-any-return]


def _run_once(layer: Any) -> nn.Sequential:
    """Return the modules of a ConvDropoutNormReLU behind its convolution, up to the last one with state."""
    return layer.all_modules[1 : _n_run_once(layer)]  # type: ignore[no-any-return]


def _n_run_once(layer: Any) -> int:
    # the convolution comes first; a list, since not every compiler takes a generator's largest
    return max([1, *[number for number, module in enumerate(layer.all_modules, 1) if has_state(module)]])


def _composed(outer: Callable[[Tensor], Tensor], inner: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    return outer(inner(*tensors))


def _joined(
    x: Callable[..., Tensor] | None, skip: Callable[..., Tensor] | None, n_of_x: int, *tensors: Tensor
) -> Tensor:
    return torch.cat((Kept(tensors[:n_of_x], x).now(), Kept(tensors[n_of_x:], skip).now()), dim=1)
