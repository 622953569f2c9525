"""Seconds for a whole case, file to file: nnU-Net's own command on a phantom of BraTS's size, stock against GSP.

Both predict with untrained weights, which cost as much as trained ones, and with the plans that nnU-Net makes for this
case: patches of 128³ voxels, steps of half a patch, mirroring along all axes. The brain is the MNI152 average, and has
the size of a real one.
"""

import json
import os
import pstats
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import SimpleITK as sitk
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.file_path_utilities import get_output_folder

from benchmarks.measuring import WrongError, check, check_labels
from benchmarks.page import Row, Table
from nnunetv2_gsp.datasets.challenges import convert_source
from nnunetv2_gsp.datasets.phantom import make_phantom
from nnunetv2_gsp.nnunet import dataset_id, n_processes, script
from nnunetv2_gsp.trainers import nnUNetTrainerGSP

DATASET, CONFIGURATION, FOLD = "Dataset999_BraTSPhantom", "3d_fullres", 0
STOCK, GSP = nnUNetTrainer.__name__, nnUNetTrainerGSP.__name__
CPU = torch.device("cpu")
# what each function's time is less that of those that it calls: (file, function)
READING = ("default_preprocessor.py", "run_case")
SLIDING = ("predict_from_raw_data.py", "predict_sliding_window_return_logits")
MIRRORING = ("predict_from_raw_data.py", "_internal_maybe_mirror_and_predict")
NETWORK = ("gsp_unet.py", "forward")
WRITING = ("export_prediction.py", "export_prediction_from_logits")


def tables(spacing_mm: float = 1.0, rounds_of_gsp: int = 3) -> list[Table]:
    """Predict the case with stock once and with GSP several times, then tell where GSP's time goes."""
    with TemporaryDirectory() as name, _nnunet_folders(Path(name)) as folder:
        images = _planned_dataset(folder, spacing_mm)
        for trainer in (nnUNetTrainer, nnUNetTrainerGSP):
            _untrained_model(trainer)
        _check_model()
        seconds = {
            STOCK: [_predict(images, folder / "stock", STOCK)],
            GSP: [_predict(images, folder / f"gsp_{number}", GSP) for number in range(rounds_of_gsp)],
        }
        return [_comparison(images, seconds), _breakdown(images, folder)]


@contextmanager
def _nnunet_folders(folder: Path) -> Iterator[Path]:
    """Point nnU-Net's three folder variables into `folder`."""
    folders = {name: str(folder / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    before = {name: os.environ.get(name) for name in folders}
    os.environ.update(folders)
    try:
        yield folder
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            os.environ.update({name: value} if value is not None else {})


def _planned_dataset(folder: Path, spacing_mm: float) -> Path:
    """Make, convert, plan and preprocess the case; return the folder of its images."""
    make_phantom(folder / "source", 1, spacing_mm)
    raw = folder / "nnUNet_raw" / DATASET
    convert_source("brats", folder / "source", raw, strict=True)
    _run([script("nnUNetv2_plan_and_preprocess"), "-d", dataset_id(DATASET), "-c", CONFIGURATION, "-npfp", 1, "-np", 1])
    return raw / "imagesTr"


def _untrained_model(trainer_class: type[nnUNetTrainer]) -> None:
    """Write the files of a training that a prediction reads, with untrained weights."""
    preprocessed = Path(os.environ["nnUNet_preprocessed"], DATASET)
    plans, dataset = (json.loads((preprocessed / name).read_text()) for name in ("nnUNetPlans.json", "dataset.json"))
    torch.manual_seed(0)
    trainer = trainer_class({**plans, "continue_training": False}, CONFIGURATION, FOLD, dataset, CPU)
    trainer.initialize()
    trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()  # settles the axes to mirror
    trainer._best_ema = 0.0
    trainer.save_checkpoint(str(Path(trainer.output_folder, "checkpoint_final.pth")))
    model = Path(trainer.output_folder_base)
    (model / "plans.json").write_text(json.dumps(trainer.plans_manager.plans))
    (model / "dataset.json").write_text(json.dumps(dataset))


def _check_model() -> None:
    """Compare one patch of GSP's model with plain PyTorch."""
    predictor = nnUNetPredictor(device=CPU, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(get_output_folder(DATASET, GSP, configuration=CONFIGURATION), [FOLD])
    network = predictor.network.eval()
    with torch.inference_mode():
        patch = torch.randn(1, 4, *predictor.configuration_manager.patch_size)
        logits, expected = network(patch), network.decoder(network.encoder(patch))
    check("GSP's model", logits, expected, tolerance=1e-4)
    check_labels("GSP's model", logits, expected)


def _predict(images: Path, output: Path, trainer: str, *options: object, profile: Path | None = None) -> float:
    """Return the seconds that the command takes, from its start to its end."""
    under = [] if profile is None else [sys.executable, "-m", "cProfile", "-o", profile]
    start = time.perf_counter()
    _run(
        [
            *under,
            script("nnUNetv2_predict"),
            "-i",
            images,
            "-o",
            output,
            "-d",
            dataset_id(DATASET),
            "-c",
            CONFIGURATION,
            "-f",
            FOLD,
            "-tr",
            trainer,
            "-device",
            "cpu",
            *options,
        ]
    )
    seconds = time.perf_counter() - start
    _check_segmentation(images, output)
    return seconds


def _check_segmentation(images: Path, output: Path) -> None:
    [segmentation], image = list(output.glob("*.nii.gz")), next(images.iterdir())
    sizes = [sitk.ReadImage(str(file)).GetSize() for file in (segmentation, image)]
    if sizes[0] != sizes[1]:
        raise WrongError(f"A prediction has {sizes[0]} voxels instead of {sizes[1]}: no figures.")


def _run(command: Sequence[object]) -> None:
    environment = {**os.environ, "nnUNet_def_n_proc": str(n_processes())}
    done = subprocess.run([str(part) for part in command], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise WrongError(f"{command[0]} stopped with exit code {done.returncode}:\n{done.stdout}\n{done.stderr}")


def _comparison(images: Path, seconds: dict[str, list[float]]) -> Table:
    medians = {trainer: float(np.median(each)) for trainer, each in seconds.items()}
    rows: list[Row] = [
        {
            "": trainer,
            "speed-up over stock": medians[STOCK] / median,
            "s": median,
            "each, s": ", ".join(f"{each:.1f}" for each in seconds[trainer]),
        }
        for trainer, median in medians.items()
    ]
    size = "×".join(map(str, sitk.ReadImage(str(next(images.iterdir()))).GetSize()))
    return Table(
        f"A whole case with nnUNetv2_predict -device cpu, {size}×4, file to file",
        rows,
        "From the start of the command to its end, with mirroring, all of nnU-Net's defaults, untrained "
        "weights; one after the other.",
    )


def _breakdown(images: Path, folder: Path) -> Table:
    """Run GSP's prediction in a single process, under Python's profiler, and split up its time."""
    file = folder / "profile"
    total = _predict(images, folder / "profiled", GSP, "-npp", 0, "-nps", 0, profile=file)
    stats = pstats.Stats(str(file)).stats  # type: ignore[attr-defined]

    def seconds_in(part: tuple[str, str]) -> float:
        return max(
            (
                times[3]
                for (path, _, function), times in stats.items()
                if function == part[1] and path.endswith(part[0])
            ),
            default=0.0,
        )

    network, mirroring, sliding, reading, writing = map(seconds_in, (NETWORK, MIRRORING, SLIDING, READING, WRITING))
    parts = {
        "reading and preprocessing": reading,
        "the network": network,
        "flips and their sums": mirroring - network,
        "sliding window: patches, Gaussian weights, sums": sliding - mirroring,
        "resampling, labels and writing": writing,
        "Python's start, imports, plans, weights": total - reading - sliding - writing,
        "all": total,
    }
    rows: list[Row] = [{"": part, "part of all": seconds / total, "s": seconds} for part, seconds in parts.items()]
    return Table(
        "Where GSP's time goes in the whole case", rows, "One run in a single process (-npp 0 -nps 0), under cProfile."
    )
