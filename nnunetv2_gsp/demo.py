"""Demonstrates the whole workflow on a brain tumour phantom, from raw files to a comparison and a submission.

Each step leaves its product in the demo folder, and is skipped if the product exists, so a second run resumes.
"""

import json
import logging
import shlex
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnunetv2_gsp.comparison.report import compare_trained_models
from nnunetv2_gsp.comparison.verdict import verdict
from nnunetv2_gsp.datasets.challenges import convert_source
from nnunetv2_gsp.datasets.phantom import load_head, make_phantom
from nnunetv2_gsp.errors import ConflictingInputError, DamagedFileError, InputError
from nnunetv2_gsp.files import beside, write_json
from nnunetv2_gsp.metrics.definitions import DEFINITIONS
from nnunetv2_gsp.metrics.evaluation import evaluate_folders
from nnunetv2_gsp.nnunet import FOLDERS, check_device, environment_with, n_processes, run_to_its_end
from nnunetv2_gsp.submission import check_submission, write_submission
from nnunetv2_gsp.web.writing import can_write_page, write_page

_log = logging.getLogger(__name__)

DATASET_ID = 999
DATASET_NAME = f"Dataset{DATASET_ID}_BraTSPhantom"
CONFIGURATION = "3d_fullres"
FOLD = 0
CHALLENGE = "brats2021"  # whose layout the phantom has
DEFINITION = "brats2023"  # of the metrics


@dataclass(frozen=True)
class Setting:
    """Sizes, trainers and plans of a demo, small for a laptop or full-size; both trainers train equally long.

    Attributes:
        n_training: number of cases for training and validation.
        n_held_out: number of cases that are held out for prediction.
        spacing_mm: edge of the isotropic voxels in mm.
        stock: name of stock nnU-Net's trainer.
        gsp: name of the GSP network's trainer.
        plans: name of the plans that both trainers use.
    """

    n_training: int
    n_held_out: int
    spacing_mm: float
    stock: str
    gsp: str
    plans: str


SMALL = Setting(15, 4, 3.0, "nnUNetTrainer_5epochs", "nnUNetTrainerGSP_5epochs", "nnUNetPlansSmall")
FULL_SIZE = Setting(40, 10, 1.0, "nnUNetTrainer_50epochs", "nnUNetTrainerGSP_50epochs", "nnUNetPlans")


def run_demo(output: Path, device: str) -> "Demo":
    """Make the phantom, train stock and GSP on it, compare them, predict and submit; resume an earlier run.

    Args:
        output: demo folder, for source data, nnU-Net's three folders, comparison, predictions and submission.
        device: device for training and prediction, one of `nnunet.DEVICES`; cpu takes the small setting, the others the
            full-size one.

    Returns:
        The demo, with the path of each product.

    Raises:
        InputError: nilearn or the device is missing, the folder can't be written to, or holds another setting or
            something other than a demo, or a step failed.
    """
    check_device(device)
    load_head()
    demo = Demo(output.absolute(), device, SMALL if device == "cpu" else FULL_SIZE)
    demo.claim_folder()
    for name, folder in demo.nnunet_folders.items():
        _log.info("export %s=%s", name, shlex.quote(folder))  # to run nnU-Net's commands by hand
    with environment_with({**demo.nnunet_folders, "nnUNet_def_n_proc": str(n_processes())}):
        demo.run_steps()
    return demo


@dataclass(frozen=True)
class Demo:
    """The path of each product, and the step that makes it. A product is renamed into place when it is complete.

    Attributes:
        folder: absolute path of the demo folder.
        device: device that nnU-Net trains and predicts on, one of `nnunet.DEVICES`.
        setting: sizes of the data, trainers and plans.

    Examples:
        >>> Demo(Path("demo"), "cpu", SMALL).page.as_posix()
        'demo/comparison/comparison.html'
    """

    folder: Path
    device: str
    setting: Setting

    @property
    def nnunet_folders(self) -> dict[str, str]:
        """nnU-Net's three folders by the names of their variables."""
        return {name: str(self.folder / name) for name in FOLDERS}

    @property
    def source(self) -> Path:
        """Folder of the case folders, in the challenge's layout."""
        return self.folder / "BraTS2021_phantom"

    @property
    def dataset(self) -> Path:
        """Raw dataset; the held-out cases are in imagesTs and labelsTs."""
        return self.folder / "nnUNet_raw" / DATASET_NAME

    @property
    def preprocessed(self) -> Path:
        """Folder that nnU-Net's preprocessing writes last."""
        return self.folder / "nnUNet_preprocessed" / DATASET_NAME / "gt_segmentations"

    @property
    def page(self) -> Path:
        """Page of the comparison of stock and GSP."""
        return self.folder / "comparison" / "comparison.html"

    @property
    def predictions(self) -> Path:
        """Folder of the held-out cases' predictions."""
        return self.folder / "predictions"

    @property
    def scores(self) -> Path:
        """File of the scores of the predictions."""
        return self.folder / "evaluation" / f"evaluation_{DEFINITION}.json"

    @property
    def submission(self) -> Path:
        """Archive of the predictions in the challenge's format."""
        return self.folder / "submission.zip"

    @property
    def web_page(self) -> Path:
        """Page that segments with the GSP model in a browser; made only where all that it needs is at hand."""
        return self.folder / "web_page" / "index.html"

    @property
    def model(self) -> Path:
        """Model folder of the GSP network."""
        return self._fold(self.setting.gsp).parent

    def validation(self, trainer: str) -> Path:
        """Return the file that a training writes last."""
        return self._fold(trainer) / "validation" / "summary.json"

    def run_steps(self) -> None:
        """Run every step whose product is missing, and check the archive.

        Raises:
            InputError: a step failed.
        """
        steps = [
            ("Make the phantom, in BraTS 2021's layout", self.source, self.make_source),
            ("Convert it to an nnU-Net raw dataset", self.dataset, self.convert),
            ("Plan and preprocess", self.preprocessed, self.plan_and_preprocess),
            ("Train stock nnU-Net", self.validation(self.setting.stock), lambda: self.train(self.setting.stock)),
            ("Train GSP", self.validation(self.setting.gsp), lambda: self.train(self.setting.gsp)),
            ("Compare them on the cases of the fold", self.page, self.compare),
            ("Predict the held-out cases with GSP", self.predictions, self.predict),
            ("Evaluate the predictions", self.scores, self.evaluate),
            ("Make the challenge's archive", self.submission, self.submit),
        ]
        n_steps = len(steps) + 1
        for number, (title, product, make) in enumerate(steps, start=1):
            done = product.exists()
            _log.info("\n[%d/%d] %s%s%s", number, n_steps, title, ": done before, " if done else " -> ", product)
            if not done:
                make()
        _log.info("\n[%d/%d] Check the archive", n_steps, n_steps)
        self.check_submission()
        self.make_web_page()

    def claim_folder(self) -> None:
        """Write the setting into an empty folder, or check that the folder's setting is the same.

        Raises:
            InputError: the folder can't be written to.
            DamagedFileError: the folder holds something other than a demo.
            ConflictingInputError: the folder holds a demo with other settings.
        """
        settings_file = self.folder / "setting.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not any(self.folder.iterdir()):
                write_json(asdict(self.setting), settings_file)
        except OSError as error:
            raise InputError(
                "a folder that can be written to",
                f"one that cannot ({error.strerror})",
                where=self.folder,
                parameters=["output"],
            ) from error
        try:
            found = json.loads(settings_file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DamagedFileError(
                "an empty folder or a demo",
                f"a folder whose {settings_file.name} is missing or cannot be read",
                where=self.folder,
                parameters=["output"],
            ) from error
        if found != asdict(self.setting):
            raise ConflictingInputError(
                f"an empty folder or a demo with {self.setting.stock} and {self.setting.gsp}",
                "a demo with other settings",
                where=self.folder,
                parameters=["output"],
            )

    def make_source(self) -> None:
        """Make all cases; the first ones are for training."""
        unfinished = beside(self.source)
        n_cases = self.setting.n_training + self.setting.n_held_out
        # A coarse case takes less time than a process needs to start.
        processes = n_processes() if self.setting is FULL_SIZE else 1
        make_phantom(unfinished, n_cases, self.setting.spacing_mm, processes=processes)
        unfinished.rename(self.source)

    def convert(self) -> None:
        """Convert all cases, the last ones held out, though they have labels."""
        cases = sorted(case.name for case in self.source.iterdir())
        convert_source("brats", self.source, self.dataset, held_out=cases[self.setting.n_training :], strict=True)

    def plan_and_preprocess(self) -> None:
        """Let nnU-Net plan and preprocess."""
        n = n_processes()
        _run(
            "nnUNetv2_plan_and_preprocess",
            "-d",
            DATASET_ID,
            "-c",
            CONFIGURATION,
            "-npfp",
            n,
            "-np",
            n,
            "--verify_dataset_integrity",
        )

    def train(self, trainer: str) -> None:
        """Train one fold, or continue from its last checkpoint.

        Args:
            trainer: name of the trainer, stock or GSP.
        """
        planned = self.preprocessed.with_name("nnUNetPlans.json")
        plans_file = planned.with_name(f"{self.setting.plans}.json")
        if not plans_file.exists():
            write_json(_cut_down(json.loads(planned.read_text()), self.setting.plans), plans_file)
            _log.info("Wrote smaller plans for the CPU: %s", plans_file)
        resume = ["--c"] if any(self._fold(trainer).glob("checkpoint_*.pth")) else []
        _run(
            "nnUNetv2_train",
            DATASET_ID,
            CONFIGURATION,
            FOLD,
            "-tr",
            trainer,
            "-p",
            self.setting.plans,
            "-device",
            self.device,
            *resume,
        )

    def compare(self) -> None:
        """Compare both models on the cases that they validated, stock as the baseline."""
        comparison = compare_trained_models(
            DATASET_NAME,
            [self.setting.stock, self.setting.gsp],
            DEFINITIONS[DEFINITION],
            self.page.parent,
            configuration=CONFIGURATION,
            plans_names=[self.setting.plans],
            folds=[str(FOLD)],
            processes=n_processes(),
            overwrite=True,
        )
        _log.info("%s", "\n".join([*comparison.caveats, verdict(comparison)]))

    def predict(self) -> None:
        """Predict the held-out cases."""
        unfinished = beside(self.predictions)
        n = n_processes()
        _run(
            "nnUNetv2_predict",
            "-i",
            self.dataset / "imagesTs",
            "-o",
            unfinished,
            "-d",
            DATASET_ID,
            "-c",
            CONFIGURATION,
            "-f",
            FOLD,
            "-tr",
            self.setting.gsp,
            "-p",
            self.setting.plans,
            "-device",
            self.device,
            "-npp",
            n,
            "-nps",
            n,
        )
        unfinished.rename(self.predictions)

    def evaluate(self) -> None:
        """Score the predictions against the references, which nnU-Net never saw."""
        evaluation = evaluate_folders(
            self.dataset / "labelsTs",
            self.predictions,
            DEFINITIONS[DEFINITION],
            processes=n_processes(),
            output=self.scores.parent,
            overwrite=True,
        )
        _log.info("%s", evaluation.text())

    def submit(self) -> None:
        """Write the archive."""
        write_submission(
            self.predictions, self.submission, CHALLENGE, images=self.dataset / "imagesTs", processes=n_processes()
        )

    def check_submission(self) -> None:
        """Check the archive against the rules of the challenge.

        Raises:
            InputError: the archive violates a rule.
        """
        violations = check_submission(self.submission, CHALLENGE, self.dataset / "imagesTs", n_processes())
        if violations:
            raise InputError(f"an archive by the rules of {CHALLENGE}", "; ".join(violations), where=self.submission)
        _log.info("No violation of the rules of %s", CHALLENGE)

    def make_web_page(self) -> None:
        """Make the page unless it is there, or something that it needs is not; nothing is downloaded."""
        if not self.web_page.exists() and can_write_page():
            write_page(self.model, self.web_page.parent)

    def _fold(self, trainer: str) -> Path:
        model = f"{trainer}__{self.setting.plans}__{CONFIGURATION}"
        return self.folder / "nnUNet_results" / DATASET_NAME / model / f"fold_{FOLD}"


def _run(command: str, *arguments: object) -> None:
    """Run a command of nnU-Net, and show its output."""
    run_to_its_end([command, *map(str, arguments)])


def _cut_down(plans: dict[str, Any], name: str) -> dict[str, Any]:
    """Return plans for a CPU: patches of 24³ voxels and half the channels; they share the preprocessed data."""
    small = deepcopy(plans)
    small["plans_name"] = name
    configuration = small["configurations"][CONFIGURATION]
    configuration["patch_size"] = [24, 24, 24]
    architecture = configuration["architecture"]["arch_kwargs"]
    architecture["features_per_stage"] = [features // 2 for features in architecture["features_per_stage"]]
    return small
