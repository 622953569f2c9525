"""Zips that are no bundle, or hold what none may hold."""

import json
import shutil
import stat
import zipfile

import pytest

from nnunetv2_gsp.sharing import import_model
from tests.sharing.bundles import (
    assert_refused,
    assert_unsound,
    change_zip,
    encrypted,
    in_manifest,
    of_dataset,
    sealed,
    write_zip,
)
from tests.sharing.models import DATASET, MB, WEIGHTS, contents_of

UNSOUND = {
    "dataset is a path": (of_dataset("Dataset902_x/../../y"), "manifest.json: expected sound content, got dataset"),
    "dataset without an id": (of_dataset("Shared"), "manifest.json: expected sound content, got dataset"),
    "dataset and a line break": (of_dataset(f"{DATASET}\n"), "manifest.json: expected sound content, got dataset"),
    "trainer is dotted": (in_manifest("trainer", "os.system"), "trainer"),
    "plans name is a path": (in_manifest("plans", "../plans"), "plans"),
    "configuration is a path": (in_manifest("configuration", "../3d"), "configuration"),
    "checkpoint is a path": (in_manifest("checkpoint", "../checkpoint.pth"), "checkpoint"),
    "checkpoint is no checkpoint": (in_manifest("checkpoint", "sitecustomize.py"), "checkpoint"),
    "fold is a path": (in_manifest("folds", "../0", {"inference_allowed_mirroring_axes": None}), "folds"),
    "fold is no number": (in_manifest("folds", "00", {"inference_allowed_mirroring_axes": None}), "folds"),
    "no fold": (in_manifest("folds", {}), "folds"),
    "axes are none": (in_manifest("folds", "0", "inference_allowed_mirroring_axes", [3]), "axes"),
    "manifest says more": (in_manifest("script", "x"), "script"),
    "a later format": (in_manifest("format", 2), "format 2.*--upgrade"),
    "no format": (in_manifest("format", "one"), "format"),
    "manifest is a list": (lambda contents: contents.update({"manifest.json": b"[1]"}), "manifest.json"),
    "weights are missing": (lambda contents: contents.pop(WEIGHTS), "checkpoint.safetensors' in the zip .*, got none"),
    "plans are missing": (lambda contents: contents.pop("plans.json"), "plans.json' in the zip .*, got none"),
    "another file": (lambda contents: contents.update({"fold_0/sitecustomize.py": b"x"}), "sitecustomize"),
    "a fold too many": (lambda contents: contents.update({"fold_1/checkpoint.safetensors": b"x"}), "fold_1"),
    "a path upwards": (lambda contents: contents.update({"../evil.json": b"{}"}), "evil"),
    "an absolute path": (lambda contents: contents.update({"/tmp/evil.json": b"{}"}), "evil"),
    "a backslash": (lambda contents: contents.update({"fold_0\\..\\evil.json": b"{}"}), "evil"),
    "a long JSON": (lambda contents: contents.update({"dataset_fingerprint.json": b"{}" + b" " * 16 * MB}), "bytes"),
}


@pytest.mark.parametrize("case", UNSOUND)
def test_unsound_contents_with_right_checksums(case, bundle, results, tmp_path):
    assert_unsound(*UNSOUND[case], bundle, results, tmp_path / "model.zip")


def test_a_bundle_sealed_by_hand_is_taken(bundle, results, tmp_path):
    """So that the cases above are refused for what they change."""
    assert import_model(write_zip(tmp_path / "model.zip", sealed(contents_of(bundle)))).is_dir()


@pytest.mark.parametrize("name", ["plans.json", "dataset.json", "dataset_fingerprint.json", WEIGHTS])
def test_wrong_checksums(name, bundle, results, tmp_path):
    contents = contents_of(bundle)
    contents[name] += b" "
    assert_refused(write_zip(tmp_path / "model.zip", contents), results, "another checksum")


@pytest.mark.parametrize("name", ["plans.json", WEIGHTS])
def test_files_that_are_only_in_the_zip_or_only_in_the_manifest(name, bundle, results, tmp_path):
    contents = contents_of(bundle)
    manifest = json.loads(contents["manifest.json"])
    del manifest["sha256"][name]
    unlisted = {**contents, "manifest.json": json.dumps(manifest).encode()}
    assert_refused(write_zip(tmp_path / "unlisted.zip", unlisted), results, "alone, got")
    del contents[name]
    assert_refused(
        write_zip(tmp_path / "lacking.zip", contents), results, f"'{name}' in the zip and its manifest, got none"
    )


def linked(archive):
    archive.filelist[1].external_attr = (stat.S_IFLNK | 0o777) << 16


def counted_twice(archive):
    """Let two entries lie on the same bytes."""
    twin = zipfile.ZipInfo("fold_1/checkpoint.safetensors")
    original = archive.getinfo(WEIGHTS)
    for name in ("header_offset", "file_size", "compress_size", "CRC", "external_attr"):
        setattr(twin, name, getattr(original, name))
    archive.filelist.append(twin)


def inflated(archive):
    archive.getinfo("plans.json").file_size = 10**12


def inflated_stored(archive):
    archive.getinfo("plans.json").file_size = archive.getinfo("plans.json").compress_size = 10**12


def cut_by_nul(archive):
    archive.getinfo("plans.json").filename = "plans.json\0.py"


def a_folder(archive):
    archive.mkdir("fold_1") if hasattr(archive, "mkdir") else archive.writestr("fold_1/", b"")


@pytest.mark.parametrize(
    ("trick", "said"),
    [
        (linked, "a link"),
        (encrypted, "encrypted"),
        (inflated, "compressed"),
        (a_folder, "a folder"),
        (counted_twice, "more bytes"),
        (inflated_stored, "more bytes"),
        (cut_by_nul, r"plans.json\\x00.py"),
    ],
)
def test_tricks_with_the_zip(trick, said, bundle, results, tmp_path):
    file = shutil.copy(bundle, tmp_path / "model.zip")
    change_zip(file, trick)
    assert_refused(file, results, said)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name(bundle, results, tmp_path):
    file = shutil.copy(bundle, tmp_path / "model.zip")
    with zipfile.ZipFile(file, "a") as archive:
        entry = zipfile.ZipInfo("plans.json")
        entry.external_attr = (stat.S_IFREG | 0o644) << 16
        archive.writestr(entry, b"{}")
    assert_refused(file, results, "two files of one name")


def test_compressed_files_are_not_even_opened(bundle, results, tmp_path):
    assert_refused(write_zip(tmp_path / "model.zip", contents_of(bundle), zipfile.ZIP_DEFLATED), results, "compressed")


@pytest.mark.parametrize("content", [None, b"", b"weights", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_bundle(content, results, tmp_path):
    if content is not None:
        (tmp_path / "model.zip").write_bytes(content)
    assert_refused(tmp_path / "model.zip", results, "no such file|a whole zip|without manifest.json")
    assert_refused(tmp_path, results, "no such file")
