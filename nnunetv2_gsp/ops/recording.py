"""Does somebody write down which operators run, or look at each of them?"""
import torch
from torch.autograd import forward_ad


def is_recording() -> bool:
    """Tell whether `torch.jit.trace`, `torch.export` or an ONNX exporter reads what runs.

    A recording is for other batches and other programs, so it should have few operators that all of them know. A strict
    export is taken for compiling: `torch.compiler.is_exporting` says of both that it is one, or of neither, with some
    versions of torch.
    """
    return torch.jit.is_tracing() or (torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling())


def is_watched() -> bool:
    """Tell whether operators are recorded, counted, transformed or differentiated forward: no fast way then."""
    try:
        return bool(is_recording() or torch._C._len_torch_dispatch_stack() > 0
                    or torch._C._len_torch_function_stack() > 0
                    or torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0)
    except AttributeError:  # a torch without one of these names, which it never promised, is not to break anything
        return True
