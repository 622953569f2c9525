from pathlib import Path

import pytest

from nnunetv2_gsp.datasets.source import TEST, TRAINING, part_told_by


@pytest.mark.parametrize(("path", "part"), [
    ("MICCAI_BraTS2020_TrainingData/BraTS20_Training_001", TRAINING), ("data/HGG/Brats18_x", TRAINING),
    ("RSNA_ASNR_MICCAI_BraTS2021_ValidationData", TEST), ("BraTSValidation", TEST), ("livechallenge_test_data", TEST),
    ("train/test", TEST), ("latest_download", None), ("training_and_validation", None), ("BraTS2021_00000", None)])
def test_folders_names_tell_what_is_to_train_with(path, part):
    for labelled in (False, True):
        assert part_told_by(Path("test/source") / path, Path("test/source"), labelled) == part


def test_the_sources_own_name_tells_of_files_without_label_alone():
    source = Path("data/MICCAI_ValidationData")
    for path in (source, source / "case"):
        assert part_told_by(path, source, labelled=False) == TEST
        assert part_told_by(path, source, labelled=True) is None
    assert part_told_by(source / "HGG/case", source, labelled=False) == TRAINING
