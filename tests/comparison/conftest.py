import json

import pytest

from nnunetv2_gsp.comparison.comparison import compare
from nnunetv2_gsp.comparison.pairing import pair_folders
from nnunetv2_gsp.metrics.definitions import DEFINITIONS
from tests.comparison.contenders import DATASET, LABELS, N_CASES, tumour, write_model, write_predictions
from tests.metrics.drawings import write, write_dataset_json


@pytest.fixture(scope="package")
def folders(tmp_path_factory):
    """References, three folders of predictions of growing quality, and images."""
    base = tmp_path_factory.mktemp("folders")
    for name, noise in (("gt", 0.0), ("poor", 0.5), ("good", 0.05), ("equal", 0.5)):
        write_predictions(base / name, noise)
    for case in range(N_CASES):
        write(50 * tumour(case) + 40, base / "images" / f"case_{case:02d}_0000.nii.gz", (2.0, 1.0, 1.0))
    write_dataset_json(base, LABELS)
    return base


@pytest.fixture(scope="package")
def comparison(folders):
    pairing = pair_folders(
        [folders / name for name in ("poor", "good", "equal")], folders / "gt", images=folders / "images"
    )
    return compare(pairing, DEFINITIONS["directed"], processes=1)


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Two models of two folds in nnU-Net's folders."""
    import nnunetv2.paths

    folds = [range(7), range(7, N_CASES)]
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
        (tmp_path / name / DATASET).mkdir(parents=True)
    assert nnunetv2.paths.nnUNet_results.is_set()
    write_predictions(tmp_path / "preprocessed" / DATASET / "gt_segmentations", 0)
    splits = [{"train": [], "val": [f"case_{case:02d}" for case in fold]} for fold in folds]
    (tmp_path / "preprocessed" / DATASET / "splits_final.json").write_text(json.dumps(splits))
    write_model(tmp_path / "results", "nnUNetTrainer", 0.5, folds)
    write_model(tmp_path / "results", "nnUNetTrainerGSP", 0.05, folds)
    return tmp_path
