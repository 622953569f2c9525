"""Seconds of a whole case, file to file: nnU-Net's command beside ours, stock beside GSP."""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.commands import output_of, run
from benchmarks.gpu.networks import DATASET, FOLD, trainer_of
from benchmarks.gpu.settings import GSP, KINDS, STOCK, Contender, Settings
from benchmarks.measuring import TIMES, WrongError
from benchmarks.models import CHANNELS, save_model
from benchmarks.page import Row, Table
from nnunetv2_gsp.engines import VARIABLE as ENGINE
from nnunetv2_gsp.nnunet import n_processes
from nnunetv2_gsp.plugin.startup import EXT_TRAINER_FOLDER, VARIABLE
from nnunetv2_gsp.wording import times

NNUNETS, OURS = "nnUNetv2_predict_from_modelfolder", "nnUNetv2_gsp predict"
AGREEMENT = 0.97  # of labels by both commands and engines: near ties of untrained networks fall either way in fp16


def tables(settings: Settings) -> Iterator[Table]:
    """Predict a case with mirroring; a compiled one once before, whose kernels stay on disk."""
    folder = Path(os.environ["nnUNet_results"], "files")
    _write_case(folder / "images", settings)
    models = {kind: save_model(trainer_of(kind, settings, is_compiled=False), DATASET) for kind in KINDS}
    rows: list[Row] = []
    labels: dict[tuple[str, str], NDArray[Any]] = {}
    ways = product(reversed(settings.ways), contenders(settings))
    for way, (command, contender) in sorted(ways, key=lambda each: each[1][1].engine != GSP.engine):  # users' first
        variables = {ENGINE: contender.engine, "nnUNet_compile": str(way == "compiled").lower()}
        asked = (command, folder / "images", folder / "predicted", models[contender.kind], variables, settings)
        first_s = _predicted(*asked)[0] if way == "compiled" else None
        seconds, found, said = _predicted(*asked)
        agreement = float((labels.setdefault((way, contender.kind), found) == found).mean())
        parts = TIMES.search(said)
        rows.append(
            {
                "": f"`{command}`, {contender}, {way}",
                "speed-up": float(rows[0]["s"]) / seconds if rows else 1.0,  # type: ignore[arg-type]
                "s": seconds,
                "compiling, s": first_s or "",
                "image, network, labels, s": ", ".join(parts.groups()) if parts else "",
                "labels as nnU-Net's": agreement,
            }
        )
        yield Table(
            f"A whole case: {CHANNELS}×{times(settings.case)}, file to file",
            list(rows),
            f"From the start of the command to its end, with mirroring, {settings.precision}, untrained weights.",
        )
        if agreement < AGREEMENT:
            raise WrongError(f"{command} gives {agreement:.2%} of the labels of nnU-Net's, {contender}, {way}.")


def contenders(settings: Settings) -> list[tuple[str, Contender]]:
    """Return commands and whom they predict with; the first of all is compared with."""
    return [
        (NNUNETS, STOCK),
        *((command, GSP) for command in (NNUNETS, OURS)),
        *((OURS, each) for each in settings.contenders if each not in (GSP, STOCK)),
    ]


def _write_case(folder: Path, settings: Settings) -> None:
    """Write noise in an ellipsoid of a brain's size, which nnU-Net crops to."""
    folder.mkdir(parents=True)
    axes = (np.linspace(-1, 1, n) / radius for n, radius in zip(settings.case, (0.9, 0.7, 0.6), strict=True))
    d, h, w = np.meshgrid(*axes, indexing="ij", sparse=True)
    inside, random = d**2 + h**2 + w**2 < 1, np.random.default_rng(0)
    for channel in range(CHANNELS):
        image = np.where(inside, random.normal(100, 20, settings.case), 0).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(image.T, np.eye(4)), folder / f"case_{channel:04d}.nii.gz")


def _predicted(
    command: str, images: Path, output: Path, model: Path, variables: Mapping[str, str], settings: Settings
) -> tuple[float, NDArray[Any], str]:
    """Return the seconds of a command, the labels that it wrote, and what it said."""
    options = ("-i", images, "-o", output, "-m", model, "-f", FOLD, "-device", settings.device)
    variables = {
        **variables,
        "nnUNet_def_n_proc": str(n_processes()),
        VARIABLE: EXT_TRAINER_FOLDER,  # without the trainers of this bench, which ours would have to search
    }
    start = time.perf_counter()
    if command == OURS:
        said = output_of([sys.executable, "-m", "nnunetv2_gsp", "predict", "--verbose", *options], variables)
    else:
        said = run([command, *options], variables)
    seconds = time.perf_counter() - start
    [file] = output.glob("*.nii.gz")
    labels = np.asarray(nibabel.Nifti1Image.from_filename(file).dataobj)
    file.unlink()
    return seconds, labels, said
