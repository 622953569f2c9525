"""Does it work here? From raw files to Dice on a brain tumour phantom, with nnU-Net's own commands.

Each step leaves its product in the demo folder and is skipped where that product stands, so a second run resumes.
"""
import json
import os
import shlex
import subprocess
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from nnunetv2_gsp.commands import check_device, n_processes, script
from nnunetv2_gsp.datasets.brats import CHANNELS, REGIONS, convert_brats
from nnunetv2_gsp.datasets.phantom import load_head, make_phantom
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.evaluation.costs import CHECKPOINT, epoch_seconds, read_checkpoint
from nnunetv2_gsp.files import beside, whole, write_json

DATASET_ID = 999
DATASET_NAME = f"Dataset{DATASET_ID}_BraTSPhantom"
CONFIGURATION = "3d_fullres"
FOLD = 0

# Okabe and Ito's palette is told apart with any colour vision; a broad line shows from under a thin one.
REFERENCE_LINE: dict[str, Any] = {"color": "#56B4E9", "linewidth": 3, "linestyle": "solid"}
PREDICTION_LINE: dict[str, Any] = {"color": "#E69F00", "linewidth": 1.2, "linestyle": "dashed"}


@dataclass(frozen=True)
class Setting:
    """What differs between a laptop's few minutes and the full size."""

    n_training: int
    n_held_out: int
    spacing_mm: float
    trainer: str
    plans: str


SMALL = Setting(15, 4, 3.0, "nnUNetTrainerGSP_5epochs", "nnUNetPlansSmall")
FULL_SIZE = Setting(40, 10, 1.0, "nnUNetTrainerGSP_50epochs", "nnUNetPlans")


def run_demo(folder: Path, device: str) -> None:
    """Make the phantom, plan, preprocess, train, predict, evaluate, and print a table; resume what an earlier run left.

    Args:
        folder: where everything goes: source data, nnU-Net's three folders, predictions, picture.
        device: `cpu` for the small setting, `cuda` or `mps` for the full-size one.

    Raises:
        InputError: nilearn or the device is missing, the folder can't be written to or holds the other setting, or one
            of nnU-Net's commands failed.
    """
    check_device(device)
    load_head()
    demo = Demo(folder.absolute(), device, SMALL if device == "cpu" else FULL_SIZE)
    demo.claim_folder()
    demo.show_environment()
    steps = [
        ("Make the phantom, in BraTS 2021's layout", demo.source, demo.make_source),
        ("Convert it to an nnU-Net raw dataset", demo.dataset, demo.convert),
        ("Plan and preprocess", demo.preprocessed, demo.plan_and_preprocess),
        ("Train", demo.fold / "validation" / "summary.json", demo.train),
        ("Predict the held-out cases", demo.predictions, demo.predict),
        ("Evaluate", demo.summary, demo.evaluate),
        ("Draw", demo.picture, demo.draw),
    ]
    for number, (title, product, make) in enumerate(steps, start=1):
        done = product.exists()
        print(f"\n[{number}/{len(steps)}] {title}{': done before, ' if done else ' -> '}{product}", flush=True)
        if not done:
            make()
    print(f"\n{demo.table()}", flush=True)


@dataclass(frozen=True)
class Demo:
    """Where each product lies, and the step that makes it. A product is renamed into place when it is complete."""

    folder: Path
    device: str
    setting: Setting

    @property
    def source(self) -> Path:
        """Case folders as the challenge hands them out."""
        return self.folder / "BraTS2021_phantom"

    @property
    def dataset(self) -> Path:
        """The raw dataset; the held-out cases are in imagesTs and labelsTs."""
        return self.folder / "nnUNet_raw" / DATASET_NAME

    @property
    def preprocessed(self) -> Path:
        """The last thing that nnU-Net's preprocessing leaves."""
        return self.folder / "nnUNet_preprocessed" / DATASET_NAME / "gt_segmentations"

    @property
    def model(self) -> Path:
        """The folder that nnU-Net gives the trained model."""
        name = f"{self.setting.trainer}__{self.setting.plans}__{CONFIGURATION}"
        return self.folder / "nnUNet_results" / DATASET_NAME / name

    @property
    def fold(self) -> Path:
        """The model folder's one fold."""
        return self.model / f"fold_{FOLD}"

    @property
    def predictions(self) -> Path:
        """Segmentations of the held-out cases."""
        return self.folder / "predictions"

    @property
    def summary(self) -> Path:
        """nnU-Net's evaluation of the predictions."""
        return self.folder / "summary.json"

    @property
    def picture(self) -> Path:
        """One held-out case."""
        return self.folder / "demo.png"

    def claim_folder(self) -> None:
        """Write the setting into the folder, or check that it is the one that stands there."""
        settings_file = self.folder / "setting.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not settings_file.exists():
                write_json(asdict(self.setting), settings_file)
        except OSError as error:
            raise InputError(f"Expected a folder that can be written to, got {self.folder} ({error.strerror}); "
                             f"choose another with -o.") from error
        found = json.loads(settings_file.read_text())
        if found != asdict(self.setting):
            raise InputError(f"Expected an empty folder or a demo with {self.setting.trainer}, but {self.folder} holds "
                             f"one with {found.get('trainer')} and other settings; choose another folder with -o.")

    def show_environment(self) -> None:
        """Print what a user would export to run the same commands by hand."""
        for name, value in self._folders().items():
            print(f"export {name}={shlex.quote(value)}")

    def make_source(self) -> None:
        """Make all cases, those to train with first."""
        unfinished = beside(self.source)
        n_cases = self.setting.n_training + self.setting.n_held_out
        # A coarse case takes less time than a process needs to start.
        processes = n_processes() if self.setting is FULL_SIZE else 1
        make_phantom(unfinished, n_cases, self.setting.spacing_mm, processes=processes)
        unfinished.rename(self.source)

    def convert(self) -> None:
        """Hold out the last cases."""
        cases = sorted(case.name for case in self.source.iterdir())
        convert_brats(self.source, self.dataset, held_out=cases[self.setting.n_training:], strict=True)

    def plan_and_preprocess(self) -> None:
        """Let nnU-Net plan and preprocess."""
        n = n_processes()
        self._run("nnUNetv2_plan_and_preprocess", "-d", DATASET_ID, "-c", CONFIGURATION, "-npfp", n, "-np", n,
                  "--verify_dataset_integrity")

    def train(self) -> None:
        """Train one fold, or continue where its last checkpoint stands."""
        planned = self.preprocessed.with_name("nnUNetPlans.json")
        plans_file = planned.with_name(f"{self.setting.plans}.json")
        if not plans_file.exists():
            write_json(_cut_down(json.loads(planned.read_text()), self.setting.plans), plans_file)
            print(f"Wrote smaller plans for the CPU: {plans_file}")
        resume = ["--c"] if any(self.fold.glob("checkpoint_*.pth")) else []
        self._run("nnUNetv2_train", DATASET_ID, CONFIGURATION, FOLD, "-tr", self.setting.trainer,
                  "-p", self.setting.plans, "-device", self.device, *resume)

    def predict(self) -> None:
        """Predict the held-out cases."""
        unfinished = beside(self.predictions)
        n = n_processes()
        self._run("nnUNetv2_predict", "-i", self.dataset / "imagesTs", "-o", unfinished, "-d", DATASET_ID,
                  "-c", CONFIGURATION, "-f", FOLD, "-tr", self.setting.trainer, "-p", self.setting.plans,
                  "-device", self.device, "-npp", n, "-nps", n)
        unfinished.rename(self.predictions)

    def evaluate(self) -> None:
        """Compare the predictions with the labels that nnU-Net never saw."""
        with whole(self.summary) as unfinished:
            self._run("nnUNetv2_evaluate_folder", self.dataset / "labelsTs", self.predictions, "-djfile",
                      self.model / "dataset.json", "-pfile", self.model / "plans.json", "-o", unfinished,
                      "-np", n_processes())

    def draw(self) -> None:
        """Draw the first held-out case."""
        case = min(self.predictions.glob("*.nii.gz")).name.removesuffix(".nii.gz")
        images = {channel: _read(self.dataset / "imagesTs" / f"{case}_{number:04d}.nii.gz")
                  for number, channel in enumerate(CHANNELS)}
        reference, prediction = (_read(folder / f"{case}.nii.gz")
                                 for folder in (self.dataset / "labelsTs", self.predictions))
        with whole(self.picture) as unfinished:
            _draw_case(case, images, reference, prediction, unfinished)

    def table(self) -> str:
        """What came out, and where it lies."""
        n_parameters, log = read_checkpoint(self.fold / CHECKPOINT)
        epoch_s = epoch_seconds(log)
        summary = json.loads(self.summary.read_text())
        rows = [("parameters", f"{n_parameters:,}"), (f"epoch time ({self.device})", f"{epoch_s:.1f} s")]
        for name, region in REGIONS.items():
            dice = [case["metrics"][str(region)]["Dice"] for case in summary["metric_per_case"]]
            rows.append((f"Dice {name}", f"{mean(dice):.3f}   ({min(dice):.3f} to {max(dice):.3f}, {len(dice)} cases)"))
        lines = [f"  {name:<24}{value}" for name, value in rows]
        return "\n".join([f"{self.setting.trainer} on held-out cases of the phantom", *lines, "",
                          f"files    {self.folder}", f"picture  {self.picture}"])

    def _folders(self) -> dict[str, str]:
        return {name: str(self.folder / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}

    def _run(self, command: str, *arguments: object) -> None:
        """Run one of nnU-Net's commands in the folders of the demo, its output shown."""
        line = [command, *map(str, arguments)]
        print(f"$ {shlex.join(line)}\n", flush=True)
        environment = {**os.environ, **self._folders(), "nnUNet_def_n_proc": str(n_processes())}
        code = subprocess.run([script(command), *line[1:]], env=environment).returncode
        if code != 0:
            raise InputError(f"{command} was expected to finish and stopped with exit code {code}; mend what it says "
                             f"above and run the demo again, it resumes here.")


def _cut_down(plans: dict[str, Any], name: str) -> dict[str, Any]:
    """Plans for a CPU: patches of 32³ voxels and half the channels. The preprocessed data serve both."""
    small = deepcopy(plans)
    small["plans_name"] = name
    configuration = small["configurations"][CONFIGURATION]
    configuration["patch_size"] = [32, 32, 32]
    architecture = configuration["architecture"]["arch_kwargs"]
    architecture["features_per_stage"] = [features // 2 for features in architecture["features_per_stage"]]
    return small


def _draw_case(case: str, images: dict[str, np.ndarray], reference: np.ndarray, prediction: np.ndarray,
               file: Path) -> None:
    """Draw an axial slice in each modality, plain above and with all regions outlined below; arrays are (Z, Y, X)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    level = np.argmax((reference > 0).sum(axis=(1, 2)))
    brain = np.argwhere(images[CHANNELS[0]][level] > 0)
    (top, left), (bottom, right) = brain.min(axis=0), brain.max(axis=0) + 1
    figure = Figure(figsize=(12, 7.6), facecolor="black", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(CHANNELS))
    for column, (channel, volume) in enumerate(images.items()):
        image = volume[level, top:bottom, left:right]
        for axis in axes[:, column]:
            axis.imshow(image, cmap="gray", vmin=0, vmax=np.percentile(image, 99.5))
            axis.axis("off")
        axes[0, column].set_title(channel, color="white")
        for segmentation, look in ((reference, REFERENCE_LINE), (prediction, PREDICTION_LINE)):
            _outline(axes[1, column], segmentation[level, top:bottom, left:right], look)

    figure.suptitle(f"{case}, held out: whole tumour, tumour core and enhancing tumour", color="white")
    figure.legend(handles=[Line2D([], [], **REFERENCE_LINE, label="reference"),
                           Line2D([], [], **PREDICTION_LINE, label="prediction")],
                  loc="outside lower center", ncols=2, facecolor="black", labelcolor="white")
    figure.savefig(file, dpi=120)


def _outline(axis: Any, segmentation: np.ndarray, look: dict[str, Any]) -> None:
    for region in REGIONS.values():
        mask = np.isin(segmentation, region)
        if mask.any():
            axis.contour(mask, levels=[0.5], **{f"{name}s": value for name, value in look.items()})


def _read(file: Path) -> np.ndarray:
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(sitk.ReadImage(file))
