"""Keeps the scores of finished cases, so that an evaluation that was stopped goes on where it ended."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunetv2_gsp import __version__
from nnunetv2_gsp.metrics.definitions import Definition
from nnunetv2_gsp.metrics.region_labels import RegionLabels
from nnunetv2_gsp.metrics.scoring import Scores


class FinishedScores:
    """Scores of finished cases in a file of a line each; what was scored otherwise or from other files is not taken.

    Args:
        file: file of the scores, created where it is missing; None keeps nothing.
        labels: regions that are scored, and the labels that make up each.
        definition: how each metric is computed.

    Examples:
        >>> from nnunetv2_gsp.metrics.definitions import DEFINITIONS
        >>> finished = FinishedScores(None, RegionLabels(), DEFINITIONS["captk"])
        >>> finished.of((Path("reference.nii.gz"), Path("prediction.nii.gz"))) is None
        True
    """

    def __init__(self, file: Path | None, labels: RegionLabels, definition: Definition) -> None:
        self._file = file
        regions = None if labels.regions is None else {name: list(group) for name, group in labels.regions.items()}
        self._rules = _digest(json.dumps([__version__, repr(definition), regions, labels.ignore_label]).encode())
        self._scores = _read(file) if file is not None else {}

    def of(self, files: tuple[Path, Path]) -> dict[str, Scores] | None:
        """Return the scores by region of a reference and its prediction; None where they are not finished.

        Args:
            files: file of the reference, and that of the prediction.
        """
        return self._scores.get(self._key(files)) if self._scores else None

    def add(self, files: tuple[Path, Path], scores: dict[str, Scores]) -> None:
        """Keep the scores of a reference and its prediction.

        Args:
            files: file of the reference, and that of the prediction.
            scores: scores by region.
        """
        if self._file is None:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as lines:
            # the line break first: what was cut off before stays a line of its own
            lines.write("\n" + json.dumps({"key": self._key(files), "scores": scores}))

    def _key(self, files: tuple[Path, Path]) -> str:
        return "-".join([self._rules, *map(_contents, files)])


def _read(file: Path) -> Mapping[str, dict[str, Any]]:
    """Return the scores by key; a last line that was not written whole is left out."""
    scores = {}
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    for line in lines:
        try:
            entry = json.loads(line)
            scores[entry["key"]] = entry["scores"]
        except (ValueError, KeyError, TypeError):
            continue
    return scores


def _contents(file: Path) -> str:
    """Return a digest of a file and of the voxels beside it; of one that is missing, what no other file has."""
    from nnunetv2_gsp.images import parts_of

    return _digest(b"".join(part.read_bytes() for part in parts_of(file) if part.is_file()))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
