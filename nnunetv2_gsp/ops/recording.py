"""Does somebody write down which operators run, instead of running them?"""
import torch


def is_recording() -> bool:
    """Tell whether `torch.jit.trace`, `torch.export` or an ONNX exporter reads what runs.

    A recording is for other batches and other programs, so it should have few operators that all of them know.
    """
    return torch.jit.is_tracing() or _is_exporting()


def _is_exporting_in_old_torch() -> bool:
    """Tell whether something else than Dynamo records; a strict export in these versions looks like compiling."""
    return torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling()


_is_exporting = getattr(torch.compiler, "is_exporting", _is_exporting_in_old_torch)
