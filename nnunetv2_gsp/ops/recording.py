"""Detection of tools that record operators, or intercept each of them."""
import torch
from torch.autograd import forward_ad


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


def is_watched() -> bool:
    """Tell whether operators are recorded, counted, transformed or differentiated forward, so that no shortcut is safe.

    Example:
        >>> is_watched(), torch.func.vmap(lambda x: x + is_watched())(torch.zeros(1))
        (False, tensor([1.]))
    """
    try:
        return bool(is_recording() or torch._C._len_torch_dispatch_stack() > 0
                    or torch._C._len_torch_function_stack() > 0
                    or torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0)
    except AttributeError:  # these names are private to torch: without one of them, the slow way is still right
        return True
