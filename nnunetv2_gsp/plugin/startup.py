"""Imported by nnunetv2_gsp.pth at every interpreter start: must stay as cheap as this and must never fail."""
import os

EXT_TRAINER_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ext_trainer")


def append_ext_trainer_folder() -> None:
    """Add our folder to `nnUNet_extTrainer`, last and once, so that the user's own folders keep their precedence."""
    folders = [folder for folder in os.environ.get("nnUNet_extTrainer", "").split(os.pathsep) if folder]
    if EXT_TRAINER_FOLDER not in folders:
        os.environ["nnUNet_extTrainer"] = os.pathsep.join([*folders, EXT_TRAINER_FOLDER])


append_ext_trainer_folder()
