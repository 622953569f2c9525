"""What all challenges share: going on after an interruption, folders' names, the command line."""
import json
import re
import shutil
from pathlib import Path

import pytest

from nnunetv2_gsp import cli
from nnunetv2_gsp.datasets import conversion
from nnunetv2_gsp.datasets.brats import convert_brats
from nnunetv2_gsp.datasets.conversion import TEST, TRAINING, part_told_by, raw_dataset
from nnunetv2_gsp.datasets.promise12 import convert_promise12
from nnunetv2_gsp.errors import InputError
from tests.datasets.sources import write_brats, write_brats_case, write_promise12


@pytest.fixture
def source(tmp_path):
    return write_brats(tmp_path / "source", "brats2021")


@pytest.fixture
def dataset(tmp_path):
    return tmp_path / "raw" / "Dataset021_BraTS"


@pytest.fixture
def interrupted(source, dataset, monkeypatch):
    """Two of three cases are finished, and half of the last one's files."""
    def interrupt(image, file, target):
        if file.name == "BraTS2021_00002_t2.nii.gz":
            raise KeyboardInterrupt
        write(image, file, target)

    write = conversion._write_image
    with monkeypatch.context() as patch:
        patch.setattr(conversion, "_write_image", interrupt)
        with pytest.raises(KeyboardInterrupt):
            convert_brats(source, dataset)
    return dataset.with_name(f"unfinished_{dataset.name}")


def converted(source, dataset, monkeypatch):
    """Convert, and return which cases were done."""
    cases = []
    convert_case = conversion._convert_case
    monkeypatch.setattr(conversion, "_convert_case",
                        lambda form, folder, case: (cases.append(case.name), convert_case(form, folder, case)))
    convert_brats(source, dataset)
    return cases


def test_an_interrupted_conversion_shows_no_dataset_and_goes_on(interrupted, source, dataset, monkeypatch):
    assert not dataset.exists()
    assert converted(source, dataset, monkeypatch) == ["BraTS2021_00002"]
    assert not interrupted.exists()
    other = dataset.with_name("Dataset022_Other")
    convert_brats(source, other)
    assert ({path.relative_to(dataset): path.read_bytes() for path in dataset.rglob("*") if path.is_file()}
            == {path.relative_to(other): path.read_bytes() for path in other.rglob("*") if path.is_file()})


def test_what_changed_or_went_since_the_interruption_is_not_kept(interrupted, source, dataset, monkeypatch):
    write_brats_case(source / "BraTS2021_00001", "brats2021", number=7, labelled=False)
    shutil.rmtree(source / "BraTS2021_00000")
    assert converted(source, dataset, monkeypatch) == ["BraTS2021_00001", "BraTS2021_00002"]
    assert [file.name for file in (dataset / "labelsTr").iterdir()] == ["BraTS2021_00002.nii.gz"]
    assert sum(file.name.startswith("BraTS2021_00002") for file in (dataset / "imagesTr").iterdir()) == 4
    assert len(list((dataset / "imagesTr").iterdir())) == 4


@pytest.mark.parametrize("name", ["{}", "unfinished_{}", "replaced_{}"])
@pytest.mark.parametrize("kind", ["link", "broken link", "file"])
def test_only_a_real_folder_is_written_to_or_replaced(kind, name, source, dataset, tmp_path):
    found = dataset.with_name(name.format(dataset.name))
    found.parent.mkdir()
    if kind == "file":
        found.touch()
    else:
        found.symlink_to(source.parent if kind == "link" else tmp_path / "gone")
    with pytest.raises(InputError, match=f"a folder or nothing at {found}, found a link or a file; move it away"):
        convert_brats(source, dataset, overwrite=True)
    assert list(found.parent.iterdir()) == [found]


def test_another_edition_does_not_inherit_what_is_unfinished(interrupted, source, dataset):
    report = convert_brats(source, dataset, edition="brats2023")
    assert [skipped.case for skipped in report.skipped] == ["BraTS2021_00000", "BraTS2021_00002"]


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


def test_a_dataset_needs_a_free_id(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path))
    (tmp_path / "Dataset021_Other").mkdir()
    assert raw_dataset(22, "BraTS") == tmp_path / "Dataset022_BraTS"
    assert raw_dataset(21, "Other") == tmp_path / "Dataset021_Other"
    with pytest.raises(InputError, match="share 21 with Dataset021_Other"):
        raw_dataset(21, "BraTS")
    for number, name in ((0, "BraTS"), (1000, "BraTS"), (1, "../BraTS"), (1, "")):
        with pytest.raises(InputError, match="from 1 to 999"):
            raw_dataset(number, name)
    monkeypatch.delenv("nnUNet_raw")
    with pytest.raises(InputError, match="export"):
        raw_dataset(1, "BraTS")


def test_the_command_converts_and_says_what_it_skipped(source, tmp_path, monkeypatch, capsys):
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path))
    (source / "BraTS2021_00002" / "BraTS2021_00002_t1.nii.gz").unlink()
    with pytest.raises(SystemExit) as exited:
        cli.main(["convert", "brats", str(source), "-d", "7", "--edition", "2021", "-np", "1"])
    assert exited.value.code == 0
    printed = capsys.readouterr().out
    assert "brats2021: 1 cases to train with, 1 to predict, 1 skipped" in printed
    assert "skipped BraTS2021_00002: Expected" in printed
    assert json.loads((tmp_path / "Dataset007_BraTS" / "dataset.json").read_text())["numTraining"] == 1
    with pytest.raises(SystemExit) as exited:
        cli.main(["convert", "msd", str(source), "-d", "8", "--edition", "2021"])
    assert "with brats alone" in exited.value.code


def test_a_full_disk_stops_the_conversion_and_skips_nothing(tmp_path, monkeypatch, capsys):
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path / "raw"))
    (tmp_path / "raw").mkdir()
    source = write_promise12(tmp_path / "source")
    with monkeypatch.context() as patch:
        patch.setattr("SimpleITK.WriteImage", full_disk)
        with pytest.raises(SystemExit) as exited:
            cli.main(["convert", "promise12", str(source), "-d", "9", "-np", "1"])
    assert re.match(r"nnUNetv2_gsp convert: Expected room .* \S+Case00_0000\.mha, found .*free some space",
                    exited.value.code)
    assert not (tmp_path / "raw" / "Dataset009_PROMISE12").exists()
    assert convert_promise12(source, tmp_path / "raw" / "Dataset009_PROMISE12").skipped == []


def full_disk(*_, **__):
    raise RuntimeError("ITK ERROR: MetaImageIO: File cannot be written")
