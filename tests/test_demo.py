from copy import deepcopy

import pytest
import torch
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunetv2_gsp.cli import _parser
from nnunetv2_gsp.demo import FULL_SIZE, SMALL, Demo, _cut_down, run_demo
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.trainers import nnUNetTrainerGSP


@pytest.fixture
def demo(tmp_path) -> Demo:
    return Demo(tmp_path, "cpu", SMALL)


def test_a_folder_that_can_not_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="choose another with -o"):
        run_demo(tmp_path / "file" / "demo", "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_device_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="run with -device cpu"):
        run_demo(tmp_path / "demo", "cuda")
    assert not list(tmp_path.iterdir())


def test_a_folder_goes_on_with_its_own_setting_only(demo):
    demo.claim_folder()
    demo.claim_folder()
    with pytest.raises(InputError, match=f"{FULL_SIZE.stock} and {FULL_SIZE.gsp}, found one with other settings"):
        Demo(demo.folder, "cuda", FULL_SIZE).claim_folder()


@pytest.mark.parametrize(("file", "content"), [
    ("predictions", b""), ("setting.json", b"{"), ("setting.json", b"\xff")])
def test_a_folder_that_holds_something_else_is_not_claimed(file, content, demo):
    (demo.folder / file).write_bytes(content)
    with pytest.raises(InputError, match=r"an empty folder or a demo, found .* choose another folder with -o"):
        demo.claim_folder()
    assert [each.name for each in demo.folder.iterdir()] == [file]
    assert (demo.folder / file).read_bytes() == content


@pytest.fixture
def commands(monkeypatch):
    """Collect the commands of a demo instead of running them."""
    commands = []
    monkeypatch.setattr(Demo, "_run", lambda _, *command: commands.append([str(word) for word in command]))
    return commands


@pytest.mark.parametrize("checkpoints", [[], ["checkpoint_best.pth"]])
def test_an_interrupted_training_is_continued_and_a_new_one_is_not(demo, commands, checkpoints):
    (demo.preprocessed.parent / "nnUNetPlansSmall.json").parent.mkdir(parents=True)
    (demo.preprocessed.parent / "nnUNetPlansSmall.json").write_text("{}")
    fold = demo.validation(SMALL.gsp).parents[1]
    fold.mkdir(parents=True)
    for name in checkpoints:
        (fold / name).touch()
    for trainer in (SMALL.stock, SMALL.gsp):
        demo.train(trainer)
    assert [command[0] for command in commands] == ["nnUNetv2_train"] * 2
    assert ["--c" in command for command in commands] == [False, bool(checkpoints)]


def test_commands_are_such_as_can_be_typed(demo, commands):
    """What the demo shows, each parser takes: our own commands are parsed here, and nnU-Net's are its own."""
    for step in (demo.compare, demo.evaluate, demo.submit, demo.check_submission):
        step()
    verbs = [_parser().parse_args(command[1:]).verb for command in commands]
    assert verbs == ["compare", "evaluate", "submit", "check-submission"]


def test_a_command_that_fails_leaves_no_product(demo):
    with pytest.raises(InputError, match="nnUNetv2_predict -i was expected to finish"):
        demo.predict()
    assert not demo.predictions.exists()


@pytest.mark.parametrize("setting", [SMALL, FULL_SIZE])
def test_stock_and_gsp_train_equally_long(setting):
    stock, gsp = map(recursive_find_trainer_class_by_name, (setting.stock, setting.gsp))
    assert gsp.__name__.removeprefix("nnUNetTrainerGSP") == stock.__name__.removeprefix("nnUNetTrainer")
    assert not issubclass(stock, nnUNetTrainerGSP)
    assert issubclass(gsp, nnUNetTrainerGSP)


def test_smaller_plans_change_the_patch_and_the_channels_and_nothing_else():
    plans = {"plans_name": "nnUNetPlans", "configurations": {"3d_fullres": {
        "data_identifier": "nnUNetPlans_3d_fullres", "patch_size": [56, 64, 48],
        "architecture": {"arch_kwargs": {"n_stages": 3, "features_per_stage": [32, 64, 128]}}}}}
    before = deepcopy(plans)
    assert _cut_down(plans, "nnUNetPlansSmall") == {
        "plans_name": "nnUNetPlansSmall", "configurations": {"3d_fullres": {
            "data_identifier": "nnUNetPlans_3d_fullres", "patch_size": [24, 24, 24],
            "architecture": {"arch_kwargs": {"n_stages": 3, "features_per_stage": [16, 32, 64]}}}}}
    assert plans == before
