"""Does somebody write down which operators run, instead of running them?"""
import torch


def is_recording() -> bool:
    """Tell whether `torch.jit.trace`, `torch.export` or an ONNX exporter reads what runs.

    A recording is for other batches and other programs, so it should have few operators that all of them know. A strict
    export is taken for compiling: `torch.compiler.is_exporting` says of both that it is one, or of neither, with some
    versions of torch.
    """
    return torch.jit.is_tracing() or (torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling())
