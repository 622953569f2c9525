"""nnU-Net's commands as a user types them, with the installed trainer, and the tests that need a GPU."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from nnunetv2.utilities.crossval_split import generate_crossval_split

from benchmarks.gpu.settings import Contender, Settings
from benchmarks.measuring import WrongError
from benchmarks.page import Row, Table
from nnunetv2_gsp.engines import VARIABLE as ENGINE
from nnunetv2_gsp.nnunet import dataset_id, n_processes
from nnunetv2_gsp.plugin.startup import EXT_TRAINER_FOLDER, VARIABLE
from nnunetv2_gsp.wording import times

ROOT = Path(__file__).parents[2]
TRAINERS = Path(__file__).with_name("trainers")
DATASET, CONFIGURATION, FOLD = "Dataset901_Boxes", "3d_fullres", "0"
N_CASES, SIZE = 5, (16, 18, 20)  # of three stages; the loss of nnU-Net's networks of two is 0/0
NEEDS_GPU = "needs a GPU"  # the reason by which such tests are skipped elsewhere
OF_TRITON = ("test_gpu_layer.py", "test_triton.py")
TRAINER = "nnUNetTrainerGSPBench"
Command = Sequence[object]


def tables(settings: Settings) -> Iterator[Table]:
    """Plan, train and predict a few boxes, by two engines beside each other; nnU-Net compiles trainings on a GPU."""
    images = _write_boxes(Path(os.environ["nnUNet_raw"], DATASET)) / "imagesTr"
    preprocess(DATASET, 1)
    asked = [contender for contender in settings.contenders if contender.kind == "GSP"]
    rows: list[Row] = []
    with ThreadPoolExecutor(len(asked)) as pool:
        for row in pool.map(lambda contender: _trained_and_predicted(contender, images, settings), asked):
            rows.append(row)
            yield Table(
                "As a user types it",
                list(rows),
                f"{N_CASES} generated cases of {times(SIZE)} voxels, two epochs of four steps, both trainings on one "
                f"device at a time, beside other work: seconds say only that it ends.",
            )


def test_tables(settings: Settings) -> Iterator[Table]:
    """Run the tests that need a GPU; they are found by the reason for which they are skipped elsewhere."""
    files = sorted(
        file.relative_to(ROOT)
        for file in (ROOT / "tests").rglob("test_*.py")
        if NEEDS_GPU in file.read_text(encoding="utf-8")
    )
    # -m "" runs those, too, that `make test` leaves to others; most of the time kernels are compiled
    options = ("-q", "-n", n_processes(), "-p", "no:cacheprovider", "-m", "", "-k", "cuda or half")
    rows, wrong = list[Row](), list[str]()
    # an error of a kernel ends all that comes after it in a process, so the newest kernels come by themselves
    for group in (
        [each for each in files if each.name not in OF_TRITON],
        [each for each in files if each.name in OF_TRITON],
    ):
        code, said = outcome_of([sys.executable, "-m", "pytest", *options, *group], {})
        rows.append({"": ", ".join(f"`{file}`" for file in group), "outcome": said.splitlines()[-1].strip("= ")})
        yield Table("The tests that need a GPU", list(rows))
        if code:
            wrong.append(f"exit code {code}: {rows[-1]['outcome']}")
    if wrong:
        raise WrongError("; ".join(wrong))


def preprocess(dataset: str, processes: int) -> None:
    """Plan and preprocess a dataset, and split it into folds, which trainings beside each other would do at once."""
    number = dataset_id(dataset)
    run(
        ["nnUNetv2_plan_and_preprocess", "-d", number, "-c", CONFIGURATION, "-npfp", processes, "-np", processes],
        {},
    )
    folder = Path(os.environ["nnUNet_preprocessed"], dataset)
    cases = sorted(file.name.removesuffix(".nii.gz") for file in (folder / "gt_segmentations").iterdir())
    (folder / "splits_final.json").write_text(json.dumps(generate_crossval_split(cases)))


def training(dataset: str, trainer: str, settings: Settings) -> list[object]:
    """Return nnU-Net's command that trains one fold."""
    return ["nnUNetv2_train", dataset_id(dataset), CONFIGURATION, FOLD, "-tr", trainer, "-device", settings.device]


def short(contender: Contender, results: Path, epochs: int, steps: int) -> dict[str, str]:
    """Return variables that make a training of ours short, by a contender's engine, with results of its own."""
    return {
        "nnUNet_results": str(results),
        ENGINE: contender.engine,
        "GSP_BENCH_EPOCHS": str(epochs),
        "GSP_BENCH_ITERATIONS": str(steps),
    }


def run(command: Command, variables: Mapping[str, str]) -> str:
    """Run one of nnU-Net's commands, which here need not be on the PATH, with our trainers known to it.

    Returns:
        What it printed.

    Raises:
        WrongError: it stopped with another exit code than 0.
    """
    name, *arguments = command
    [entry] = entry_points(group="console_scripts", name=str(name))
    return output_of(
        [sys.executable, "-c", f"from {entry.module} import {entry.attr}; {entry.attr}()", *arguments], variables
    )


def output_of(command: Command, variables: Mapping[str, str]) -> str:
    """Run a command on this checkout, and return what it prints, which goes into the log, too.

    Raises:
        WrongError: it stopped with another exit code than 0.
    """
    code, said = outcome_of(command, variables)
    if code:
        raise WrongError(f"Exit code {code}: ... {said[-250:]}")
    return said


def outcome_of(command: Command, variables: Mapping[str, str]) -> tuple[int, str]:
    """Run a command on this checkout, and return its exit code and what it prints, which goes into the log, too."""
    environment = {
        **os.environ,
        VARIABLE: os.pathsep.join([str(TRAINERS), EXT_TRAINER_FOLDER]),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        **variables,
    }
    said: list[str] = []
    with subprocess.Popen(
        [str(part) for part in command],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout
        for line in process.stdout:  # at once, so that the log says how far it was when it is stopped
            print(line, end="", flush=True)
            said.append(line)
    return process.returncode, "".join(said)


def fold_folder(results: Path, dataset: str, trainer: str) -> Path:
    """Return the folder in which nnU-Net leaves a trained fold."""
    return results / dataset / f"{trainer}__nnUNetPlans__{CONFIGURATION}" / f"fold_{FOLD}"


def training_log(fold: Path) -> dict[str, Any]:
    """Return what nnU-Net logged: under each name a list of one value per epoch."""
    checkpoint = torch.load(fold / "checkpoint_final.pth", map_location="cpu", weights_only=False)  # our own
    logged: dict[str, Any] = checkpoint["logging"]
    return logged


def _check_losses(log: Mapping[str, Any]) -> None:
    losses = [*log["train_losses"], *log["val_losses"]]
    if not np.isfinite(losses).all():
        raise WrongError(f"The losses of the training are {losses}.")


def _trained_and_predicted(contender: Contender, images: Path, settings: Settings) -> Row:
    """Train and predict with results of its own, and check both."""
    results = Path(os.environ["nnUNet_results"], contender.engine)
    output = results / "predicted"
    output.mkdir(parents=True)
    variables = short(contender, results, epochs=2, steps=4)
    row: Row = {"": str(contender)}
    for command in _commands(images, output, settings):
        start = time.perf_counter()
        run(command, variables)
        row[f"`{command[0]}`, s"] = time.perf_counter() - start
    _check_losses(training_log(fold_folder(results, DATASET, TRAINER)))
    n_predicted = len(list(output.glob("*.nii.gz")))
    if n_predicted != N_CASES:
        raise WrongError(f"nnUNetv2_predict wrote {n_predicted} segmentations of {N_CASES} cases, {contender}.")
    return row


def _commands(images: Path, output: Path, settings: Settings) -> list[Command]:
    number = dataset_id(DATASET)
    return [
        training(DATASET, TRAINER, settings),
        [
            "nnUNetv2_predict",
            "-i",
            images,
            "-o",
            output,
            "-d",
            number,
            "-c",
            CONFIGURATION,
            "-f",
            FOLD,
            "-tr",
            TRAINER,
            "-device",
            settings.device,
            "-npp",
            1,
            "-nps",
            1,
        ],
    ]


def _write_boxes(folder: Path) -> Path:
    """Write cases with a bright box in noise."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    random = np.random.default_rng(0)
    for case in range(N_CASES):
        label = np.zeros(SIZE, np.uint8)
        label[4:12, 5:13, 4 + case : 14] = 1
        image = random.normal(label, 0.5).astype(np.float32)
        for array, name in ((image, f"imagesTr/box{case}_0000.nii.gz"), (label, f"labelsTr/box{case}.nii.gz")):
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), folder / name)
    description = {
        "channel_names": {"0": "MR"},
        "labels": {"background": 0, "box": 1},
        "numTraining": N_CASES,
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "NibabelIO",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder
