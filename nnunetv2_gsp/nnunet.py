"""nnU-Net seen from outside: its folders, its commands, and the devices and processes that it may use here."""
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from nnunetv2_gsp.errors import MissingInputError, UnavailableError
from nnunetv2_gsp.orphans import ended_with_us

_log = logging.getLogger(__name__)

N_FOLDS = 5  # of the split that nnU-Net makes


def script(command: str) -> str:
    """Find nnU-Net's command in the environment of this interpreter, which need not be activated.

    Raises:
        UnavailableError: there is none.
    """
    path = shutil.which(command, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if path is None:
        raise UnavailableError(f"nnU-Net's command {command} beside {sys.executable}", "none",
                               remedy="run: pip install nnunetv2")
    return path


def run_command(line: Sequence[str], environment: Mapping[str, str] | None = None,
                pass_fds: Sequence[int] = ()) -> int:
    """Show a command and run it; at its end, and at ours, all that it started ends.

    Args:
        line: nnU-Net's or our command and its arguments.
        environment: variables besides those of this process.
        pass_fds: descriptors that the command inherits.

    Returns:
        Its exit code, or the signal that ended it, negative.

    Raises:
        UnavailableError: there is no such command.
    """
    _log.info("$ %s\n", shlex.join(line))
    # a session of its own, to end its worker processes with it
    with subprocess.Popen([script(line[0]), *line[1:]], env={**os.environ, **(environment or {})},
                          start_new_session=True, pass_fds=pass_fds) as process:
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


def nnunet_folder(variable: str, *, must_exist: bool = False) -> Path:
    """Return the folder that one of nnU-Net's variables names.

    Args:
        variable: nnUNet_raw, nnUNet_preprocessed or nnUNet_results.
        must_exist: whether the folder has to be there; nnU-Net makes nnUNet_results where it is missing.

    Raises:
        MissingInputError: the variable is not set, or empty, which nnU-Net would take for the working directory; or the
            folder has to be there and is not.
    """
    folder = os.environ.get(variable)
    if not folder:
        raise MissingInputError(f"{variable} to name a folder", "none",
                                remedy=f"export {variable}=/path/to/{variable}, as nnU-Net's documentation describes")
    if must_exist and not Path(folder).is_dir():
        raise MissingInputError(f"the folder that {variable} names", "none", where=folder,
                                remedy="make it, or name another")
    return Path(folder)


def n_processes() -> int:
    """Return how many processes preprocessing and prediction may start."""
    return min(os.cpu_count() or 1, 8)


def dataset_id(dataset: str) -> int:
    """Return the id in a dataset's full name: 137 for Dataset137_BraTS."""
    return int(dataset.removeprefix("Dataset").split("_")[0])


def preprocess_command(dataset: str, plans_name: str, configuration: str) -> list[str]:
    """Return nnU-Net's command line that preprocesses a configuration of some plans.

    Args:
        dataset: full name; the command itself takes only the id.
        plans_name: name of the plans.
        configuration: of the plans.
    """
    return ["nnUNetv2_preprocess", "-d", str(dataset_id(dataset)), "-plans_name", plans_name, "-c", configuration,
            "-np", str(n_processes())]


def check_device(device: str) -> None:
    """Raise UnavailableError if torch finds no such device (cpu, cuda or mps) here."""
    import torch

    is_there: dict[str, Callable[[], bool]] = {"cpu": lambda: True, "cuda": torch.cuda.is_available,
                                               "mps": torch.backends.mps.is_available}
    if not is_there.get(device, lambda: False)():
        raise UnavailableError(f"a {device} device", "none that torch finds", parameters=["device"])
