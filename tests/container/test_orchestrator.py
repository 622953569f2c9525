"""A container under the orchestrator of BraTS, whose package runs the images that teams handed in.

The package's own code names the cases, says what is mounted and called, and checks the output; Docker alone is
replaced, by a call of the module that the image starts. Tried with brats 0.1.14; nothing installs it here, as it asks
for Docker.
"""

from types import SimpleNamespace

import nibabel
import numpy as np
import pytest

from nnunetv2_gsp.challenges import CHALLENGES
from nnunetv2_gsp.container.__main__ import main
from tests.container.models import BRATS, container, write_brats_case, write_model

pytest.importorskip("brats", reason="needs the package brats")
pytestmark = pytest.mark.contract

from brats import constants
from brats.core import docker as runner
from brats.core import segmentation_algorithms as segmenters
from brats.utils.exceptions import BraTSContainerException

SUBJECTS = ("Anna", "Bert", "Carl")
TASKS = [
    ("AdultGliomaPreAndPostTreatment", "BraTS25_1", "brats2025", "brats2025"),
    ("AdultGliomaPreAndPostTreatment", "BraTS24_1", "brats-mlcube", "brats2024"),
    ("AdultGliomaPreTreatment", "BraTS23_1", "brats-mlcube", "brats2023"),
    ("Meningioma", "BraTS25_1", "brats2025", "brats2025-men"),
    ("MeningiomaRT", "BraTS25_1", "brats2025", "brats2025-men-rt"),
    ("Metastases", "BraTS25_1", "brats2025", "brats2025-met"),
    ("Pediatric", "BraTS25_1", "brats2025", "brats2025-ped"),
    ("Africa", "BraTS25_1", "brats2025", "brats2025-ssa"),
    ("GoAT", "BraTS25_1A", "brats2025", "brats2025-goat"),
]


class Docker:
    """Stands in for the client of Docker: runs the entry point on the folders that are mounted."""

    def __init__(self, folder):
        self._folder = folder
        self.images = SimpleNamespace(list=lambda name: [name])
        self.containers = self

    def run(self, image, volumes, network_mode, user, command="", **others):
        places = {bound["bind"]: str(place) for place, bound in volumes.items()}
        words = [str(self._folder), *command.split()]
        if not command:
            words += ["-i", places["/input"], "-o", places["/output"]]
        for bind, place in places.items():
            words = [word.replace(f"={bind}", f"={place}") for word in words]
        assert network_mode == "none"
        self._code = main(words)
        return self

    def attach(self, **others):
        return [b"what the container said"]

    def wait(self):
        return {"StatusCode": self._code}


def segmenter(name, algorithm, folder, monkeypatch):
    """Return the package's object for a task, which calls our image in place of the algorithm's."""
    monkeypatch.setattr(runner, "client", Docker(folder))
    task = getattr(segmenters, f"{name}Segmenter")
    chosen = task(algorithm=getattr(getattr(constants, f"{name}Algorithms"), algorithm))
    chosen.algorithm.additional_files = None  # which would be downloaded
    chosen.algorithm.run_args.cpu_compatible = True
    return chosen


def model_for(challenge, trained):
    about = CHALLENGES[challenge]
    dataset_json = {
        **BRATS,
        "channel_names": {str(number): name for number, name in enumerate(about.channels)},
        "labels": {"background": 0, **about.regions},
    }
    del dataset_json["regions_class_order"]
    if about.regions_class_order:
        dataset_json["regions_class_order"] = list(about.regions_class_order)
    return write_model(trained, dataset_json, plans_name=f"{challenge.replace('-', '')}Plans")


@pytest.mark.parametrize(("task", "algorithm", "interface", "challenge"), TASKS)
def test_the_orchestrator_gets_a_segmentation_of_each_subject(
    task, algorithm, interface, challenge, trained, tmp_path, monkeypatch
):
    folder = container([model_for(challenge, trained)], tmp_path / "algorithm", interface, challenge=challenge)
    for number, subject in enumerate(SUBJECTS[:2]):
        write_brats_case(tmp_path / "in" / subject, seed=number)
    segmenter(task, algorithm, folder, monkeypatch).infer_batch(tmp_path / "in", tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["Anna.nii.gz", "Bert.nii.gz"]
    found = np.asanyarray(nibabel.load(tmp_path / "out" / "Anna.nii.gz").dataobj)
    assert set(np.unique(found)) <= set(CHALLENGES[challenge].labels)


def test_one_bad_subject_costs_no_other_its_segmentation(brats_bundle, tmp_path, monkeypatch):
    folder = container([brats_bundle], tmp_path / "algorithm", "brats2025")
    for number, subject in enumerate(SUBJECTS):
        write_brats_case(tmp_path / "in" / subject, seed=number)
    image = tmp_path / "in" / "Bert" / "Bert-t1c.nii.gz"
    image.write_bytes(image.read_bytes()[:2000])
    chosen = segmenter("AdultGliomaPreAndPostTreatment", "BraTS25_1", folder, monkeypatch)
    chosen.infer_batch(tmp_path / "in", tmp_path / "out")
    has_findings = {
        file.name: bool(np.asanyarray(nibabel.load(file).dataobj).any()) for file in (tmp_path / "out").iterdir()
    }
    assert has_findings == {"Anna.nii.gz": True, "Bert.nii.gz": False, "Carl.nii.gz": True}


def test_a_run_without_any_segmentation_is_an_error(brats_bundle, tmp_path, monkeypatch):
    folder = container([brats_bundle], tmp_path / "algorithm", "brats2025")
    for image in write_brats_case(tmp_path / "in" / "Anna").iterdir():
        image.write_bytes(image.read_bytes()[:2000])
    chosen = segmenter("AdultGliomaPreAndPostTreatment", "BraTS25_1", folder, monkeypatch)
    with pytest.raises(BraTSContainerException, match="finished with an error"):
        chosen.infer_batch(tmp_path / "in", tmp_path / "out")


def test_the_orchestrator_takes_each_file_for_an_image_and_counts_them(tmp_path):
    """Why a report is not written among the results, and why each case needs a file."""
    write_brats_case(tmp_path / "in" / "BraTS-GLI-00000-100")
    (tmp_path / "out").mkdir()
    with pytest.raises(BraTSContainerException, match="Not enough output files"):
        runner._sanity_check_output(tmp_path / "in", tmp_path / "out", "")
    (tmp_path / "out" / "report.json").write_text("{}")
    with pytest.raises(nibabel.filebasedimages.ImageFileError):
        runner._sanity_check_output(tmp_path / "in", tmp_path / "out", "")
