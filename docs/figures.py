"""Writes the figures of README.md and of these pages anew, each from the page of results that holds it.

A figure stands between `<!-- figure: NAME -->` and `<!-- / -->`; `FIGURES` says which cell of which table it is. The
pages of results are written by the benchmarks, from the JSON beside them.
"""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).parents[1]
CPU, GPU, EFFECT = "benchmarks/results/bench.md", "benchmarks/results/gpu.md", "benchmarks/effect.md"
HIPPOCAMPUS = "docs/results/Dataset904_Hippocampus.md"
RUNTIMES = "docs/results/runtimes.md"
EXPORTED = "One patch of nnUNetTrainerGSP_5epochs__nnUNetGSPPlans_gsp_m_nnUNetPlansHalf__3d_fullres, 1×40×56×40"
OVER_PLAIN, SAME_SEGMENTED = "speed-up over plain PyTorch", "of the segmented voxels, %"
FOLDS, LONGER = "nnUNetTrainer_5epochs, folds 0, 1, 2, 3, 4", "nnUNetTrainer_10epochs, fold 0 alone"
CSC, CSC_BEFORE = "CSC, nnUNetTrainerGSP_5epochs", "CSC, nnUNetTrainer_5epochs"
CUBE, FLAT = "One patch, 4×128×128×128", "One patch, 4×16×256×256"
CASE = "A whole BraTS case, with mirroring: 240×240×155, -device cpu, file to file"
BATCH = "A BraTS case alone and in a batch, nnUNetv2_gsp predict"
PARTS = "A whole BraTS case: where the time of nnUNetv2_gsp predict, nnUNetTrainerGSP goes"
_CT = "512×512×300, -device cpu, file to file"
CT, CT_STOCK = (
    f"A whole CT of 15 classes, the same GSP network, no mirroring: {_CT}",
    f"A whole CT of 15 classes, no mirroring: {_CT}",
)
CT_PARTS = "A whole CT: where the time of nnUNetv2_gsp predict, nnUNetTrainerGSP goes"
OURS, OURS_STOCK = "nnUNetv2_gsp predict, nnUNetTrainerGSP", "nnUNetv2_gsp predict, nnUNetTrainer"
NNUNETS = "nnUNetv2_predict, nnUNetTrainerGSP"
PART_OF_MEMORY = "memory, part of the first"
STEP, STEP_TINY = "A training step, 4×64×64×64", "A training step of the tiny network, 4×64×64×64"
LAYER, SHIFT = (
    "One fused layer beside copying its output, 32 channels at 128³",
    "Group shift, 32 channels at 128×128×128",
)
TWIN = "One GSP layer beside its pointwise twin, 32 channels at 128³"
GPU_STEP, GPU_CASE = "Training, 2×4×128×128×128", "Prediction"
REPLACED = "Pieces that were replaced, 2×128×128×128"
TASK = "What the shifts bring, on a task that intensity cannot solve"
STOCK, OPENVINO = "speed-up over stock", "speed-up over OpenVINO on the same network"
MARK = re.compile(r"(<!-- figure: ([\w-]+) -->)(.*?)(<!-- / -->)")


class Figure(NamedTuple):
    """A cell of a table, and how its first number is written; without a format it is the cell as it stands."""

    page: str
    table: str
    row: str
    column: str
    format: str = ""


FIGURES = {
    "case": Figure(CPU, CASE, OURS, "speed-up", ".0f"),
    "case-s": Figure(CPU, CASE, OURS, "s", ".0f"),
    "case-memory": Figure(CPU, CASE, OURS, PART_OF_MEMORY),
    "case-nnunets": Figure(CPU, CASE, NNUNETS, "speed-up", ".0f"),
    "case-batch-s": Figure(CPU, BATCH, "of a batch of 5", "s a case", ".0f"),
    "case-network": Figure(CPU, PARTS, "the network, windows and mirroring", "part of all"),
    "ct": Figure(CPU, CT_STOCK, OURS, "speed-up", ".1f"),
    "ct-s": Figure(CPU, CT_STOCK, OURS, "s", ".0f"),
    "ct-memory": Figure(CPU, CT_STOCK, OURS, PART_OF_MEMORY),
    "ct-same": Figure(CPU, CT, OURS, "speed-up", ".1f"),
    "ct-same-memory": Figure(CPU, CT, OURS, PART_OF_MEMORY),
    "ct-stock-ours": Figure(CPU, CT_STOCK, OURS_STOCK, "speed-up", ".1f"),
    "ct-stock-memory": Figure(CPU, CT_STOCK, OURS_STOCK, PART_OF_MEMORY),
    "ct-network": Figure(CPU, CT_PARTS, "the network, windows and mirroring", "part of all"),
    "ct-start": Figure(CPU, CT_PARTS, "Python's start, imports, plans, weights, and writing", "part of all"),
    "ct-reading": Figure(CPU, CT_PARTS, "waiting for the image: reading and preprocessing", "part of all"),
    "cube": Figure(CPU, CUBE, "GSP, fused", STOCK, ".0f"),
    "cube-ms": Figure(CPU, CUBE, "GSP, fused", "ms", ".0f"),
    "cube-stock-ms": Figure(CPU, CUBE, "stock, PyTorch", "ms", ".0f"),
    "cube-openvino": Figure(CPU, CUBE, "GSP, fused", OPENVINO, ".1f"),
    "cube-pytorch": Figure(CPU, CUBE, "GSP, PyTorch", STOCK, ".1f"),
    "cube-memory": Figure(CPU, "Peak memory of predicting one patch, 4×128×128×128", "GSP, fused", "part of stock's"),
    "tiny": Figure(CPU, CUBE, "GSP, tiny, fused", STOCK, ".0f"),
    "tiny-ms": Figure(CPU, CUBE, "GSP, tiny, fused", "ms", ".0f"),
    "tiny-openvino": Figure(CPU, CUBE, "GSP, tiny, fused", OPENVINO, ".1f"),
    "flat": Figure(CPU, FLAT, "GSP, fused", STOCK, ".0f"),
    "flat-ms": Figure(CPU, FLAT, "GSP, fused", "ms", ".0f"),
    "flat-openvino": Figure(CPU, FLAT, "GSP, fused", OPENVINO, ".1f"),
    "flat-pytorch": Figure(CPU, FLAT, "GSP, PyTorch", STOCK, ".1f"),
    "step": Figure(CPU, STEP, "GSP", STOCK, ".0f"),
    "step-ms": Figure(CPU, STEP, "GSP", "ms", ".0f"),
    "step-checkpointed": Figure(CPU, STEP, "GSP, checkpointed", STOCK, ".1f"),
    "step-activations": Figure(CPU, STEP, "GSP", "activations relative to stock"),
    "step-shifts": Figure(CPU, STEP, "GSP", "time relative to no shifts"),
    "step-tiny": Figure(CPU, STEP_TINY, "GSP, tiny", "speed-up over 3×3×3 of the same widths", ".0f"),
    "layer-copies": Figure(CPU, LAYER, "fused", "copies", ".1f"),
    "layer-pytorch-copies": Figure(CPU, LAYER, "PyTorch, eager", "copies", ".0f"),
    "shift-clone": Figure(CPU, SHIFT, "forward", "shift / clone"),
    "twin-compiled": Figure(CPU, TWIN, "compiled, forward", "GSP / twin", ".1f"),
    "gpu-step-ms": Figure(GPU, GPU_STEP, "step, compiled", "GSP, ms", ".1f"),
    "gpu-step-stock-ms": Figure(GPU, GPU_STEP, "step, compiled", "stock, ms", ".1f"),
    "gpu-step-gib": Figure(GPU, GPU_STEP, "step, compiled", "GSP's peak, GiB"),
    "gpu-step-stock-gib": Figure(GPU, GPU_STEP, "step, compiled", "stock's peak, GiB"),
    "gpu-step-eager-ms": Figure(GPU, GPU_STEP, "step, eager", "GSP, ms", ".1f"),
    "gpu-step-eager-stock-ms": Figure(GPU, GPU_STEP, "step, eager", "stock, ms", ".1f"),
    "gpu-case-ms": Figure(GPU, GPU_CASE, "a case, compiled", "GSP, ms", ".0f"),
    "gpu-case-stock-ms": Figure(GPU, GPU_CASE, "a case, compiled", "stock, ms", ".0f"),
    "gpu-case-eager-ms": Figure(GPU, GPU_CASE, "a case, eager", "GSP, ms", ".0f"),
    "gpu-case-eager-stock-ms": Figure(GPU, GPU_CASE, "a case, eager", "stock, ms", ".0f"),
    "gpu-weight-ms": Figure(GPU, REPLACED, "gradient of a weight, 32 to 32 channels", "ours, ms"),
    "gpu-weight-before-ms": Figure(GPU, REPLACED, "gradient of a weight, 32 to 32 channels", "PyTorch's, ms"),
    "gpu-interpolation-ms": Figure(GPU, REPLACED, "interpolation, backward", "ours, ms"),
    "gpu-interpolation-before-ms": Figure(GPU, REPLACED, "interpolation, backward", "PyTorch's, ms"),
    "hip-stock": Figure(HIPPOCAMPUS, FOLDS, "stock", "Dice", ".3f"),
    "hip-s": Figure(HIPPOCAMPUS, FOLDS, "gsp_s", "Dice", ".3f"),
    "hip-m": Figure(HIPPOCAMPUS, FOLDS, "gsp_m", "Dice", ".3f"),
    "hip-l": Figure(HIPPOCAMPUS, FOLDS, "gsp_l", "Dice", ".3f"),
    "hip-csc": Figure(HIPPOCAMPUS, FOLDS, CSC, "Dice", ".3f"),
    "hip-csc-before": Figure(HIPPOCAMPUS, FOLDS, CSC_BEFORE, "Dice", ".3f"),
    "hip-stock-macs": Figure(HIPPOCAMPUS, FOLDS, "stock", "stock's MACs"),
    "hip-s-macs": Figure(HIPPOCAMPUS, FOLDS, "gsp_s", "stock's MACs"),
    "hip-m-macs": Figure(HIPPOCAMPUS, FOLDS, "gsp_m", "stock's MACs"),
    "hip-l-macs": Figure(HIPPOCAMPUS, FOLDS, "gsp_l", "stock's MACs"),
    "hip-csc-macs": Figure(HIPPOCAMPUS, FOLDS, CSC, "stock's MACs"),
    "hip-10-stock": Figure(HIPPOCAMPUS, LONGER, "stock", "Dice", ".3f"),
    "hip-10-s": Figure(HIPPOCAMPUS, LONGER, "gsp_s", "Dice", ".3f"),
    "hip-10-m": Figure(HIPPOCAMPUS, LONGER, "gsp_m", "Dice", ".3f"),
    "hip-10-csc": Figure(HIPPOCAMPUS, LONGER, "CSC", "Dice", ".3f"),
    "rt-fused": Figure(RUNTIMES, EXPORTED, "PyTorch, fused layers", OVER_PLAIN, ".1f"),
    "rt-onnx": Figure(RUNTIMES, EXPORTED, "ONNX Runtime, fp32", OVER_PLAIN, ".1f"),
    "rt-int8": Figure(RUNTIMES, EXPORTED, "ONNX Runtime, int8", OVER_PLAIN, ".1f"),
    "rt-openvino": Figure(RUNTIMES, EXPORTED, "OpenVINO, fp32", OVER_PLAIN, ".1f"),
    "rt-bf16": Figure(RUNTIMES, EXPORTED, "OpenVINO, bf16", OVER_PLAIN, ".1f"),
    "rt-fused-same": Figure(RUNTIMES, EXPORTED, "PyTorch, fused layers", SAME_SEGMENTED, ".1f"),
    "rt-onnx-same": Figure(RUNTIMES, EXPORTED, "ONNX Runtime, fp32", SAME_SEGMENTED, ".1f"),
    "rt-int8-same": Figure(RUNTIMES, EXPORTED, "ONNX Runtime, int8", SAME_SEGMENTED, ".1f"),
    "rt-openvino-same": Figure(RUNTIMES, EXPORTED, "OpenVINO, fp32", SAME_SEGMENTED, ".1f"),
    "rt-bf16-same": Figure(RUNTIMES, EXPORTED, "OpenVINO, bf16", SAME_SEGMENTED, ".1f"),
    "dice-none": Figure(EFFECT, TASK, "none", "Dice, mean ± SD", ".2f"),
    "dice-csc": Figure(EFFECT, TASK, "CSC", "Dice, mean ± SD", ".2f"),
    "dice-both": Figure(EFFECT, TASK, "CSC+local-.375", "Dice, mean ± SD", ".2f"),
    "dice-local": Figure(EFFECT, TASK, "local-.375", "Dice, mean ± SD", ".2f"),
    "dice-3x3x3": Figure(EFFECT, TASK, "3x3x3", "Dice, mean ± SD", ".2f"),
}


def pages() -> list[Path]:
    """Return README.md and the pages of the site that are written by hand, results apart."""
    found = sorted((PROJECT / "docs").rglob("*.md"))
    return [PROJECT / "README.md", *(page for page in found if page.parent.name != "results")]


def filled(text: str) -> str:
    """Return a page's text with every marked figure as the results have it.

    Raises:
        KeyError: a figure has no such name, or its table has no such row or column.
    """
    return MARK.sub(lambda found: f"{found[1]}{written(FIGURES[found[2]])}{found[4]}", text)


def written(figure: Figure) -> str:
    """Return the text of a figure."""
    cell = tables(figure.page)[figure.table][figure.row][figure.column]
    return format(float(cell.split()[0]), figure.format) if figure.format else cell


@cache
def tables(page: str) -> dict[str, dict[str, dict[str, str]]]:
    """Return the tables of a page of results: heading -> first cell of a row -> heading of a column -> cell."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    title, columns = "", list[str]()
    for line in (PROJECT / page).read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            title, columns = line.lstrip("# "), []
        elif line.startswith("|") and not line.startswith("|---"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if columns:
                found.setdefault(title, {})[cells[0]] = dict(zip(columns, cells, strict=True))
            columns = columns or cells
    return found


def main(files: Iterable[Path]) -> None:
    """Write the pages in which a figure is another now."""
    for file in files:
        text = file.read_text(encoding="utf-8")
        if filled(text) != text:
            file.write_text(filled(text), encoding="utf-8")


if __name__ == "__main__":
    main(pages())
