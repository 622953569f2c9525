"""The types of the entries in plans, as JSON Schema: one definition for the network, for templates and for bundles.

Each type stands on the field of the dataclass that holds the entry, under the entry's name in plans.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.validators import extend

Schema = dict[str, Any]

WHOLE: Schema = {"type": "integer"}
COUNT: Schema = {**WHOLE, "minimum": 1}
ARRAY: Schema = {"type": "array"}


def each(entry: Schema, **limits: int) -> Schema:
    """Return the type of a list of such entries; `limits` are minItems and maxItems.

    Examples:
        >>> each(COUNT, minItems=2)
        {'type': 'array', 'minItems': 2, 'items': {'type': 'integer', 'minimum': 1}}
    """
    return {**ARRAY, **limits, "items": entry}


def one_or_each(entry: Schema, **limits: int) -> Schema:
    """Return the type of one such entry or a list of them; JSON Schema applies limits of numbers to numbers alone.

    Examples:
        >>> [fits(value, one_or_each(COUNT)) for value in (2, [2, 3], "2", [2, 0])]
        [True, True, False, False]
    """
    return {**entry, **each(entry, **limits), "type": [entry["type"], "array"]}


PATCH_SIZE: Schema = each(COUNT, minItems=2, maxItems=3)
SPATIAL_GROUPS: Schema = each(each(COUNT, minItems=2, maxItems=3), minItems=1)


def described(schema: Schema, description: str) -> Schema:
    """Return the schema with a description of the entry, for authors of templates.

    Examples:
        >>> described(COUNT, "number of stages")
        {'description': 'number of stages', 'type': 'integer', 'minimum': 1}
    """
    return {"description": description, **schema}


def schemas_of(holder: type) -> dict[str, Schema]:
    """Return the types of a dataclass's fields that are entries of plans, by name.

    Examples:
        >>> from nnunetv2_gsp.architectures.settings import ShiftSettings
        >>> schemas_of(ShiftSettings)["shift_location"]["enum"]
        ['encoder', 'decoder', 'both']
    """
    return {entry.name: dict(entry.metadata) for entry in fields(holder)}


def types_alone(schema: Schema) -> Schema:
    """Return the schema without limits and choices, for files whose values the network itself checks.

    Examples:
        >>> types_alone({"description": "an edge", "type": "integer", "minimum": 1, "enum": [1, 3]})
        {'description': 'an edge', 'type': 'integer', 'examples': [1, 3]}
    """
    types = {key: value for key, value in schema.items() if key in ("description", "type")}
    if "enum" in schema:
        types["examples"] = schema["enum"]
    if "items" in schema:
        types["items"] = types_alone(schema["items"])
    return types


def fits(value: Any, schema: Schema) -> bool:
    """Tell whether a value is valid under the schema.

    Examples:
        >>> fits((1, 2, 2), each(COUNT)), fits([1, 0, 2], each(COUNT)), fits(2.0, COUNT), fits(True, COUNT)
        (True, False, False, False)
    """
    return bool(_Validator(schema).is_valid(value))


def violation(content: Any, schema: Mapping[str, Any]) -> ValidationError | None:
    """Return the most relevant violation of the schema in a file's content, or None.

    Examples:
        >>> violation({"kernel": 0}, {"properties": {"kernel": COUNT}}).json_path
        '$.kernel'
    """
    error: ValidationError | None = best_match(_Validator(schema).iter_errors(content))
    return error


def _is_whole(_: Any, value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_array(_: Any, value: Any) -> bool:
    return isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes)


# 2.0 is not an integer, as the code that takes the settings refuses it; lists of a file may become tuples or arrays
_Validator: Any = extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine_many({"integer": _is_whole, "array": _is_array}),
)
