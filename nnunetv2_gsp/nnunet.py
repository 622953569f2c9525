"""Finds nnU-Net's folders, commands and defaults, and the devices and number of processes that it may use here."""

import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from inspect import Parameter, signature
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunetv2_gsp.errors import ConflictingInputError, InputError, MissingInputError, UnavailableError
from nnunetv2_gsp.orphans import ended_with_us

if TYPE_CHECKING:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

_log = logging.getLogger(__name__)

N_FOLDS = 5  # of the split that nnU-Net makes
FOLD = r"^(all|0|[1-9][0-9]{0,2})\Z"  # pattern of their names
FINAL_CHECKPOINT = "checkpoint_final.pth"  # of a training that has ended; its prediction takes it unless told
FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")  # variables that name nnU-Net's folders
DEVICES = ("cpu", "cuda", "mps")  # as nnU-Net's -device takes them


def is_fold(name: str) -> bool:
    """Tell whether a name is that of a fold of nnU-Net.

    Examples:
        >>> [is_fold(name) for name in ("0", "all", "../0")]
        [True, True, False]
    """
    return re.match(FOLD, name) is not None


def folds_with(checkpoint_name: str, model_folder: Path) -> list[str]:
    """Return the names of the folds of a model that have a checkpoint.

    Args:
        checkpoint_name: name of the checkpoint's file in each fold's folder.
        model_folder: model folder TRAINER__PLANS__CONFIGURATION in nnUNet_results/DATASET.
    """
    folders = [folder for folder in sorted(model_folder.glob("fold_*")) if (folder / checkpoint_name).is_file()]
    return [fold for folder in folders if is_fold(fold := folder.name.removeprefix("fold_"))]


def averaged_folds(finished: Sequence[str]) -> list[str]:
    """Return the folds that nnU-Net's prediction averages unless told: the numbered ones, or "all" where it is alone.

    Args:
        finished: names of the folds that have a checkpoint.

    Examples:
        >>> averaged_folds(["0", "1", "all"]), averaged_folds(["all"])
        (['0', '1'], ['all'])
    """
    return [fold for fold in finished if fold != "all"] or list(finished)


def settings_of_resampling(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings of nnU-Net's default function for resampling: the given ones, and its defaults.

    Examples:
        >>> settings_of_resampling({"order": 1})["order"], settings_of_resampling({})["order"]
        (1, 3)
    """
    from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape  # takes long

    arguments = signature(resample_data_or_seg_to_shape).parameters.values()
    defaults = {argument.name: argument.default for argument in arguments if argument.default is not Parameter.empty}
    return {**defaults, **given}


def find_trainer(trainer: str) -> "type[nnUNetTrainer]":
    """Return the class of a trainer, found as nnU-Net finds it.

    Args:
        trainer: name of the class, such as nnUNetTrainer_50epochs.

    Raises:
        MissingInputError: nnU-Net finds no trainer of that name.
        Exception: what a module in nnUNet_extTrainer raises that nnU-Net imports on its way.

    Examples:
        >>> find_trainer("nnUNetTrainer_5epochs").__name__
        'nnUNetTrainer_5epochs'
    """
    from nnunetv2.utilities import find_objects

    try:
        with redirect_stdout(StringIO()):  # nnU-Net prints every module it looks at
            found: type[nnUNetTrainer] = find_objects.recursive_find_trainer_class_by_name(trainer)
    except (RuntimeError, TypeError, AssertionError) as error:  # it does not exist, is no class or no trainer
        if traceback.extract_tb(error.__traceback__)[-1].filename != find_objects.__file__:
            raise
        raise MissingInputError(
            "a trainer that nnU-Net finds here",
            trainer,
            remedy="correct its name, install the package that has it, or add its folder to nnUNet_extTrainer",
        ) from error
    return found


def script(command: str) -> str:
    """Return the script of a console command in this interpreter's environment, which need not be activated.

    Args:
        command: name of the command, such as nnUNetv2_train.

    Returns:
        The path of the script.

    Raises:
        UnavailableError: the environment has no such script.

    Examples:
        >>> Path(script("nnUNetv2_train")).stem
        'nnUNetv2_train'
    """
    path = shutil.which(command, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if path is None:
        raise UnavailableError(
            f"nnU-Net's command {command} beside {sys.executable}", "none", remedy="run: pip install nnunetv2"
        )
    return path


def run_command(line: Sequence[str], environment: Mapping[str, str] | None = None, pass_fds: Sequence[int] = ()) -> int:
    """Log a command and run it, with its output on the screen; its child processes end with it or with this process.

    Args:
        line: nnU-Net's command and its arguments.
        environment: environment variables in addition to those of this process.
        pass_fds: file descriptors that the command inherits.

    Returns:
        The exit code, or the negative number of the signal that ended the command.

    Raises:
        UnavailableError: the command does not exist.
    """
    _log.info("$ %s\n", shlex.join(line))
    # a session of its own, to end its worker processes with it
    with subprocess.Popen(
        [script(line[0]), *line[1:]],
        env={**os.environ, **(environment or {})},
        start_new_session=True,
        pass_fds=pass_fds,
    ) as process:

        def kill() -> None:
            if not hasattr(os, "killpg"):  # Windows, where a process has no group
                process.kill()
                return
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

        with ended_with_us(kill):
            code = process.wait()
        kill()
    return code


def run_to_its_end(line: Sequence[str]) -> None:
    """Run a command as `run_command` does, and raise InputError if it fails.

    Args:
        line: nnU-Net's command and its arguments.

    Raises:
        InputError: the command ended with an exit code other than 0, or by a signal.
        UnavailableError: the command does not exist.
    """
    code = run_command(line)
    if code != 0:
        raise InputError(
            f"{line[0]} to finish",
            f"exit code {code}",
            remedy="mend what it says above and run the same again, which goes on from here",
        )


@contextmanager
def environment_with(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables within the block, for functions and commands, and restore them afterwards.

    Examples:
        >>> with environment_with({"nnUNet_raw": "/data/nnUNet_raw"}):
        ...     nnunet_folder("nnUNet_raw").name
        'nnUNet_raw'
    """
    before = {name: os.environ[name] for name in variables if name in os.environ}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name, None)
        os.environ.update(before)


def nnunet_folder(variable: str, *, must_exist: bool = False) -> Path:
    """Return the folder that one of nnU-Net's variables names.

    Args:
        variable: name of the environment variable, one of `FOLDERS`.
        must_exist: True if the folder has to exist; nnU-Net creates nnUNet_results where it is missing.

    Raises:
        MissingInputError: the variable is not set, or empty, which nnU-Net would take for the working directory; or the
            folder has to exist and does not.

    Examples:
        >>> with environment_with({"nnUNet_raw": ""}):
        ...     nnunet_folder("nnUNet_raw")
        Traceback (most recent call last):
            ...
        nnunetv2_gsp.errors.MissingInputError: Expected nnUNet_raw to name a folder, got none; export nnUNet_raw=...
    """
    folder = os.environ.get(variable)
    if not folder:
        raise MissingInputError(
            f"{variable} to name a folder",
            "none",
            remedy=f"export {variable}=/path/to/{variable}, as nnU-Net's documentation describes",
        )
    if must_exist and not Path(folder).is_dir():
        raise MissingInputError(
            f"the folder that {variable} names", "none", where=folder, remedy="make it, or name another"
        )
    return Path(folder)


def n_processes() -> int:
    """Return the number of processes for preprocessing and prediction: one for each core, 8 at most."""
    return min(os.cpu_count() or 1, 8)


def dataset_name(dataset: str) -> str:
    """Return the full name of a dataset, found as nnU-Net finds it in its folders.

    Args:
        dataset: id of a dataset in one of nnU-Net's folders, or a full name, which need not be in any.

    Raises:
        ConflictingInputError: several datasets have that id.
        MissingInputError: none has it, or the name is no full name of a dataset.

    Examples:
        >>> dataset_name("Dataset004_Hippocampus")
        'Dataset004_Hippocampus'
    """
    from nnunetv2.utilities import dataset_name_id_conversion as conversion  # takes long

    try:
        name = str(conversion.maybe_convert_to_dataset_name(dataset))
    except (RuntimeError, ValueError) as error:
        if dataset.isdecimal() and len(twins := conversion.find_candidate_datasets(int(dataset))) > 1:
            raise ConflictingInputError(
                f"one dataset with id {dataset} below nnU-Net's folders",
                " and ".join(twins),
                remedy="rename all but one",
                parameters=["dataset"],
            ) from error
        raise _no_dataset(dataset) from error
    if re.match(r"Dataset\d{3,}(_|\Z)", name) is None:
        raise _no_dataset(dataset)
    return name


def _no_dataset(given: str) -> InputError:
    folders = ", ".join(f"{variable} is {os.environ.get(variable) or 'not set'}" for variable in FOLDERS)
    return MissingInputError(
        f"the id of a dataset in one of nnU-Net's folders, or a full name such as Dataset004_Hippocampus ({folders})",
        given,
        parameters=["dataset"],
    )


def channel_names(dataset_json: Mapping[str, Any]) -> list[str]:
    """Return the names of a dataset's channels, in the order of their numbers, or of the file where it has none.

    Args:
        dataset_json: content of dataset.json, which calls them modality where it is as old as nnU-Net's first version.

    Examples:
        >>> channel_names({"channel_names": {"1": "T2", "0": "T1"}}), channel_names({"modality": {"0": "CT"}})
        (['T1', 'T2'], ['CT'])
    """
    names = dataset_json["channel_names" if "channel_names" in dataset_json else "modality"]
    order = sorted(names, key=int) if all(map(str.isdecimal, names)) else names
    return [str(names[key]) for key in order]


def dataset_id(dataset: str) -> int:
    """Return the id that is part of a dataset's full name.

    Examples:
        >>> dataset_id("Dataset004_Hippocampus")
        4
    """
    return int(dataset.removeprefix("Dataset").split("_")[0])


def preprocess_command(dataset: str, plans_name: str, configuration: str) -> list[str]:
    """Return nnU-Net's command line that preprocesses a dataset for one configuration.

    Args:
        dataset: full name, such as Dataset137_BraTS; the command itself takes only the id.
        plans_name: name of the plans, such as nnUNetPlans.
        configuration: name of a configuration of the plans, such as 3d_fullres.

    Examples:
        >>> print(*preprocess_command("Dataset004_Hippocampus", "nnUNetPlans", "3d_fullres"))
        nnUNetv2_preprocess -d 4 -plans_name nnUNetPlans -c 3d_fullres -np ...
    """
    return [
        "nnUNetv2_preprocess",
        "-d",
        str(dataset_id(dataset)),
        "-plans_name",
        plans_name,
        "-c",
        configuration,
        "-np",
        str(n_processes()),
    ]


def available_devices() -> list[str]:
    """Return the devices among `DEVICES` that torch finds here, cpu first.

    Examples:
        >>> available_devices()[0]
        'cpu'
    """
    import torch

    is_there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return [device for device in DEVICES if is_there[device]]


def check_device(device: str) -> None:
    """Check that a device is available.

    Args:
        device: name of the device, one of `DEVICES`.

    Raises:
        UnavailableError: torch does not find it here.

    Examples:
        >>> check_device("tpu")
        Traceback (most recent call last):
            ...
        nnunetv2_gsp.errors.UnavailableError: Expected a tpu device, got none; torch finds cpu...
    """
    if device not in available_devices():
        raise UnavailableError(
            f"a {device} device", f"none; torch finds {' and '.join(available_devices())}", parameters=["device"]
        )
