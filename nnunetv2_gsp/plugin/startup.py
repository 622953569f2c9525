"""Imported by nnunetv2_gsp.pth at every interpreter start, so it has to stay cheap and must never fail."""

import os

VARIABLE = "nnUNet_extTrainer"
EXT_TRAINER_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ext_trainer")

# Kept for `nnUNetv2_gsp doctor`, which imports this file itself and still has to tell whether the .pth did.
INHERITED_VALUE = os.environ.get(VARIABLE)


def append_ext_trainer_folder() -> None:
    """Append this package's folder to `nnUNet_extTrainer` once, so that the user's own folders keep precedence.

    Examples:
        >>> append_ext_trainer_folder()
        >>> os.environ[VARIABLE].split(os.pathsep).count(EXT_TRAINER_FOLDER)
        1
    """
    folders = [folder for folder in os.environ.get(VARIABLE, "").split(os.pathsep) if folder]
    if EXT_TRAINER_FOLDER not in folders:
        os.environ[VARIABLE] = os.pathsep.join([*folders, EXT_TRAINER_FOLDER])


append_ext_trainer_folder()
