"""What a container's folder says about itself: its interface, its models, and whose rules results follow."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nnunetv2_gsp.container.interface import Interface, Sockets
from nnunetv2_gsp.container.registry import INTERFACES
from nnunetv2_gsp.errors import DamagedFileError, MissingInputError
from nnunetv2_gsp.files import write_json

FILE = "container.json"


@dataclass(frozen=True)
class Settings:
    """Settings of a container, written when it is made and read when it runs.

    Attributes:
        interface: name of the interface, a key of `INTERFACES`.
        challenge: name of the challenge whose rules results follow; None where they have the trained labels.
        bundles: names of the models' files in the container's folder.
        sockets: names of inputs and output.
    """

    interface: str
    challenge: str | None
    bundles: tuple[str, ...]
    sockets: Sockets = field(default_factory=Sockets)

    @property
    def runs_as(self) -> Interface:
        """The interface itself.

        Examples:
            >>> Settings("flare", None, ("model_0.zip",)).runs_as.input
            '/workspace/inputs'
        """
        return INTERFACES[self.interface]


def write_settings(settings: Settings, folder: Path) -> None:
    """Write settings to a container's folder."""
    write_json(asdict(settings), folder / FILE)


def read_settings(folder: Path) -> Settings:
    """Read the settings of a container's folder.

    Raises:
        MissingInputError: the folder has none.
        DamagedFileError: they can't be read.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> settings = Settings("grand-challenge", None, ("model_0.zip",), Sockets(("t2",), "lesion"))
        >>> with TemporaryDirectory() as folder:
        ...     write_settings(settings, Path(folder))
        ...     read_settings(Path(folder)) == settings
        True
    """
    file = folder / FILE
    if not file.is_file():
        raise MissingInputError(f"the {FILE} of a container", "none", where=folder)
    try:
        content: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        sockets = Sockets(tuple(content["sockets"]["inputs"]), content["sockets"]["output"])
        settings = Settings(content["interface"], content["challenge"], tuple(content["bundles"]), sockets)
        assert settings.interface in INTERFACES
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise DamagedFileError(
            "settings of a container", "some that cannot be read", where=file, remedy="make the container again"
        ) from error
    return settings
