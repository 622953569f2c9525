"""Does somebody look at PyTorch's own operators as they run?"""
import torch
from torch.autograd import forward_ad


def is_watched() -> bool:
    """Tell whether operators are traced, counted, transformed or differentiated forward: then a fast way is no way."""
    try:
        return bool(torch.jit.is_tracing() or torch._C._len_torch_dispatch_stack() > 0
                    or torch._C._len_torch_function_stack() > 0
                    or torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0)
    except AttributeError:  # a torch without one of these names, which it never promised, is not to break anything
        return True
