"""Writes the folder of a container: Dockerfile, bundles, this package, and a README with the commands."""

import logging
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from nnunetv2_gsp.challenges import CONTAINERS
from nnunetv2_gsp.container.interface import Interface, Sockets
from nnunetv2_gsp.container.prediction import common_dataset
from nnunetv2_gsp.container.registry import INTERFACES
from nnunetv2_gsp.container.rehearsal import rehearse
from nnunetv2_gsp.container.settings import FILE, Settings, write_settings
from nnunetv2_gsp.container.wheel import UNUSED, constraints, torch_pins, write_wheel
from nnunetv2_gsp.errors import ConflictingInputError, MissingInputError, check_name
from nnunetv2_gsp.files import check_target
from nnunetv2_gsp.nnunet import channel_names
from nnunetv2_gsp.sharing import export_model
from nnunetv2_gsp.sharing.importing import unpacked

_log = logging.getLogger(__name__)
_TORCH_INDEX = {False: "https://download.pytorch.org/whl/cpu", True: "https://pypi.org/simple"}


def write_container(
    models: Sequence[Path],
    output: Path,
    interface: str,
    *,
    challenge: str | None = None,
    input_slugs: Sequence[str] = (),
    output_slug: str | None = None,
    cuda: bool = False,
) -> None:
    """Write the folder that `docker build` makes an image of, which predicts with models; all of it or nothing.

    Args:
        models: bundles that `export_model` wrote, or model folders, which are exported; several are an ensemble.
        output: folder to write; missing folders above it are created.
        interface: name of the way in which the challenge runs containers, a key of `INTERFACES`.
        challenge: name of the challenge whose rules results follow, one of `challenges.CONTAINERS`; None takes the
            interface's own.
        input_slugs: for grand-challenge, slug of each channel's input; none with one channel takes the only input.
        output_slug: for grand-challenge, slug of the output.
        cuda: True takes torch for CUDA, False a torch for the CPU, which makes a much smaller image.

    Raises:
        TargetExistsError: the folder exists.
        MissingInputError: a model does not exist.
        RefusedError: a model is unsound.
        ConflictingInputError: the models differ in channels or labels, or do not fit the interface or the challenge.
        InputError: there is no such interface or challenge.
    """
    check_target(output, overwrite=False, is_folder=True, parameters=["output"])
    check_name("an interface", interface, INTERFACES, parameters=["interface"])
    chosen = INTERFACES[interface]
    _check_challenge(chosen, challenge)
    if len(set(models)) < len(models):
        raise ConflictingInputError("each model once", " ".join(map(str, models)), parameters=["models"])
    above = next(each for each in output.absolute().parents if each.exists())
    with tempfile.TemporaryDirectory(prefix=".container_", dir=above) as unfinished:
        folder = Path(unfinished, output.name)
        folder.mkdir()
        bundles = [_bundle(model, folder / f"model_{number}.zip") for number, model in enumerate(models)]
        settings = Settings(
            interface, challenge or chosen.challenge, tuple(bundles), Sockets(tuple(input_slugs), output_slug)
        )
        _check_models(settings, folder, list(map(str, models)))
        write_settings(settings, folder)
        _write_files(settings, folder, [model.name for model in models], cuda)
        _let_all_read(folder)
        output.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(output)


def _check_challenge(interface: Interface, challenge: str | None) -> None:
    if challenge and not interface.challenge:
        raise ConflictingInputError(
            f"no challenge with the interface {interface.name}, whose results have the trained labels",
            challenge,
            remedy="leave it out",
        )
    if challenge:
        check_name("a challenge that takes containers", challenge, CONTAINERS, parameters=["challenge"])


def _bundle(model: Path, file: Path) -> str:
    """Copy or export a model, and return the bundle's name."""
    if model.is_dir():
        export_model(model, file)
    elif model.is_file():
        shutil.copyfile(model, file)
    else:
        raise MissingInputError("a model folder, or a zip of an exported model", "neither", where=model)
    return file.name


def _check_models(settings: Settings, folder: Path, names: Sequence[str]) -> None:
    """Check that the models are sound, and fit each other, the interface and the challenge."""
    with ExitStack() as stack:
        folders = [stack.enter_context(unpacked(folder / bundle)) for bundle in settings.bundles]
        dataset_json = common_dataset(folders, names)
    settings.runs_as.check(channel_names(dataset_json), settings.sockets)
    rehearse(settings, dataset_json, names[0])


def _write_files(settings: Settings, folder: Path, models: Sequence[str], cuda: bool) -> None:
    wheel = write_wheel(folder)
    if wheel.name.endswith("-any.whl"):
        _log.warning("The layers compiled for CPUs are missing here and so in the image, which will take longer.")
    for file, pins in (("torch.txt", torch_pins()), ("constraints.txt", constraints())):
        (folder / file).write_text("\n".join([*pins, ""]), encoding="utf-8")
    interface = settings.runs_as
    name = re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-") or "algorithm"
    image = interface.image.format(name=name)
    interface = replace(interface, image=image, push=interface.push.format(image=image, name=name))
    content: dict[str, Any] = {
        **vars(interface),
        "name": name,
        "models": models,
        "challenge": settings.challenge,
        "bundles": settings.bundles,
        "settings": FILE,
        "wheel": wheel.name,
        "unused": UNUSED,
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "torch_index": _TORCH_INDEX[cuda],
        "cuda": cuda,
    }
    templates = Environment(
        loader=PackageLoader("nnunetv2_gsp", "container"),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    for file in ("Dockerfile", "README.md"):
        (folder / file).write_text(templates.get_template(f"{file}.j2").render(content), encoding="utf-8")
    if interface.script:
        (folder / "predict.sh").write_text("exec python -m nnunetv2_gsp.container /opt/algorithm\n", encoding="utf-8")


def _let_all_read(folder: Path) -> None:
    """Let any user read the files, as docker keeps their permissions."""
    folder.chmod(0o755)
    for file in folder.iterdir():
        file.chmod(0o644)
