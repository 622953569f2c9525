"""Seconds and memory of a whole case, file to file: nnU-Net's command beside ours, stock beside GSP.

All predict with untrained weights, which cost as much as trained ones, and with the plans that nnU-Net makes: of a
BraTS phantom, whose brain is the MNI152 average and has the size of a real one, with mirroring along all axes; and of a
CT of the trunk, planned at 1.5 mm, with 15 classes and without mirroring.
"""

import json
import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import SimpleITK as sitk
import torch
from nnunetv2.experiment_planning.plan_and_preprocess_api import plan_experiments
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.file_path_utilities import get_output_folder

from benchmarks.measuring import TIMES, WrongError, check, check_labels
from benchmarks.models import save_model
from benchmarks.page import Row, Table
from nnunetv2_gsp.datasets.challenges import convert_source
from nnunetv2_gsp.datasets.phantom import make_phantom
from nnunetv2_gsp.files import write_json
from nnunetv2_gsp.nnunet import FOLDERS, dataset_id, environment_with, n_processes, script
from nnunetv2_gsp.trainers import nnUNetTrainerGSP
from nnunetv2_gsp.wording import times

BRATS, CT, CONFIGURATION, FOLD = "Dataset999_BraTSPhantom", "Dataset998_CTPhantom", "3d_fullres", 0
STOCK, GSP = nnUNetTrainer.__name__, nnUNetTrainerGSP.__name__
NNUNETS, OURS = ("nnUNetv2_predict",), ("nnUNetv2_gsp", "predict")  # commands
CPU = torch.device("cpu")
CT_SHAPE, CT_SPACING_MM, CT_PLANNED_MM = (300, 512, 512), (1.0, 0.8, 0.8), (1.5, 1.5, 1.5)  # (D, H, W)
N_ORGANS = 14
N_BATCH, N_MEMORY_CASES, N_GROUPS = 5, 20, 4
POLL_S = 1.0  # asking for memory walks through its pages: ten times a second slowed a CT by a quarter


@dataclass(frozen=True)
class Run:
    """What a command took.

    Attributes:
        seconds: from its start to its end.
        cpu_seconds: of all cores, with those of its processes, in Python and in the system.
        samples: number of finished cases, and memory of all its processes in MB, shared pages counted once.
        said: what it printed.
    """

    seconds: float
    cpu_seconds: float
    samples: Sequence[tuple[int, float]]
    said: str

    @property
    def peak_mb(self) -> float:
        """Largest memory in MB."""
        return max(megabytes for _, megabytes in self.samples)


@dataclass(frozen=True)
class Contender:
    """A way to predict.

    Attributes:
        command: `NNUNETS` or `OURS`.
        trainer: name of the trainer of the network.
        rounds: number of times that it is measured.
    """

    command: tuple[str, ...]
    trainer: str
    rounds: int = 3

    @property
    def name(self) -> str:
        """Name in tables."""
        return f"{' '.join(self.command)}, {self.trainer}"


def brats(spacing_mm: float = 1.0, rounds: int = 3) -> list[Table]:
    """Predict a BraTS case with nnU-Net's command and both networks, with ours and GSP several times, and a batch."""
    with _nnunet_folders() as folder:
        images = _brats_dataset(folder, 1, spacing_mm)
        _untrained_model(BRATS, nnUNetTrainer)
        _untrained_model(BRATS, nnUNetTrainerGSP)
        _check_model(BRATS)
        ours = Contender(OURS, GSP, rounds)
        runs = _compared([Contender(NNUNETS, STOCK, 1), Contender(NNUNETS, GSP, 1), ours], BRATS, images)
        batch = _measured(_words(OURS, GSP, BRATS, _copies(images, N_BATCH), folder / "batch"), folder / "batch")
        single, case_of_batch = float(np.median([run.seconds for run in runs[ours]])), batch.seconds / N_BATCH
        rows: list[Row] = [
            {
                "": "alone",
                "s a case": single,
                "CPU s a case": float(np.median([run.cpu_seconds for run in runs[ours]])),
            },
            {"": f"of a batch of {N_BATCH}", "s a case": case_of_batch, "CPU s a case": batch.cpu_seconds / N_BATCH},
        ]
        return [
            _comparison("A whole BraTS case, with mirroring", images, runs),
            Table("A BraTS case alone and in a batch, nnUNetv2_gsp predict", rows, "From the first start to the end."),
            _parts("A whole BraTS case", ours, runs[ours][-1]),
        ]


def ct(shape: Sequence[int] = CT_SHAPE, rounds: int = 3) -> list[Table]:
    """Predict a CT with the same GSP network by nnU-Net's command, and several times by ours."""
    contenders = [Contender(NNUNETS, GSP, 1), Contender(OURS, GSP, rounds)]
    return _ct(shape, [nnUNetTrainerGSP], contenders, "A whole CT of 15 classes, the same GSP network, no mirroring")


def ct_stock(shape: Sequence[int] = CT_SHAPE, rounds: int = 3) -> list[Table]:
    """Predict a CT with stock by nnU-Net's command and by ours, and several times with GSP by ours; takes long."""
    contenders = [Contender(NNUNETS, STOCK, 1), Contender(OURS, STOCK, 1), Contender(OURS, GSP, rounds)]
    return _ct(shape, [nnUNetTrainer, nnUNetTrainerGSP], contenders, "A whole CT of 15 classes, no mirroring")


def memory_over_cases(spacing_mm: float = 4.0) -> list[Table]:
    """Predict a batch of small cases with GSP, and tell the peak memory while each quarter of them was predicted."""
    with _nnunet_folders() as folder:
        images, output = _brats_dataset(folder, N_MEMORY_CASES, spacing_mm), folder / "out"
        _untrained_model(BRATS, nnUNetTrainerGSP)
        run = _measured(_words(OURS, GSP, BRATS, images, output), output, poll_s=0.1)
        size = N_MEMORY_CASES // N_GROUPS
        peaks: dict[int, float] = {}
        for n_done, megabytes in run.samples:
            group = min(n_done // size, N_GROUPS - 1)
            peaks[group] = max(peaks.get(group, 0.0), megabytes)
        rows: list[Row] = [
            {"cases": f"{group * size + 1} to {(group + 1) * size}", "peak MB": peak, "of the first": peak / peaks[0]}
            for group, peak in sorted(peaks.items())
        ]
        return [
            Table(
                f"Memory over {N_MEMORY_CASES} cases of {_size(images)}×4, nnUNetv2_gsp predict",
                rows,
                "All processes of the command, shared pages counted once, sampled while it ran.",
            )
        ]


def _ct(
    shape: Sequence[int], trainers: Sequence[type[nnUNetTrainer]], contenders: Sequence[Contender], title: str
) -> list[Table]:
    with _nnunet_folders() as folder:
        images = _ct_dataset(folder, shape)
        for trainer in trainers:
            _untrained_model(CT, trainer)
        runs = _compared(contenders, CT, images, "--disable_tta")
        ours = next(contender for contender in contenders if contender.command == OURS)
        return [_comparison(title, images, runs), _parts("A whole CT", ours, runs[ours][-1])]


@contextmanager
def _nnunet_folders() -> Iterator[Path]:
    """Yield a new folder with nnU-Net's three, which is removed."""
    with TemporaryDirectory() as folder, environment_with({name: f"{folder}/{name}" for name in FOLDERS}):
        yield Path(folder)


def _brats_dataset(folder: Path, n_cases: int, spacing_mm: float) -> Path:
    """Make, convert, plan and preprocess cases; return the folder of their images."""
    make_phantom(folder / "source", n_cases, spacing_mm)
    raw = folder / "nnUNet_raw" / BRATS
    convert_source("brats", folder / "source", raw, strict=True)
    plan = (script("nnUNetv2_plan_and_preprocess"), "-d", dataset_id(BRATS), "-c", CONFIGURATION, "-npfp", 1, "-np", 1)
    done = subprocess.run([str(word) for word in plan], capture_output=True, text=True)
    if done.returncode:
        raise WrongError(f"nnU-Net does not plan:\n{done.stdout}\n{done.stderr}")
    return raw / "imagesTr"


def _ct_dataset(folder: Path, shape: Sequence[int]) -> Path:
    """Make a CT with a table of its intensities in place of a fingerprint, and let nnU-Net plan for it."""
    raw, preprocessed = folder / "nnUNet_raw" / CT, folder / "nnUNet_preprocessed" / CT
    rng = np.random.default_rng(0)
    d, h, w = (np.square(np.linspace(-1, 1, n, dtype=np.float32)) for n in shape)
    distance = d[:, None, None] + h[:, None] + w
    image = np.where(distance < 1, 40, -1000).astype(np.int16)
    image += rng.integers(-30, 30, shape, np.int16)
    for file, array in (("imagesTr/ct_0000.nii.gz", image), ("labelsTr/ct.nii.gz", (distance < 0.5).astype(np.uint8))):
        (raw / file).parent.mkdir(parents=True)
        written = sitk.GetImageFromArray(array)
        written.SetSpacing(CT_SPACING_MM[::-1])
        sitk.WriteImage(written, raw / file, useCompression=True)
    labels = {"background": 0, **{f"organ {number}": number for number in range(1, N_ORGANS + 1)}}
    dataset = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
    intensities = {"mean": 40.0, "std": 20.0, "percentile_00_5": 0.0, "percentile_99_5": 80.0}
    fingerprint = {
        "spacings": [list(CT_SPACING_MM)],
        "shapes_after_crop": [list(shape)],
        "foreground_intensity_properties_per_channel": {"0": {**intensities, "min": 0.0, "max": 80.0, "median": 40.0}},
        "median_relative_size_after_cropping": 1.0,
    }
    write_json(dataset, raw / "dataset.json")
    write_json(dataset, preprocessed / "dataset.json")
    write_json(fingerprint, preprocessed / "dataset_fingerprint.json")
    plan_experiments([dataset_id(CT)], overwrite_target_spacing=CT_PLANNED_MM)
    cases = preprocessed / f"nnUNetPlans_{CONFIGURATION}"
    cases.mkdir()
    (cases / "ct.b2nd").touch()  # by which a trainer tells the format
    return raw / "imagesTr"


def _copies(images: Path, number: int) -> Path:
    """Return a folder with the same case several times."""
    folder = images.parent / f"{number}_copies"
    folder.mkdir()
    for file in images.iterdir():
        for copy in range(number):
            (folder / f"copy{copy}_{file.name}").hardlink_to(file)
    return folder


def _untrained_model(dataset_name: str, trainer_class: type[nnUNetTrainer]) -> None:
    """Write the model of a trainer, with untrained weights."""
    preprocessed = Path(os.environ["nnUNet_preprocessed"], dataset_name)
    plans, dataset = (json.loads((preprocessed / name).read_text()) for name in ("nnUNetPlans.json", "dataset.json"))
    torch.manual_seed(0)
    trainer = trainer_class({**plans, "continue_training": False}, CONFIGURATION, FOLD, dataset, CPU)
    trainer.initialize()
    save_model(trainer, dataset)


def _check_model(dataset_name: str) -> None:
    """Compare one patch of GSP's model with plain PyTorch."""
    predictor = nnUNetPredictor(device=CPU, allow_tqdm=False)
    model_folder = get_output_folder(dataset_name, GSP, configuration=CONFIGURATION)
    predictor.initialize_from_trained_model_folder(model_folder, [FOLD])
    network = predictor.network.eval()
    with torch.inference_mode():
        patch = torch.randn(1, 4, *predictor.configuration_manager.patch_size)
        logits, expected = network(patch), network.decoder(network.encoder(patch))
    check("GSP's model", logits, expected, tolerance=1e-4)
    check_labels("GSP's model", logits, expected)


def _compared(
    contenders: Sequence[Contender], dataset_name: str, images: Path, *options: object
) -> dict[Contender, list[Run]]:
    """Measure the contenders in turns."""
    runs: dict[Contender, list[Run]] = {contender: [] for contender in contenders}
    for number in range(max(contender.rounds for contender in contenders)):
        for place, contender in enumerate(contenders):
            if number < contender.rounds:
                output = images.parent / f"predictions_{place}_{number}"
                words = _words(contender.command, contender.trainer, dataset_name, images, output, *options)
                runs[contender].append(_measured(words, output))
                _check_segmentation(images, output)
    return runs


def _words(
    command: tuple[str, ...], trainer: str, dataset_name: str, images: Path, output: Path, *options: object
) -> list[str]:
    name, *verb = command
    model = ("-d", dataset_id(dataset_name), "-c", CONFIGURATION, "-f", FOLD, "-tr", trainer, "-device", "cpu")
    more = ("--verbose",) if command == OURS else ()  # nnU-Net tells other things
    return [str(word) for word in (script(name), *verb, "-i", images, "-o", output, *model, *more, *options)]


def _measured(command: Sequence[str], output: Path, poll_s: float = POLL_S) -> Run:
    """Run a command that predicts into a folder, and measure it."""
    environment, samples = {**os.environ, "nnUNet_def_n_proc": str(n_processes())}, list[tuple[int, float]]()
    with tempfile.TemporaryFile("w+") as said:
        start = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=said, stderr=subprocess.STDOUT)
        with _repeated(poll_s, lambda: samples.append((_n_files(output), _memory_bytes(process.pid) / 1e6))):
            _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read()
    if process.returncode:
        raise WrongError(f"{command[0]} stopped with exit code {process.returncode}:\n{text}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, samples, text)


@contextmanager
def _repeated(period_s: float, function: Callable[[], object]) -> Iterator[None]:
    """Call a function again and again while the block runs."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(period_s):
            function()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _n_files(folder: Path) -> int:
    return len(list(folder.glob("*.nii.gz")))


def _memory_bytes(process: int | str) -> int:
    """Return the memory of a process and of all below it, a page that n of them share as an n-th in each."""
    folder = Path("/proc", str(process))
    try:
        [share] = re.findall(r"^Pss:\s+(\d+) kB", (folder / "smaps_rollup").read_text(), re.MULTILINE)
        children = [child for task in folder.glob("task/*/children") for child in task.read_text().split()]
    except (OSError, ValueError):  # it has ended
        return 0
    return 1024 * int(share) + sum(map(_memory_bytes, children))


def _check_segmentation(images: Path, output: Path) -> None:
    [segmentation], image = list(output.glob("*.nii.gz")), next(images.iterdir())
    sizes = [sitk.ReadImage(str(file)).GetSize() for file in (segmentation, image)]
    if sizes[0] != sizes[1]:
        raise WrongError(f"A prediction has {sizes[0]} voxels instead of {sizes[1]}: no figures.")


def _size(images: Path) -> str:
    return times(sitk.ReadImage(str(next(images.iterdir()))).GetSize())


def _comparison(title: str, images: Path, runs: Mapping[Contender, Sequence[Run]]) -> Table:
    """Return the table of contenders; the first is what the others are compared with."""
    first, rows = next(iter(runs)), list[Row]()
    medians = {contender: _medians(each) for contender, each in runs.items()}
    for contender, each in runs.items():
        seconds, cpu_seconds, peak_mb = medians[contender]
        rows.append(
            {
                "": contender.name,
                "speed-up": medians[first][0] / seconds,
                "of CPU time": medians[first][1] / cpu_seconds,
                "memory, part of the first": peak_mb / medians[first][2],
                "s": seconds,
                "CPU s": cpu_seconds,
                "peak MB": peak_mb,
                "each, s": ", ".join(f"{run.seconds:.1f}" for run in each),
                "labels as the first": _part_of_equal_labels(images, list(runs).index(contender)),
            }
        )
    return Table(
        f"{title}: {_size(images)}, -device cpu, file to file",
        rows,
        "From the start of the command to its end, nnU-Net's defaults otherwise, untrained weights, in turns. CPU time "
        "is that of all processes on all cores. Memory is that of all processes, shared pages counted once.",
    )


def _medians(runs: Sequence[Run]) -> tuple[float, float, float]:
    seconds, cpu_seconds, peak_mb = np.median([(run.seconds, run.cpu_seconds, run.peak_mb) for run in runs], axis=0)
    return float(seconds), float(cpu_seconds), float(peak_mb)


def _part_of_equal_labels(images: Path, place: int) -> float:
    first, labels = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(next((images.parent / f"predictions_{i}_0").glob("*.nii.gz")))))
        for i in (0, place)
    )
    return float((first == labels).mean())


def _parts(title: str, contender: Contender, run: Run) -> Table:
    """Split up the time of our command for one case, by what it says."""
    found = TIMES.search(run.said)
    if found is None:
        raise WrongError(f"nnUNetv2_gsp predict --verbose tells no times:\n{run.said}")
    waited, network, labels = map(float, found.groups())
    parts = {
        "waiting for the image: reading and preprocessing": waited,
        "the network, windows and mirroring": network,
        "resampling and labels": labels,
        "Python's start, imports, plans, weights, and writing": run.seconds - waited - network - labels,
        "all": run.seconds,
    }
    rows: list[Row] = [{"": part, "part of all": time_s / run.seconds, "s": time_s} for part, time_s in parts.items()]
    return Table(f"{title}: where the time of {contender.name} goes", rows, "One run, by --verbose.")
