"""Checks an archive against the rules of its challenge, lists every violation at once, and trusts no byte of it.

Nothing is unpacked under a name that the archive chooses, and nothing is read beyond what a case can have.
"""

import logging
import os
import re
import stat
import zipfile
from collections import defaultdict
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path

from nnunetv2_gsp.errors import MissingInputError
from nnunetv2_gsp.parallel import in_parallel
from nnunetv2_gsp.submission.contents import ArchiveEntry, check_content, raw_name
from nnunetv2_gsp.submission.rules import Rules, find_images, rules_of
from nnunetv2_gsp.wording import first_few

_log = logging.getLogger(__name__)


def check_submission(archive: Path, challenge: str, images: Path | None = None, processes: int = 1) -> list[str]:
    """Check an archive, written by any program, against the rules of its challenge.

    What the challenge takes, but hardly anybody means, is logged as a note.

    Args:
        archive: zip file to check.
        challenge: name of the challenge, one of `challenges.SUBMISSIONS`.
        images: folder of the challenge's images, or an imagesTs made of them; they tell which cases are needed, and
            their geometry. If None, files need the size and place that all images of the edition have, and missing
            cases are not noticed.
        processes: number of cases read at the same time, from 1 on.

    Returns:
        A sentence for each violation; an empty list if there is none.

    Raises:
        MissingInputError: the archive does not exist.
        InputError: the images are incomplete, or of another challenge.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with zipfile.ZipFile(f"{folder}/submission.zip", "w") as archive:
        ...         archive.writestr("case_1.nii.gz", b"")
        ...     check_submission(Path(folder, "submission.zip"), "brats2021")
        ["Expected names that end in 00000.nii.gz, got 'case_1.nii.gz'."]
    """
    rules = rules_of(challenge)
    image_of = find_images(images, rules) if images else None
    if not archive.is_file():
        raise MissingInputError("an archive", "no such file", where=archive, parameters=["archive"])
    try:
        with zipfile.ZipFile(archive) as opened:
            infos = opened.infolist()
    except Exception as error:  # a stranger's file may fail in any way
        return [f"Expected a whole zip archive, got {archive}, which cannot be read as one ({type(error).__name__})."]
    if sum(info.compress_size for info in infos) > archive.stat().st_size:
        return [f"Expected files that lie one after another in {archive}, got some that share bytes."]
    numbered = list(enumerate(infos))
    entries, violations = _checked_names(
        _without_hidden(numbered) if rules.archive.lenient else numbered, rules, image_of
    )
    for found in in_parallel(partial(check_content, archive, rules), entries, processes, "Checking"):
        violations += found.violations
        for note in found.notes:
            _log.info("note: %s", note)
    return violations


def _without_hidden(infos: list[tuple[int, zipfile.ZipInfo]]) -> list[tuple[int, zipfile.ZipInfo]]:
    """Leave out folders, and what the validators from 2023 on take for a system's files, with a note on them."""
    files = [(number, info) for number, info in infos if not info.is_dir()]
    kept = [(number, info) for number, info in files if not _is_hidden(info.orig_filename)]
    hidden = [info.orig_filename for _, info in files if _is_hidden(info.orig_filename)]
    folders = sorted({info.orig_filename.rpartition("/")[0] for _, info in kept} - {""})
    if hidden:
        _log.info("note: the challenge passes over hidden files, here %s", first_few(hidden))
    if folders:
        _log.info("note: the challenge takes files in folders, here %s", first_few(folders))
    return kept


def _is_hidden(name: str) -> bool:
    return os.path.basename(name).startswith(("__", "._", "~", ".DS_Store")) or ".idea" in name


def _checked_names(
    infos: list[tuple[int, zipfile.ZipInfo]], rules: Rules, image_of: Mapping[str, Path] | None
) -> tuple[list[ArchiveEntry], list[str]]:
    """Return the files whose names are in order, and the violations among the names."""
    violations = [] if infos else ["Expected a file for each case, got an empty archive."]
    of_key: dict[str, list[ArchiveEntry]] = defaultdict(list)
    names = [info.orig_filename for _, info in infos]
    raw = {raw_name(name) for name in names if name.endswith(".mhd")} if rules.archive.ending == ".mhd" else set()
    for number, info in infos:
        name = info.orig_filename
        if violation := _entry_violation(info, rules.archive.lenient):
            violations.append(violation)
        elif name in raw:
            violations += _repetition(name, names)
        elif violation := _case_violation(name, rules, image_of):
            violations.append(violation)
        else:
            key = rules.key_of(name) or ""
            of_key[key].append(ArchiveEntry(number, name, image_of[key] if image_of else None))
    violations += _number_violations(of_key, image_of or ())
    return [entry for entries in of_key.values() for entry in entries], violations


def _entry_violation(info: zipfile.ZipInfo, in_folders: bool) -> str:
    """Return a sentence if the entry is not a plain file, or in a folder where none may be, else ""."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    name = info.orig_filename
    if re.search(r"(^|[/\\])\.\.([/\\]|$)|^[/\\]|^[A-Za-z]:", name):
        complaint = "a path that leads out of the archive"
    elif re.search(r"\\" if in_folders else r"[/\\]", name):
        complaint = "which lies in a folder or is one"
    elif kind not in (0, stat.S_IFREG):
        complaint = "a link or a device"
    elif info.flag_bits & 1:
        complaint = "which is encrypted"
    else:
        return ""
    return f"Expected plain files without folders, got {name!r}, {complaint}."


def _repetition(name: str, names: list[str]) -> list[str]:
    times = names.count(name)
    return [f"Expected {name!r} once, got it {times} times."] if times > 1 else []


def _case_violation(name: str, rules: Rules, image_of: Mapping[str, Path] | None) -> str:
    """Return a sentence if the name is not a case's, or of a case that is not to be predicted, else ""."""
    key = rules.key_of(name)
    if key is None:
        return f"Expected {rules.archive.naming}, got {name!r}."
    if image_of is not None and key not in image_of:
        return f"Expected only cases that the images have, got {name!r}."
    return ""


def _number_violations(of_key: Mapping[str, list[ArchiveEntry]], needed: Collection[str]) -> list[str]:
    """Return a sentence for each case that has more than one file, or none."""
    repeated = [
        f"Expected one file for {key}, got {len(entries)}: {' and '.join(repr(each.name) for each in entries)}."
        for key, entries in of_key.items()
        if len(entries) > 1
    ]
    return repeated + [f"Expected a file for {key}, got none." for key in sorted(set(needed) - set(of_key))]
