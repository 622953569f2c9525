"""Templates: named settings in one JSON file each, checked against `schema`."""

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from nnunetv2_gsp.architectures.architecture import KERNEL, Stages
from nnunetv2_gsp.architectures.entries import (
    COUNT,
    PATCH_SIZE,
    WHOLE,
    Schema,
    described,
    each,
    fits,
    schemas_of,
    types_alone,
    violation,
)
from nnunetv2_gsp.architectures.request import ShiftRequest
from nnunetv2_gsp.errors import DamagedFileError, InputError, MissingInputError, RefusedSettingsError

_FOLDER = Path(__file__).parent
STAGES = tuple(field.name for field in fields(Stages))
WIDTH_MULTIPLIER = "width_multiplier"
TOPOLOGY = (*STAGES, WIDTH_MULTIPLIER)
_ABOUT: dict[str, Schema] = {
    "description": {"type": "string", "description": "one line, for lists of templates"},
    "source": {"type": "string", "description": "where the setting stands: table, figure, section of the paper"},
    "inherits_from": {"type": "string", "description": "a named template whose settings hold where these are silent"},
}
# the network itself checks which values make a network
_OF_THE_NETWORK: dict[str, Schema] = {
    name: types_alone(schema)
    for name, schema in {**schemas_of(ShiftRequest), "kernel": KERNEL, **schemas_of(Stages)}.items()
}
# what of the planned stages changes by a factor
_OF_THE_PLANNED_STAGES: dict[str, Schema] = {
    WIDTH_MULTIPLIER: {
        "type": "number",
        "description": "factor on the channels of every stage, which are rounded to a multiple of 8 (default 1)",
    },
}
_OF_THE_CONFIGURATION: dict[str, Schema] = {
    "patch_size": described(PATCH_SIZE, "in voxels; axes as in the plans' patch_size, after transpose_forward"),
    "batch_size": described(COUNT, "patches a training step"),
    "use_mask_for_norm": {
        "type": "boolean",
        "description": "compute the z-score over the foreground (nonzero) voxels; where the plans do not, this means "
        "preprocessing anew",
    },
}


@dataclass(frozen=True)
class Template:
    """A named setting, with what it inherits filled in.

    Attributes:
        name: name of a template that comes with this package, or of a file, without its ending.
        description: one line for lists of templates.
        source: table, figure or section of the paper where the setting stands.
        settings: name in `schema` -> value; settings left out stay as planned, or at the default.
    """

    name: str
    description: str
    source: str
    settings: Mapping[str, Any]

    @property
    def request(self) -> ShiftRequest:
        """Requested shifts; raises ValueError if the ratios ask for more channels than there are."""
        return ShiftRequest(
            **{field.name: self.settings[field.name] for field in fields(ShiftRequest) if field.name in self.settings}
        )

    @property
    def kernel(self) -> int:
        """Edge of the convolutions in voxels, 1 or 3."""
        kernel: int = self.settings.get("kernel", 1)
        return kernel

    @property
    def n_axes(self) -> int | None:
        """Number of axes that the settings are made for, 2 or 3; None if any."""
        strides, groups = self.settings.get("strides"), self.settings.get("spatial_groups")
        one_for_all_stages = fits(groups, each(WHOLE))
        per_axis = [
            self.settings.get("patch_size"),
            strides and strides[0],
            groups if one_for_all_stages else groups and groups[0],
        ]
        return next((len(axes) for axes in per_axis if isinstance(axes, Sequence) and len(axes) in (2, 3)), None)


def template_names() -> list[str]:
    """Return the names of the templates that come with this package, in alphabetical order."""
    return sorted(file.stem for file in _FOLDER.glob("*.json"))


@cache
def schema() -> Schema:
    """Return the JSON Schema of a template's file, made from the types of a network's entries.

    Examples:
        >>> schema()["properties"]["kernel"]
        {'description': 'edge of every convolution but the heads, in voxels (default 1)', 'type': 'integer', \
'examples': [1, 3]}
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A named setting of a GSP network; what it leaves out stays as nnU-Net planned it, or at the default",
        "type": "object",
        "required": ["description", "source"],
        "additionalProperties": False,
        "properties": {**_ABOUT, **_OF_THE_NETWORK, **_OF_THE_PLANNED_STAGES, **_OF_THE_CONFIGURATION},
    }


def load_template(template: str, settings: Mapping[str, Any] | None = None) -> Template:
    """Load a template, with settings that replace its own.

    Args:
        template: name of a template that comes with this package, or path of a .json file.
        settings: name in `schema` -> value that replaces the template's, or completes them.

    Raises:
        InputError: the name is unknown, a key is unknown (the error names the nearest known one), or the schema does
            not allow a value.

    Examples:
        >>> load_template("promise12_prosgv1", {"shift_ratio": 1}).request.spatial_groups[:3]
        [[2, 2, 2], [2, 2, 2], [2, 4, 4]]
    """
    for key in settings or {}:
        if key in _ABOUT:
            raise InputError(
                "settings in place of the template's",
                f"{key}, which belongs into a template's file",
                parameters=["template"],
            )
    content = {**_read(_file_of(template)), **(settings or {})}
    _check(content, f"Template {template}", ["settings"] if settings else ["template"])
    about = {key: content.pop(key, None) for key in _ABOUT}
    loaded = Template(Path(template).stem, about["description"], about["source"], content)
    try:
        _ = loaded.request  # refuses ratios that ask for more channels than there are
    except ValueError as error:
        raise RefusedSettingsError(str(error), f"Template {template}") from error
    return loaded


def _read(file: Path) -> dict[str, Any]:
    """Return the file's content, completed by the template that it inherits from."""
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, or not even text
        raise DamagedFileError(
            "a template in JSON", f"something else ({error})", where=file, parameters=["template"]
        ) from error
    if not isinstance(content, dict):
        raise DamagedFileError("settings by name", f"a {type(content).__name__}", where=file, parameters=["template"])
    _check(content, f"Template {file.stem}", ["template"])
    parent = content.get("inherits_from")
    return content if parent is None else {**_read(_named(parent)), **content}


def _file_of(template: str) -> Path:
    if not template.endswith(".json"):
        return _named(template)
    if not Path(template).is_file():
        raise MissingInputError("a template", "no such file", where=template, parameters=["template"])
    return Path(template)


def _named(template: str) -> Path:
    if template not in template_names():
        raise InputError(
            "the name of a template or a .json file",
            f"{template!r}{_nearest(template, template_names())}",
            parameters=["template"],
        )
    return _FOLDER / f"{template}.json"


def _check(content: dict[str, Any], what: str, parameters: Sequence[str]) -> None:
    known = list(schema()["properties"])
    for key in content:
        if key not in known:
            raise InputError(
                f"settings that are known ({', '.join(name for name in known if name not in _ABOUT)})",
                f"{key!r}{_nearest(key, known)}",
                where=what,
                parameters=parameters,
            )
    error = violation(content, schema())
    if error is not None:
        where = "".join(f"[{part}]" if index else f", {part}" for index, part in enumerate(error.absolute_path))
        raise RefusedSettingsError(error.message, f"{what}{where}", parameters)


def _nearest(name: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)
    return f" (nearest: {nearest[0]})" if nearest else ""
