"""Tells whether somebody writes down which operators or modules run, or looks at each of them."""
import torch
from torch import nn
from torch.autograd import forward_ad


def is_recording() -> bool:
    """Tell whether `torch.jit.trace`, `torch.export` or an ONNX exporter reads what runs.

    A recording is for other batches and other programs, so it should have few operators that all of them know. A strict
    export is taken for compiling: `torch.compiler.is_exporting` says of both that it is one, or of neither, with some
    versions of torch.
    """
    return torch.jit.is_tracing() or (torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling())


def is_transformed() -> bool:
    """Tell whether `torch.func` transforms what runs, or it is differentiated forward."""
    try:
        return torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0
    except AttributeError:  # a torch without one of these names, which it never promised, is not to break anything
        return True


def is_watched() -> bool:
    """Tell whether operators are recorded, counted or transformed: no fast way then."""
    try:
        return (is_recording() or is_transformed() or torch._C._len_torch_dispatch_stack() > 0
                or torch._C._len_torch_function_stack() > 0)
    except AttributeError:  # as above
        return True


def has_hooks(module: nn.Module) -> bool:
    """Tell whether somebody wants to see each call of the module."""
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
                or module._backward_pre_hooks)


def has_hooks_of_all_modules() -> bool:
    """Tell whether somebody wants to see each call of every module there is."""
    hooks = nn.modules.module
    return bool(getattr(hooks, "_global_forward_hooks", True) or getattr(hooks, "_global_forward_pre_hooks", True))
