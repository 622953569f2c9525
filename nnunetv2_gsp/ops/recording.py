"""Detects tools that record operators, or intercept operators or modules."""

import torch
from torch import nn
from torch.autograd import forward_ad

_KINDS_OF_HOOKS = ("forward", "forward_pre", "backward", "backward_pre")


def is_recording() -> bool:
    """Tell whether `torch.jit.trace`, `torch.export` or an ONNX exporter records the operators that run.

    A recording is for other batch sizes and other programs, so it should consist of few operators that all of them
    know. A strict export counts as compiling: in some versions of torch `torch.compiler.is_exporting` does not tell the
    two apart.

    Example:
        >>> is_recording()
        False
    """
    return torch.jit.is_tracing() or (torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling())


def is_transformed() -> bool:
    """Tell whether `torch.func` transforms the code that runs, or forward-mode derivatives are computed.

    Example:
        >>> is_transformed(), torch.func.vmap(lambda x: x + is_transformed())(torch.zeros(1))
        (False, tensor([1.]))
    """
    try:
        return torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0
    except AttributeError:  # these names are private to torch: without one of them, the slow way is still right
        return True


def is_watched() -> bool:
    """Tell whether operators are recorded, counted or transformed, so that no shortcut is safe.

    Example:
        >>> from torch.utils.flop_counter import FlopCounterMode
        >>> with FlopCounterMode(display=False):
        ...     print(is_watched())
        True
    """
    try:
        return (
            is_recording()
            or is_transformed()
            or torch._C._len_torch_dispatch_stack() > 0
            or torch._C._len_torch_function_stack() > 0
        )
    except AttributeError:  # as above
        return True


def has_hooks(module: nn.Module) -> bool:
    """Tell whether hooks are registered on the module that see each of its calls.

    Example:
        >>> layer = nn.ReLU()
        >>> hook = layer.register_forward_hook(lambda *_: None)
        >>> has_hooks(layer), has_hooks(nn.ReLU())
        (True, False)
    """
    # one by one, for this is asked of every module in every call
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def has_hooks_of_all_modules() -> bool:
    """Tell whether hooks are registered that see the calls of every module.

    Example:
        >>> with nn.modules.module.register_module_forward_hook(lambda *_: None):
        ...     print(has_hooks_of_all_modules())
        True
    """
    return any(getattr(nn.modules.module, f"_global_{kind}_hooks", True) for kind in _KINDS_OF_HOOKS)


def is_intercepted(module: nn.Module) -> bool:
    """Tell whether a call of the module runs more, or other code, than the `forward` of its class.

    Example:
        >>> layer = nn.ReLU()
        >>> layer.forward = lambda x: x
        >>> is_intercepted(layer), is_intercepted(nn.ReLU())
        (True, False)
    """
    return "forward" in vars(module) or has_hooks(module) or has_hooks_of_all_modules()
