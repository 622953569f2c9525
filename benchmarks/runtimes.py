"""Which runtime for an exported network? Milliseconds of a patch, and labels that stay those of PyTorch in fp32.

    python -m benchmarks.runtimes MODEL_FOLDER IMAGES -o docs/results

The model is a trained one, whose labels mean something; the images are some of its dataset. Eight-bit numbers are
calibrated on the first half of the images, and all ways are compared on the others, a patch from the middle of each.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import date
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime
import openvino
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from benchmarks.measuring import WrongError, environment, package_version
from benchmarks.page import Row, Table, markdown, measured_on
from nnunetv2_gsp.files import write_text
from nnunetv2_gsp.prediction.cases import cases_in, preprocessed
from nnunetv2_gsp.prediction.model import load_predictor
from nnunetv2_gsp.prediction.sliding_window import Predictor
from nnunetv2_gsp.progress import progress
from nnunetv2_gsp.runtimes.exporting import export_network
from nnunetv2_gsp.timing import interleaved
from nnunetv2_gsp.wording import times

BASELINE, FUSED = "PyTorch, plain", "PyTorch, fused layers"
LEAST_SAME_LABELS = {"fp32": 0.9999, "bf16": 0.99, "int8": 0.9}  # below it, a way is broken rather than coarse
Predict = Callable[[np.ndarray], np.ndarray]  # (1, C, *patch) float32 -> logits


class _Calibration(CalibrationDataReader):
    """Gives patches out, one after the other."""

    def __init__(self, patches: Sequence[np.ndarray]):
        self._left = iter(patches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        patch = next(self._left, None)
        return None if patch is None else {"image": patch}


def central_patches(predictor: Predictor, images: Path, number: int) -> list[np.ndarray]:
    """Return the patch in the middle of each of the first images, preprocessed, (1, C, *patch) float32.

    Smaller images are padded with zeros behind their last voxels.
    """
    cases = cases_in(images, predictor.dataset_json["file_ending"], None)[:number]
    patch_size = predictor.configuration_manager.patch_size
    patches = []
    for case in progress(cases, "preprocessing", "case", stays=False):
        image = np.asarray(preprocessed(case, predictor).image)
        starts = [max(0, (size - patch) // 2) for size, patch in zip(image.shape[1:], patch_size, strict=True)]
        window = (slice(start, start + patch) for start, patch in zip(starts, patch_size, strict=True))
        index = (slice(None), *window)
        cut = image[index]
        padding = [(0, 0), *((0, patch - size) for size, patch in zip(cut.shape[1:], patch_size, strict=True))]
        patches.append(np.ascontiguousarray(np.pad(cut, padding)[None], dtype=np.float32))
    return patches


def ways(
    model_folder: Path, fold: int, folder: Path, predictor: Predictor, calibration: Sequence[np.ndarray]
) -> dict[str, tuple[Predict, float]]:
    """Return each way to compute the network, with the size of its file in MB."""
    onnx_file, openvino_file, coarse_file = folder / "model.onnx", folder / "model.xml", folder / "int8.onnx"
    export_network(model_folder, onnx_file, "onnx", [fold])
    export_network(model_folder, openvino_file, "openvino", [fold], overwrite=True)
    _quantize(onnx_file, coarse_file, calibration)
    megabytes = {
        file: file.stat().st_size / 1e6 for file in (onnx_file, coarse_file, openvino_file.with_suffix(".bin"))
    }
    weights = sum(each.numel() for each in predictor.network.parameters()) * 4 / 1e6
    return {
        BASELINE: (_in_pytorch(predictor, "plain"), weights),
        FUSED: (_in_pytorch(predictor, "fused"), weights),
        "ONNX Runtime, fp32": (_in_onnx_runtime(onnx_file), megabytes[onnx_file]),
        "ONNX Runtime, int8": (_in_onnx_runtime(coarse_file), megabytes[coarse_file]),
        "OpenVINO, fp32": (_in_openvino(openvino_file, "f32"), megabytes[openvino_file.with_suffix(".bin")]),
        "OpenVINO, bf16": (_in_openvino(openvino_file, "bf16"), megabytes[openvino_file.with_suffix(".bin")]),
    }


def runtimes_table(model_folder: Path, fold: int, images: Path, number: int, rounds: int) -> Table:
    """Compare the labels of all ways on real patches, and time them in turns on one.

    Raises:
        WrongError: a way gives so many other labels that its time means nothing.
    """
    predictor = load_predictor(model_folder, [fold])
    predictor.network.load_state_dict(predictor.fold_weights[0])
    patches = central_patches(predictor, images, number)
    half = len(patches) // 2
    if not half:
        raise WrongError(f"Two images at least are needed, and {images} has {len(patches)}: no figures.")
    calibration, compared = patches[:half], patches[half:]
    with TemporaryDirectory() as folder:
        all_ways = ways(model_folder, fold, Path(folder), predictor, calibration)
        has_regions = predictor.label_manager.has_regions
        labels = {
            name: [_labels_of(predict(patch), has_regions) for patch in compared]
            for name, (predict, _) in all_ways.items()
        }
        same = _checked({name: _same_voxels(labels[BASELINE], each) for name, each in labels.items()})
        contenders = {name: partial(predict, compared[0]) for name, (predict, _) in all_ways.items()}
        timings = interleaved(contenders, rounds)
    rows: list[Row] = [
        {
            "": name,
            "speed-up over plain PyTorch": timings[BASELINE].median_ms / timings[name].median_ms,
            "ms": timings[name],
            "same labels, %": f"{100 * same[name]:.3f}",
            "of the segmented voxels, %": f"{100 * _same_foreground(labels[BASELINE], labels[name]):.3f}",
            "weights, MB": megabytes,
        }
        for name, (_, megabytes) in all_ways.items()
    ]
    channels, *patch = compared[0].shape[1:]
    return Table(
        f"One patch of {model_folder.name}, {channels}×{times(patch)}",
        rows,
        f"Labels on {len(compared)} images, beside plain PyTorch's; a voxel counts as segmented where either says so. "
        f"int8: products of matrices alone, calibrated on {len(calibration)} other images. {rounds} rounds, in turns.",
    )


def _checked(same: Mapping[str, float]) -> Mapping[str, float]:
    for name, part in same.items():
        if part < LEAST_SAME_LABELS.get(name.split(", ")[-1], LEAST_SAME_LABELS["fp32"]):
            raise WrongError(f"{name} gives only {part:.3%} of the voxels the label they should have: no figures.")
    return same


def _labels_of(logits: np.ndarray, has_regions: bool) -> np.ndarray:
    """Return the number of the winning class; with regions of the last one, from 1 on."""
    if not has_regions:
        return np.asarray(logits.argmax(1))
    numbers = np.arange(1, logits.shape[1] + 1).reshape(1, -1, *[1] * (logits.ndim - 2))
    return np.asarray(((logits > 0) * numbers).max(1))


def _same_voxels(expected: Sequence[np.ndarray], got: Sequence[np.ndarray]) -> float:
    return float(np.mean([a == b for a, b in zip(expected, got, strict=True)]))


def _same_foreground(expected: Sequence[np.ndarray], got: Sequence[np.ndarray]) -> float:
    either = [(a > 0) | (b > 0) for a, b in zip(expected, got, strict=True)]
    return float(np.mean(np.concatenate([(a == b)[of] for a, b, of in zip(expected, got, either, strict=True)])))


def _in_pytorch(predictor: Predictor, engine: str) -> Predict:
    def predict(patch: np.ndarray) -> np.ndarray:
        predictor.network.engine = engine  # type: ignore[assignment]
        with torch.inference_mode():
            logits: np.ndarray = predictor.network(torch.from_numpy(patch)).numpy()
        return logits

    return predict


def _in_onnx_runtime(file: Path) -> Predict:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda patch: session.run(None, {"image": patch})[0]


def _in_openvino(file: Path, precision: str) -> Predict:
    compiled = openvino.Core().compile_model(
        file,
        "CPU",
        {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": precision,
        },
    )
    got = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if got != precision:  # it is a hint, which a processor without such numbers does not follow
        raise WrongError(f"OpenVINO computes in {got} here, not in {precision}: no figures.")
    return lambda patch: compiled(patch)[0]


def _quantize(file: Path, quantized: Path, calibration: Sequence[np.ndarray]) -> None:
    """Write a network whose products have weights and inputs of eight bits."""
    prepared = quantized.with_name("prepared.onnx")
    quant_pre_process(file, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared,
        quantized,
        _Calibration(calibration),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv", "MatMul", "Gemm"],
        per_channel=True,
    )


def main() -> None:
    """Measure, and write runtimes.md and runtimes.json."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.runtimes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, metavar="MODEL_FOLDER", help="a trained model")
    parser.add_argument("images", type=Path, metavar="IMAGES", help="images of its dataset, named CASE_0000 and so on")
    parser.add_argument("-f", type=int, default=0, metavar="FOLD", help="fold that is exported (default: %(default)s)")
    parser.add_argument("-n", type=int, default=20, metavar="N", help="number of images (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="of the timings (default: %(default)s)")
    parser.add_argument(
        "-o", type=Path, required=True, metavar="FOLDER", help="folder of runtimes.md and runtimes.json"
    )
    arguments = parser.parse_args()
    try:
        table = runtimes_table(arguments.model, arguments.f, arguments.images, arguments.n, arguments.rounds)
    except WrongError as error:
        sys.exit(str(error))
    measured = {
        "date": date.today().isoformat(),
        **environment(),
        "onnxruntime": package_version("onnxruntime"),
    }
    made = asdict(table)
    arguments.o.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps({"measured": measured, "tables": [made]}, indent=1) + "\n", arguments.o / "runtimes.json")
    text = ["# Runtimes for an exported network\n", markdown(made), measured_on(measured)]
    write_text("\n".join(text), arguments.o / "runtimes.md")


if __name__ == "__main__":
    main()
