"""Does it work here? From a brain tumour phantom's raw files to a comparison with stock nnU-Net and a submission.

Each step is a command that one could type, leaves its product in the demo folder, and is skipped where that product
stands, so a second run resumes.
"""
import json
import shlex
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnunetv2_gsp.datasets.brats import convert_brats
from nnunetv2_gsp.datasets.phantom import load_head, make_phantom
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.files import beside, write_json
from nnunetv2_gsp.nnunet import check_device, n_processes, run_command

DATASET_ID = 999
DATASET_NAME = f"Dataset{DATASET_ID}_BraTSPhantom"
CONFIGURATION = "3d_fullres"
FOLD = 0
CHALLENGE = "brats2021"  # whose layout the phantom has


@dataclass(frozen=True)
class Setting:
    """What differs between a laptop's few minutes and the full size; stock and GSP train equally long."""

    n_training: int
    n_held_out: int
    spacing_mm: float
    stock: str
    gsp: str
    plans: str


SMALL = Setting(15, 4, 3.0, "nnUNetTrainer_5epochs", "nnUNetTrainerGSP_5epochs", "nnUNetPlansSmall")
FULL_SIZE = Setting(40, 10, 1.0, "nnUNetTrainer_50epochs", "nnUNetTrainerGSP_50epochs", "nnUNetPlans")


def run_demo(folder: Path, device: str) -> None:
    """Make the phantom, train GSP and stock on it, compare them, predict and submit; resume what an earlier run left.

    Args:
        folder: where everything goes: source data, nnU-Net's three folders, comparison, predictions, submission.
        device: `cpu` for the small setting, `cuda` or `mps` for the full-size one.

    Raises:
        InputError: nilearn or the device is missing, the folder can't be written to or holds the other setting or no
            demo, or one of the commands failed.
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
        ("Train stock nnU-Net", demo.validation(demo.setting.stock), lambda: demo.train(demo.setting.stock)),
        ("Train GSP", demo.validation(demo.setting.gsp), lambda: demo.train(demo.setting.gsp)),
        ("Compare them on the cases of the fold", demo.page, demo.compare),
        ("Predict the held-out cases with GSP", demo.predictions, demo.predict),
        ("Evaluate them", demo.scores, demo.evaluate),
        ("Make the challenge's archive", demo.submission, demo.submit),
    ]
    for number, (title, product, make) in enumerate(steps, start=1):
        done = product.exists()
        print(f"\n[{number}/{len(steps) + 1}] {title}{': done before, ' if done else ' -> '}{product}", flush=True)
        if not done:
            make()
    print(f"\n[{len(steps) + 1}/{len(steps) + 1}] Check it", flush=True)
    demo.check_submission()
    print(f"\nfiles       {demo.folder}\ncomparison  {demo.page}\nsubmission  {demo.submission}", flush=True)


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
    def page(self) -> Path:
        """The comparison of stock and GSP."""
        return self.folder / "comparison" / "comparison.html"

    @property
    def predictions(self) -> Path:
        """Segmentations of the held-out cases."""
        return self.folder / "predictions"

    @property
    def scores(self) -> Path:
        """How good they are."""
        return self.folder / "evaluation" / "evaluation_brats2023.json"

    @property
    def submission(self) -> Path:
        """The predictions as the challenge takes them."""
        return self.folder / "submission.zip"

    def validation(self, trainer: str) -> Path:
        """Return the last thing that a training leaves."""
        return self._fold(trainer) / "validation" / "summary.json"

    def claim_folder(self) -> None:
        """Write the setting into an empty folder, or check that it is the one that stands there."""
        settings_file = self.folder / "setting.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not any(self.folder.iterdir()):
                write_json(asdict(self.setting), settings_file)
        except OSError as error:
            raise InputError(f"Expected a folder that can be written to, got {self.folder} ({error.strerror}); "
                             f"choose another with -o.") from error
        try:
            found = json.loads(settings_file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"Expected an empty folder or a demo, found {self.folder}, whose {settings_file.name} is "
                             f"missing or can not be read; choose another folder with -o.") from error
        if found != asdict(self.setting):
            raise InputError(f"Expected an empty folder or a demo with {self.setting.stock} and {self.setting.gsp}, "
                             f"found one with other settings in {self.folder}; choose another folder with -o.")

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
        """Hold out the last cases, which `nnUNetv2_gsp convert` would train with, since they have labels."""
        cases = sorted(case.name for case in self.source.iterdir())
        convert_brats(self.source, self.dataset, held_out=cases[self.setting.n_training:], strict=True)

    def plan_and_preprocess(self) -> None:
        """Let nnU-Net plan and preprocess."""
        n = n_processes()
        self._run("nnUNetv2_plan_and_preprocess", "-d", DATASET_ID, "-c", CONFIGURATION, "-npfp", n, "-np", n,
                  "--verify_dataset_integrity")

    def train(self, trainer: str) -> None:
        """Train one fold, or continue where its last checkpoint stands."""
        planned = self.preprocessed.with_name("nnUNetPlans.json")
        plans_file = planned.with_name(f"{self.setting.plans}.json")
        if not plans_file.exists():
            write_json(_cut_down(json.loads(planned.read_text()), self.setting.plans), plans_file)
            print(f"Wrote smaller plans for the CPU: {plans_file}")
        resume = ["--c"] if any(self._fold(trainer).glob("checkpoint_*.pth")) else []
        self._run("nnUNetv2_train", DATASET_ID, CONFIGURATION, FOLD, "-tr", trainer, "-p", self.setting.plans,
                  "-device", self.device, *resume)

    def compare(self) -> None:
        """Put both side by side, stock as the baseline."""
        self._run("nnUNetv2_gsp", "compare", "-d", DATASET_ID, "-c", CONFIGURATION, "-tr", self.setting.stock,
                  self.setting.gsp, "-p", self.setting.plans, "-f", FOLD, "-o", self.page.parent, "--overwrite")

    def predict(self) -> None:
        """Predict the held-out cases."""
        unfinished = beside(self.predictions)
        n = n_processes()
        self._run("nnUNetv2_predict", "-i", self.dataset / "imagesTs", "-o", unfinished, "-d", DATASET_ID,
                  "-c", CONFIGURATION, "-f", FOLD, "-tr", self.setting.gsp, "-p", self.setting.plans,
                  "-device", self.device, "-npp", n, "-nps", n)
        unfinished.rename(self.predictions)

    def evaluate(self) -> None:
        """Score the predictions by the labels that nnU-Net never saw."""
        self._run("nnUNetv2_gsp", "evaluate", "-gt", self.dataset / "labelsTs", "-pred", self.predictions,
                  "--definition", "brats2023", "-o", self.scores.parent, "--overwrite")

    def submit(self) -> None:
        """Write the archive."""
        self._run("nnUNetv2_gsp", "submit", "-i", self.predictions, "-o", self.submission, *self._rules())

    def check_submission(self) -> None:
        """Let the rules of the challenge have the last word."""
        self._run("nnUNetv2_gsp", "check-submission", self.submission, *self._rules())

    def _rules(self) -> Sequence[object]:
        return "--challenge", CHALLENGE, "--images", self.dataset / "imagesTs"

    def _fold(self, trainer: str) -> Path:
        model = f"{trainer}__{self.setting.plans}__{CONFIGURATION}"
        return self.folder / "nnUNet_results" / DATASET_NAME / model / f"fold_{FOLD}"

    def _folders(self) -> dict[str, str]:
        return {name: str(self.folder / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}

    def _run(self, command: str, *arguments: object) -> None:
        """Run a command in the folders of the demo, its output shown."""
        line = [command, *map(str, arguments)]
        code = run_command(line, {**self._folders(), "nnUNet_def_n_proc": str(n_processes())})
        if code != 0:
            raise InputError(f"{shlex.join(line[:2])} was expected to finish and stopped with exit code {code}; mend "
                             f"what it says above and run the demo again, it resumes here.")


def _cut_down(plans: dict[str, Any], name: str) -> dict[str, Any]:
    """Plans for a CPU: patches of 24³ voxels and half the channels. The preprocessed data serve both."""
    small = deepcopy(plans)
    small["plans_name"] = name
    configuration = small["configurations"][CONFIGURATION]
    configuration["patch_size"] = [24, 24, 24]
    architecture = configuration["architecture"]["arch_kwargs"]
    architecture["features_per_stage"] = [features // 2 for features in architecture["features_per_stage"]]
    return small
