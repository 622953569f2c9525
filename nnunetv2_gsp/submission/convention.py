"""Checks, by the dataset.json beside predictions, that their labels have the meaning of `labels.py`."""

import json
import re
from pathlib import Path
from typing import Any

from nnunetv2_gsp.datasets.brats import CAVITY_REGION, REGIONS
from nnunetv2_gsp.datasets.labels import CAVITY, EDEMA, ENHANCING, NECROSIS
from nnunetv2_gsp.errors import ConflictingInputError, DamagedFileError
from nnunetv2_gsp.submission.rules import Rules

_PLAIN_NAMES = {  # beginnings, in lower case, of the names of plain labels with the same meaning
    NECROSIS: re.compile(r"necro|non.?enh|(ncr|netc?)(?![a-z])"),
    EDEMA: re.compile(r"(peritumou?ral.)?o?edema|(ed|snfh)(?![a-z])"),
    ENHANCING: re.compile(r"(gd.)?enhanc|et(?![a-z])"),
    CAVITY: re.compile(r"resection|cavity|rc(?![a-z])"),
}


def check_convention(predictions: Path, rules: Rules) -> None:
    """Check that the labels of predictions for BraTS are 1 necrosis, 2 oedema and 3 enhancing tumour.

    nnU-Net's own converters use 1 for oedema and 2 for necrosis, which the voxels alone do not show. Regions are
    identified by their labels, plain labels by their names.

    Args:
        predictions: folder of predictions; without nnU-Net's dataset.json in it nothing is checked.
        rules: rules of the challenge; only those of BraTS are checked, as others have a single label.

    Raises:
        DamagedFileError: dataset.json can't be read.
        ConflictingInputError: the labels have another meaning there.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> from nnunetv2_gsp.submission.rules import rules_of
        >>> with TemporaryDirectory() as folder:
        ...     _ = Path(folder, "dataset.json").write_text('{"labels": {"edema": 1, "necrosis": 2, "enhancing": 3}}')
        ...     check_convention(Path(folder), rules_of("brats2021"))
        Traceback (most recent call last):
            ...
        nnunetv2_gsp.errors.ConflictingInputError: ...dataset.json: expected the labels 1 necrosis, 2 oedema,
        3 enhancing, got 'edema' for 1...
    """
    file = predictions / "dataset.json"
    if not (rules.is_brats and file.is_file()):
        return
    labels_of = _labels_of(file)
    has_regions = any(len(labels) > 1 for labels in labels_of.values())
    if complaint := _region_complaint(labels_of) if has_regions else _plain_complaint(labels_of):
        raise ConflictingInputError(
            "the labels 1 necrosis, 2 oedema, 3 enhancing",
            complaint,
            where=file,
            remedy="submit predictions of a network that was trained with these labels",
        )


def _labels_of(file: Path) -> dict[str, frozenset[int]]:
    """Return the labels of each region in a dataset.json; a plain label counts as a region of one label."""
    try:
        labels = json.loads(file.read_text(encoding="utf-8"))["labels"].items()
        return {name: _as_set(value) for name, value in labels if name not in ("background", "ignore")}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedFileError(
            "nnU-Net's dataset.json with labels",
            "one that cannot be read",
            where=file,
            remedy="copy it from the trained model's folder",
        ) from error


def _as_set(value: Any) -> frozenset[int]:
    """Return the labels of a region, or a plain label as a region of one; raise TypeError if it is neither."""
    labels = value if isinstance(value, list) else [value]
    if not labels or any(type(label) is not int for label in labels):
        raise TypeError(f"{value!r} is no label and no region")
    return frozenset(labels)


def _region_complaint(labels_of: dict[str, frozenset[int]]) -> str:
    needed = {name: frozenset(region) for name, region in REGIONS.items()}
    known = {*needed.values(), *map(frozenset, CAVITY_REGION.values())}
    strange = [f"the region {name} of {sorted(labels)}" for name, labels in labels_of.items() if labels not in known]
    lacking = [f"no region of {sorted(region)}" for region in needed.values() if region not in labels_of.values()]
    return next(iter(strange + lacking), "")


def _plain_complaint(labels_of: dict[str, frozenset[int]]) -> str:
    strange = [
        f"{name!r} for {label}"
        for name, labels in labels_of.items()
        for label in labels
        if label not in _PLAIN_NAMES or not _PLAIN_NAMES[label].match(name.strip().lower())
    ]
    lacking = [
        f"no name for {label}" for label in (NECROSIS, EDEMA, ENHANCING) if frozenset([label]) not in labels_of.values()
    ]
    return next(iter(strange + lacking), "")
