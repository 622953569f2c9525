"""Checks, by the dataset.json beside predictions, that their labels have the meaning that the challenge's have."""

import json
import re
from pathlib import Path
from typing import Any

from nnunetv2_gsp.challenges import Challenge
from nnunetv2_gsp.errors import ConflictingInputError, DamagedFileError
from nnunetv2_gsp.submission.rules import Rules


def check_convention(predictions: Path, rules: Rules) -> None:
    """Check that the labels of predictions mean what they mean in datasets that were made of the challenge.

    nnU-Net's own converters use 1 for oedema and 2 for necrosis, which the voxels alone do not show. Regions are
    identified by their labels, plain labels by their names.

    Args:
        predictions: folder of predictions; without nnU-Net's dataset.json in it nothing is checked.
        rules: rules of the challenge; one with a single label has nothing to mix up.

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
        nnunetv2_gsp.errors.ConflictingInputError: ...dataset.json: expected the labels 1 NCR, 2 ED, 3 ET, got 'edema'
        for 1...
    """
    file = predictions / "dataset.json"
    if len(rules.of.on_disk) == 1 or not file.is_file():
        return
    labels_of = _labels_of(file)
    has_regions = any(len(labels) > 1 for labels in labels_of.values())
    if complaint := (_region_complaint if has_regions else _plain_complaint)(labels_of, rules.of):
        meanings = sorted((tissue.label, tissue.short) for tissue in rules.of.required)
        raise ConflictingInputError(
            f"the labels {', '.join(f'{label} {short}' for label, short in meanings)}",
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


def _region_complaint(labels_of: dict[str, frozenset[int]], challenge: Challenge) -> str:
    required = {tissue.label for tissue in challenge.required}
    regions = {frozenset(labels) for labels in challenge.regions.values() if isinstance(labels, tuple)}
    needed = {region for region in regions if region <= required}
    known = needed | regions | {frozenset([tissue.label]) for tissue in challenge.optional}
    strange = [f"the region {name} of {sorted(labels)}" for name, labels in labels_of.items() if labels not in known]
    lacking = [f"no region of {sorted(region)}" for region in needed if region not in labels_of.values()]
    return next(iter(strange + sorted(lacking)), "")


def _plain_complaint(labels_of: dict[str, frozenset[int]], challenge: Challenge) -> str:
    names = {tissue.label: tissue.names for tissue in (*challenge.on_disk.values(), *challenge.optional)}
    strange = [
        f"{name!r} for {label}"
        for name, labels in labels_of.items()
        for label in labels
        if label not in names or not re.match(names[label], name.strip().lower())
    ]
    lacking = [
        f"no name for {tissue.label}"
        for tissue in challenge.required
        if frozenset([tissue.label]) not in labels_of.values()
    ]
    return next(iter(strange + lacking), "")
