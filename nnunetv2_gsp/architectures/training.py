"""The forward pass of a training step: what the backward pass can cheaply compute again is not kept for it.

Norm, nonlinearity, shift, pooling, interpolation and concatenation cost little beside the memory they fill. Of each
layer only the convolution's output is kept; its input is computed again when its gradient is due. What a second call
would change runs once (`has_state`), and its output is what is kept.
"""
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.checkpoint import checkpoint

from nnunetv2_gsp.architectures.blocks import has_hooks, is_transformed, then_shift
from nnunetv2_gsp.ops.recording import is_recording

Prepare = Callable[..., Tensor]

# whose modules keep nothing but buffers; a module from elsewhere may keep anything
_KNOWN_CODE = ("torch.nn.modules.", "nnunetv2_gsp.")
_RANDOM = (_DropoutNd, nn.RReLU)


def is_training_step(network: nn.Module, x: Tensor) -> bool:
    """Tell whether a backward pass will follow, and nobody wants to see each module run once, or transforms them."""
    return (network.training and torch.is_grad_enabled() and not is_recording()
            and not any(map(has_hooks, network.modules()))
            and (torch.compiler.is_compiling() or not any(map(is_transformed, (x, *network.parameters())))))


def has_state(module: nn.Module) -> bool:
    """Tell whether a second call of a module may differ from the first, or leave other traces than one call does.

    It has buffers (BatchNorm), draws random numbers, which not every device can draw again (mps), or is nobody's whose
    code is known here (parametrizations, norms of other libraries).
    """
    return len(list(module.buffers())) > 0 or any(
        isinstance(part, _RANDOM) or not type(part).__module__.startswith(_KNOWN_CODE) for part in module.modules())


def training_forward(network: Any, x: Tensor) -> Tensor | list[Tensor]:
    """Compute what `network.decoder(network.encoder(x))` does, and keep less for the backward pass.

    Args:
        network: a GSPUNet.
        x: (N, C, *patch).

    Returns:
        logits (N, classes, *patch); with deep supervision a list of them, the full resolution first.
    """
    return _decode(network.decoder, _encode(network.encoder, x))


def _encode(encoder: Any, x: Tensor) -> list[Tensor]:
    features = []
    for pool, stage in zip(encoder.pools, encoder.stages, strict=True):
        x = _after_last_convolution(stage, _convolve(stage, pool, x))
        features.append(x)
    return features


def _decode(decoder: Any, skips: list[Tensor]) -> Tensor | list[Tensor]:
    x, logits = skips[-1], []
    stages = zip(decoder.upsamplings, decoder.stages, decoder.seg_layers, skips[-2::-1], strict=True)
    for number, (upsampling, stage, head, skip) in enumerate(stages):
        low = _run_once(upsampling.convolution)(upsampling.convolution.conv(x))
        y = _convolve(stage, partial(_beside_skip, upsampling), low, skip)
        if number == len(decoder.stages) - 1:  # the full resolution
            logits.append(_recomputed(partial(_after_last_convolution, stage), head, y))
        else:
            x = _after_last_convolution(stage, y)
            if decoder.deep_supervision:
                logits.append(head(x))
    return logits[::-1] if decoder.deep_supervision else logits[-1]


def _convolve(block: Any, prepare: Prepare, *inputs: Tensor) -> Tensor:
    """Return what is kept of a block's last layer; `prepare` makes the block's input of `inputs`."""
    for layer, shift in zip(block.convs, block.shifts, strict=True):
        y = _run_once(layer)(_recomputed(prepare, layer.conv, *inputs))
        prepare, inputs = partial(after_convolution, layer, shift), (y,)
    return y


def _recomputed(prepare: Prepare, convolution: nn.Module, *inputs: Tensor) -> Tensor:
    """Convolve what `prepare` makes of `inputs`, and keep `inputs` alone; the convolution itself runs only once.

    In eager mode the convolution has to be inside, or it would keep what `prepare` made; recomputing stops in front of
    it, but behind its weight where that is computed first (spectral norm), and on a GPU behind it: cheap beside what a
    gradient in pieces saves. The compiler does not stop there, and recomputes for convolutions outside as well.
    """
    # nothing in here draws random numbers
    recompute = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
    if torch.compiler.is_compiling() or has_state(convolution):
        return convolution(recompute(prepare, *inputs))
    return recompute(lambda *inputs: convolution(prepare(*inputs)), *inputs)


def _after_last_convolution(block: Any, y: Tensor) -> Tensor:
    return after_convolution(block.convs[-1], block.shifts[-1], y)


def _run_once(layer: Any) -> nn.Sequential:
    """Return what of a ConvDropoutNormReLU comes behind its convolution, up to the last module with state."""
    return layer.all_modules[1:_n_run_once(layer)]


def after_convolution(layer: Any, shift: nn.Module, y: Tensor) -> Tensor:
    """Compute what of a ConvDropoutNormReLU follows its convolution and every module with state, then the shift.

    Args:
        layer: a ConvDropoutNormReLU.
        shift: what comes behind it.
        y: (N, C, *spatial), the output of the last module that runs once; not changed.

    Returns:
        (N, C, *spatial).
    """
    modules = layer.all_modules[_n_run_once(layer):]
    if list(modules[:1]) != [getattr(layer, "norm", None)]:
        y = y.clone()  # dropout or a nonlinearity in place would overwrite what is kept; a norm makes a new map
    return then_shift(modules, shift, y)


def _n_run_once(layer: Any) -> int:
    # the convolution comes first; a list, since not every compiler takes a generator's largest
    return max([1, *[number for number, module in enumerate(layer.all_modules, 1) if has_state(module)]])


def _beside_skip(upsampling: Any, low: Tensor, skip: Tensor) -> Tensor:
    high = upsampling.interpolation(after_convolution(upsampling.convolution, nn.Identity(), low))
    return torch.cat((upsampling.shift(high), skip), dim=1)
