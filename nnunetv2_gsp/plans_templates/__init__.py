"""Which settings are worth a name? One JSON file a setting, checked against `schema.json`."""
import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from jsonschema.validators import extend

from nnunetv2_gsp.architectures.request import ShiftRequest
from nnunetv2_gsp.errors import InputError

_FOLDER = Path(__file__).parent
TOPOLOGY = ("features_per_stage", "strides", "n_conv_per_stage", "n_conv_per_stage_decoder")
_ABOUT = ("description", "source", "inherits_from")


@dataclass(frozen=True)
class Template:
    """A named setting, with what it inherits filled in.

    Attributes:
        name: as `--template` takes it.
        description: one line.
        source: table, figure or section of the paper.
        settings: by the names of `schema.json`; what is not there stays as planned, or at the default.
    """

    name: str
    description: str
    source: str
    settings: Mapping[str, Any]

    @property
    def request(self) -> ShiftRequest:
        """What is asked of the shifts; raises ValueError if the ratios are more than there is."""
        names = {field.name for field in fields(ShiftRequest)}
        return ShiftRequest(**{name: value for name, value in self.settings.items() if name in names})

    @property
    def kernel(self) -> int:
        """Edge of the convolutions in voxels."""
        return self.settings.get("kernel", 1)

    @property
    def n_axes(self) -> int | None:
        """Number of axes that the settings are made for, None if any."""
        per_axis = [self.settings.get("patch_size"), *(stages[0] for name in ("strides", "spatial_groups")
                                                       if (stages := self.settings.get(name)))]
        return next((len(axes) for axes in per_axis if axes and len(axes) in (2, 3)), None)


def template_names() -> list[str]:
    """Return the names of the templates that come with this package, in alphabetical order."""
    return sorted(file.stem for file in _FOLDER.glob("*.json") if file.name != "schema.json")


def load_template(name: str, overrides: Mapping[str, Any] | None = None) -> Template:
    """Load a template.

    Args:
        name: of a template that comes with this package, or the path of a .json file.
        overrides: settings that replace or complete the template's.

    Raises:
        InputError: for a name that is not known, an unknown key (the nearest known one is named), or a value that the
            schema does not allow.
    """
    for key in overrides or {}:
        if key in _ABOUT:
            raise InputError(f"Expected settings to override, got {key}, which belongs into a template's file; choose "
                             f"another template with --template.")
    content = {**_read(_file_of(name)), **(overrides or {})}
    _check(content, f"Template {name}")
    about = {key: content.pop(key, None) for key in _ABOUT}
    return Template(Path(name).stem, about["description"], about["source"], content)


def _read(file: Path) -> dict[str, Any]:
    """Return the file's content over that of the named template it inherits from."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, or not even text
        raise InputError(f"Expected JSON in {file}, got something else ({error}).") from error
    if not isinstance(content, dict):
        raise InputError(f"Expected settings by name in {file}, got a {type(content).__name__}.")
    _check(content, f"Template {file.stem}")
    parent = content.get("inherits_from")
    return content if parent is None else {**_read(_named(parent)), **content}


def _file_of(name: str) -> Path:
    if not name.endswith(".json"):
        return _named(name)
    if not Path(name).is_file():
        raise InputError(f"Expected a template in {name}, found no such file; nnUNetv2_gsp templates lists those that "
                         f"have a name.")
    return Path(name)


def _named(name: str) -> Path:
    if name not in template_names():
        raise InputError(f"Expected the name of a template or a .json file, got {name!r}"
                         f"{_did_you_mean(name, template_names())}; nnUNetv2_gsp templates lists them.")
    return _FOLDER / f"{name}.json"


def _check(content: dict[str, Any], what: str) -> None:
    known = list(_schema()["properties"])
    for key in content:
        if key not in known:
            raise InputError(f"{what}: expected known settings, got {key!r}{_did_you_mean(key, known)}; the settings "
                             f"are {', '.join(setting for setting in known if setting not in _ABOUT)}.")
    error = best_match(_validator().iter_errors(content))
    if error is not None:
        where = "".join(f"[{part}]" if index else f", {part}" for index, part in enumerate(error.absolute_path))
        raise InputError(f"{what}{where}: {error.message}.")


@cache
def _validator() -> Any:
    """Return a validator to which 2.0 is no integer, as it is none to whom takes the settings."""
    types = Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool))
    return extend(Draft202012Validator, type_checker=types)(_schema())


@cache
def _schema() -> dict[str, Any]:
    return json.loads((_FOLDER / "schema.json").read_text(encoding="utf-8"))


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)
    return f" (nearest: {nearest[0]})" if nearest else ""
