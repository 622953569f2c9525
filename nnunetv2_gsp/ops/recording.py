"""Does somebody write down which operators run, or look at each of them?"""
import torch
from torch.autograd import forward_ad


def is_recording() -> bool:
    """Tell whether `torch.jit.trace`, `torch.export` or an ONNX exporter reads what runs.

    A recording is for other batches and other programs, so it should have few operators that all of them know.
    """
    return torch.jit.is_tracing() or _is_exporting()


def is_watched() -> bool:
    """Tell whether operators are recorded, counted, transformed or differentiated forward: no fast way then."""
    try:
        return bool(is_recording() or torch._C._len_torch_dispatch_stack() > 0
                    or torch._C._len_torch_function_stack() > 0
                    or torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0)
    except AttributeError:  # a torch without one of these names, which it never promised, is not to break anything
        return True


def _is_exporting_in_old_torch() -> bool:
    """Tell whether something else than Dynamo records; a strict export in these versions looks like compiling."""
    return torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling()


_is_exporting = getattr(torch.compiler, "is_exporting", _is_exporting_in_old_torch)
