"""The verb predicts what nnU-Net predicts, case by case, and says in one sentence what it could not."""

import argparse
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.inference import predict_from_raw_data

from nnunetv2_gsp.prediction import predicting, submitting
from nnunetv2_gsp.sharing import export_model
from nnunetv2_gsp.slurm import SlurmResources
from tests.cli.commands import calls_of, exit_code
from tests.cli.verbs import verbs
from tests.datasets.sources import voxels
from tests.prediction.models import SHAPES, nnunets_predictions, write_images, write_model
from tests.sharing.models import DATASET

BESIDE = {"dataset.json", "plans.json", "predict_from_raw_data_args.json"}


@pytest.fixture(scope="module")
def model_folder(nnunet_folders):
    return write_model(nnunet_folders)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("raw") / "images")


@pytest.fixture(scope="module")
def nnunets(model_folder, images, tmp_path_factory):
    return nnunets_predictions(model_folder, images, tmp_path_factory.mktemp("nnunet") / "out", True)


def predict(images, output, model, *more):
    return exit_code("predict", "-i", images, "-o", output, "-m", model, "-device", "cpu", *more)


def names_in(folder):
    return {file.name for file in folder.iterdir()} - BESIDE


def assert_same(ours, nnunets, names=SHAPES):
    for name in names:
        ours_image, nnunets_image = (sitk.ReadImage(folder / f"{name}.nii.gz") for folder in (ours, nnunets))
        for geometry in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection", "GetPixelID"):
            assert getattr(ours_image, geometry)() == getattr(nnunets_image, geometry)()
        assert np.array_equal(*map(sitk.GetArrayFromImage, (ours_image, nnunets_image)))


def test_a_model_folder_predicts_as_with_nnunet(model_folder, images, nnunets, tmp_path, capsys):
    assert predict(images, tmp_path / "new" / "out", model_folder) == 0
    out = tmp_path / "new" / "out"
    assert_same(out, nnunets)
    assert len(np.unique(voxels(out / "a.nii.gz"))) > 1
    assert {file.name for file in out.iterdir()} == {f"{name}.nii.gz" for name in SHAPES} | BESIDE
    assert capsys.readouterr().out == f"Wrote 3 predictions into {out}.\n"


def test_a_bundle_predicts_the_same(model_folder, images, nnunets, tmp_path):
    bundle = export_model(model_folder, tmp_path / "model.zip")
    message = exit_code(
        "predict", "-i", images, "-o", tmp_path / "no", "-m", bundle, "-chk", "best.pth", "-device", "cpu"
    )
    assert "expected best.pth in the zip, got checkpoint_final.pth" in message.lower()
    assert predict(images, tmp_path / "out", bundle) == 0
    assert_same(tmp_path / "out", nnunets)


def test_nnunets_names_of_the_model_and_parts(model_folder, images, nnunets, tmp_path):
    model = ("-d", DATASET, "-c", "3d_fullres", "-tr", "nnUNetTrainerGSP", "-f", 0, "-device", "cpu")
    for part, names in ((1, {"b.nii.gz"}), (0, {"a.nii.gz", "b.nii.gz", "c.nii.gz"})):
        parts = ("-num_parts", 2, "-part_id", part)
        assert exit_code("predict", "-i", images, "-o", tmp_path, *model, *parts) == 0
        assert names_in(tmp_path) == names
    assert_same(tmp_path, nnunets)


@pytest.mark.parametrize(
    ("flags", "settings"),
    [(("--disable_tta",), {"use_mirroring": False}), (("-step_size", 1), {"tile_step_size": 1})],
)
def test_flags_change_what_is_predicted_as_in_nnunet(flags, settings, model_folder, images, nnunets, tmp_path):
    assert predict(images, tmp_path / "ours", model_folder, *flags) == 0
    assert_same(tmp_path / "ours", nnunets_predictions(model_folder, images, tmp_path / "nnunets", **settings))
    usual, ours = (
        np.concatenate([voxels(folder / f"{name}.nii.gz").ravel() for name in SHAPES])
        for folder in (nnunets, tmp_path / "ours")
    )
    assert (usual != ours).any()  # or the flag would show nothing


def test_every_flag_is_passed_on(monkeypatch):
    monkeypatch.setattr("nnunetv2_gsp.prediction.model.trained_model", lambda *named: named)
    here = calls_of(monkeypatch, predicting, "predict_folder", predicting.Predictions(1, 0, ()))
    in_jobs = calls_of(monkeypatch, submitting, "submit_predictions", submitting.Submission(1, 0, (), (), ()))
    shared = (
        "-i in -o out -d D -tr T -p P -c C -f 0 all -chk best.pth -step_size 0.7 --disable_tta --save_probabilities "
        "-prev_stage_predictions before -device cpu --not_on_device --verbose --disable_progress_bar"
    )
    for line in (
        "--continue_prediction -num_parts 3 -part_id 2",
        "--executor slurm -n 4 --partition gpu --gpus a100:1 --cpus 4 --time 60",
    ):
        assert exit_code("predict", *shared.split(), *line.split()) == 0
    wishes = {
        "image_folder": Path("in"),
        "output": Path("out"),
        "model": ("D", "T", "P", "C"),
        "folds": ["0", "all"],
        "checkpoint_name": "best.pth",
        "save_probabilities": True,
        "previous_stage": Path("before"),
        "device": "cpu",
    }
    settings = {
        "step_size": 0.7,
        "mirroring": False,
        "all_on_device": False,
        "tells_times": True,
        "shows_progress": False,
    }
    assert here == [{**wishes, **settings, "continue_prediction": True, "n_parts": 3, "part": 2}]
    slurm = SlurmResources("gpu", "a100:1", 4, 60)
    assert in_jobs == [{**wishes, "settings": settings, "n_jobs": 4, "slurm": slurm}]


@pytest.mark.parametrize(
    "command", [predict_from_raw_data.predict_entry_point, predict_from_raw_data.predict_entry_point_modelfolder]
)
def test_every_flag_of_nnunets_command_is_taken(command, monkeypatch):
    theirs = {}

    def flags_of(parser):
        theirs.update({flag: action.nargs for action in parser._actions for flag in action.option_strings})
        raise SystemExit

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", flags_of)
    with pytest.raises(SystemExit):
        command()
    ours = {flag: action.nargs for action in verbs()["predict"]._actions for flag in action.option_strings}
    assert {flag: ours.get(flag, "refused") for flag in theirs} == theirs
    assert "-npp" in theirs


def test_times_are_told_and_no_progress_is_shown(model_folder, images, nnunets, tmp_path, capsys):
    asked = ("--verbose", "--disable_progress_bar", "-npp", 0, "-nps", 0, "--not_on_device")
    assert predict(images, tmp_path / "out", model_folder, *asked) == 0
    printed = capsys.readouterr()
    *times, _ = printed.out.splitlines()
    sizes = ["10×9×10", "7×3×6", "13×8×7"]  # nonzero voxels, times their spacing of 0.7, 0.9 and 1.2 mm
    assert [line.split(" ")[:2] for line in times] == [
        [f"{name}:", size] for name, size in zip(SHAPES, sizes, strict=True)
    ]
    assert "predicting" not in printed.err
    assert_same(tmp_path / "out", nnunets)


def test_probabilities_are_nnunets(model_folder, images, nnunets, tmp_path):
    assert predict(images, tmp_path / "out", model_folder, "--save_probabilities") == 0
    assert names_in(tmp_path / "out") == {f"{name}{end}" for name in SHAPES for end in (".nii.gz", ".npz", ".pkl")}
    for name in SHAPES:
        ours, theirs = (np.load(folder / f"{name}.npz")["probabilities"] for folder in (tmp_path / "out", nnunets))
        assert np.allclose(ours, theirs, rtol=0, atol=1e-5)


def test_an_unreadable_case_is_named_and_the_others_are_predicted(model_folder, images, nnunets, tmp_path, capsys):
    damaged = tmp_path / "images"
    shutil.copytree(images, damaged)
    whole = (damaged / "b_0000.nii.gz").read_bytes()
    (damaged / "b_0000.nii.gz").write_bytes(whole[: len(whole) // 2])
    (damaged / "d_0000.nii.gz").write_text("no image")
    shutil.copy(damaged / "a_0000.nii.gz", damaged / "e_0000.nii.gz")
    shutil.copy(damaged / "a_0000.nii.gz", damaged / "e_0001.nii.gz")
    assert predict(damaged, tmp_path / "out", model_folder) == 1
    assert names_in(tmp_path / "out") == {"a.nii.gz", "c.nii.gz"}
    assert_same(tmp_path / "out", nnunets, ["a", "c"])
    printed = capsys.readouterr()
    problems = [line for line in printed.err.splitlines() if "expected" in line]
    assert [problem[:2] for problem in problems] == ["b:", "d:", "e:"]
    assert "b_0000.nii.gz: expected a whole image, got one that is cut off" in problems[0]
    assert "expected as many channels as the model has, 1 (MR), got 2" in problems[2]
    assert printed.out.endswith("; 3 could not be predicted, see above.\n")


def four_axes(image):
    return sitk.JoinSeries([image, image])


def cut(image):
    return image[:-1]


@pytest.mark.parametrize(
    ("change", "file", "sentence"),
    [
        (four_axes, "b_0000.nii.gz", "an image of 3 axes, one file a channel, got one of 4; split it into files."),
        (cut, "b_0001.nii.gz", "9×5×7 voxels as in b_0000.nii.gz, got 8×5×7."),
    ],
)
def test_images_that_nnunet_could_not_answer_are_named_and_the_others_are_predicted(
    change, file, sentence, model_folder, images, tmp_path, capsys
):
    some = tmp_path / "images"
    shutil.copytree(images, some)
    sitk.WriteImage(change(sitk.ReadImage(images / "b_0000.nii.gz")), some / file)
    assert predict(some, tmp_path / "out", model_folder) == 1
    assert names_in(tmp_path / "out") == {"a.nii.gz", "c.nii.gz"}
    assert capsys.readouterr().err.strip().endswith(f"{file}: expected {sentence}")


def test_nan_that_the_reader_passes_on_is_one_sentence(model_folder, images, nnunets, tmp_path, capsys, monkeypatch):
    read = SimpleITKIO.read_images

    def with_nan(self, files):
        image, properties = read(self, files)
        if "b_0000" in files[0]:
            image[0, 3, 2, 2] = np.nan
        return image, properties

    monkeypatch.setattr(SimpleITKIO, "read_images", with_nan)
    assert predict(images, tmp_path / "out", model_folder) == 1
    assert "b: expected finite logits, got some that are NaN or infinite" in capsys.readouterr().err.replace(
        "Exp", "exp"
    )
    assert_same(tmp_path / "out", nnunets, ["a", "c"])


def test_files_of_another_name_are_told_and_those_of_a_mac_are_not_taken(model_folder, images, tmp_path, capsys):
    some = tmp_path / "images"
    shutil.copytree(images, some)
    (some / "._a_0000.nii.gz").write_text("of a Mac")
    shutil.copy(some / "a_0000.nii.gz", some / "patient.nii.gz")
    assert predict(some, tmp_path / "out", model_folder) == 0
    assert names_in(tmp_path / "out") == {"a.nii.gz", "b.nii.gz", "c.nii.gz"}
    assert "left out, as they are not named CASE_0000.nii.gz: patient.nii.gz" in capsys.readouterr().err


def test_what_is_predicted_is_left(model_folder, images, nnunets, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "b.nii.gz").write_text("mine")
    assert predict(images, out, model_folder, "--continue_prediction") == 0
    assert (out / "b.nii.gz").read_text() == "mine"
    assert capsys.readouterr().out == f"Wrote 2 predictions into {out}; 1 were there.\n"
    assert_same(out, nnunets, ["a", "c"])


def test_a_full_disk_leaves_finished_cases_alone(model_folder, images, nnunets, tmp_path, monkeypatch):
    def half(self, seg, file, properties, write=SimpleITKIO.write_seg):
        write(self, seg, file, properties)
        if "/b." in file:
            Path(file).write_bytes(b"half")
            raise RuntimeError("No space left on device")

    monkeypatch.setattr(SimpleITKIO, "write_seg", half)
    message = predict(images, tmp_path / "out", model_folder)
    assert message.startswith(f"nnUNetv2_gsp predict: {tmp_path / 'out'}: expected to write a segmentation, got ")
    assert names_in(tmp_path / "out") == {"a.nii.gz"}
    assert_same(tmp_path / "out", nnunets, ["a"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "expected a model, by -m or by -d, got none"),
        (("-m", "model", "-d", "1"), "expected a model, by -m or by -d, got two"),
        (("-d", "1"), "expected a configuration with -c beside -d, got none"),
        (("-m", "model", "-part_id", "2", "-num_parts", "2"), "expected -part_id from 0 to 1, one below -num_parts"),
        (("-m", "not_there"), "not_there: expected a model folder or an exported model, got none"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, sentence, tmp_path):
    message = exit_code("predict", "-i", tmp_path, "-o", tmp_path / "out", "-device", "cpu", *arguments)
    assert sentence.lower() in message.lower()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dataset", ["999", "Dataset999_Missing", "brain"])
def test_a_dataset_that_is_not_there_is_one_sentence(dataset, nnunet_folders, tmp_path):
    out = ("-o", tmp_path / "out", "-device", "cpu")
    message = exit_code("predict", "-i", tmp_path, *out, "-d", dataset, "-c", "3d_fullres")
    assert message.startswith("nnUNetv2_gsp predict: ")
    assert dataset in message
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_that_is_cut_off_is_one_sentence(model_folder, images, tmp_path):
    damaged = tmp_path / "model"
    shutil.copytree(model_folder, damaged)
    checkpoint = damaged / "fold_0" / "checkpoint_final.pth"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    message = predict(images, tmp_path / "out", damaged)
    assert message.startswith(f"nnUNetv2_gsp predict: {damaged}: expected a model that loads, got ")
    assert message.endswith("; name another model with -m.")
    assert not (tmp_path / "out").exists()


def test_a_trainer_that_is_not_here_is_one_sentence(model_folder, images, tmp_path):
    foreign = tmp_path / "model"
    shutil.copytree(model_folder, foreign)
    checkpoint = foreign / "fold_0" / "checkpoint_final.pth"
    content = torch.load(checkpoint, weights_only=False)
    torch.save({**content, "trainer_name": "nnUNetTrainerOfNobody"}, checkpoint)
    message = predict(images, tmp_path / "out", foreign)
    assert "Expected a trainer that nnU-Net finds here, got nnUNetTrainerOfNobody; " in message
    assert not (tmp_path / "out").exists()


def test_a_folder_without_images_is_one_sentence(model_folder, tmp_path):
    message = predict(tmp_path, tmp_path / "out", model_folder)
    assert message.endswith("expected images named CASE_0000.nii.gz, got none; name another folder of images with -i.")
    assert not (tmp_path / "out").exists()
