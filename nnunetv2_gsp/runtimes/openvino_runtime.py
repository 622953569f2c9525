"""Writes a network for OpenVINO, and runs it there."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nnunetv2_gsp.runtimes.parity import Predict

PACKAGES = ("onnx", "openvino")
ENDINGS = (".xml", ".bin")  # of the files that `write` makes


def write(onnx_file: Path, file: Path, notes: Mapping[str, str]) -> None:
    """Write a traced network as an .xml and, beside it, a .bin with its weights in fp32.

    Args:
        onnx_file: file that `onnx_runtime.trace` wrote.
        file: .xml to write.
        notes: name -> text, what the metadata shall hold, under nnunetv2_gsp.
    """
    import openvino

    model = openvino.Core().read_model(onnx_file)  # convert_model would tell its makers that it was called
    for name, text in notes.items():
        model.set_rt_info(text, ["nnunetv2_gsp", name])
    openvino.save_model(model, file, compress_to_fp16=False)


def load(file: Path) -> Predict:
    """Return a function that maps patches (N, C, *patch) float32 to logits (N, outputs, *patch), computed in fp32."""
    import openvino

    # by itself it computes in bf16 where the CPU can
    compiled = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def predict(patches: np.ndarray) -> np.ndarray:
        logits: np.ndarray = compiled(patches)[0]
        return logits

    return predict
