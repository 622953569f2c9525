"""Writes a network as ONNX, and runs it with ONNX Runtime."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from nnunetv2_gsp.runtimes.parity import Predict

PACKAGES = ("onnx", "onnxruntime")
ENDINGS = (".onnx",)  # of the files that `write` makes
OPSET = 18
IMAGE, LOGITS = "image", "logits"


def trace(network: nn.Module, image_shape: Sequence[int], file: Path) -> None:
    """Write a network as ONNX, for any batch and one size of patch.

    Args:
        network: network on the CPU, in evaluation mode.
        image_shape: (C, *patch), channels and voxels of its input.
        file: file to write.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns of each size that it takes as fixed, which is meant
        torch.onnx.export(
            network,
            (torch.zeros(1, *image_shape),),
            str(file),
            input_names=[IMAGE],
            output_names=[LOGITS],
            opset_version=OPSET,
            dynamic_axes={IMAGE: {0: "batch"}, LOGITS: {0: "batch"}},
            # the exporter that all supported versions have: torch 2.5's newer one fails at a product for any batch
            dynamo=False,
            # or it would compute the row numbers of shifts, and store them all
            do_constant_folding=False,
        )


def write(onnx_file: Path, file: Path, notes: Mapping[str, str]) -> None:
    """Write a traced network with notes in its metadata, its weights inside.

    Args:
        onnx_file: file that `trace` wrote.
        file: file to write.
        notes: name -> text, what the metadata shall hold.
    """
    import onnx

    model = onnx.load(onnx_file)
    for node in model.graph.node:
        node.ClearField("doc_string")  # paths of this machine
    onnx.helper.set_model_props(model, dict(notes))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, file)


def load(file: Path) -> Predict:
    """Return a function that maps patches (N, C, *patch) float32 to logits (N, outputs, *patch)."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def predict(patches: np.ndarray) -> np.ndarray:
        logits: np.ndarray = session.run([LOGITS], {IMAGE: patches})[0]
        return logits

    return predict
