"""Files from strangers: every rule on what a case's file holds is broken once."""

import gzip
import re
import struct

import numpy as np
import pytest

from nnunetv2_gsp.submission import check_submission
from tests.datasets.sources import write_image
from tests.submission.archives import NAMES, check, nifti, unpacked

CONTENT_VIOLATIONS = {
    "label of another edition": (
        lambda voxels, _: np.where(voxels == 4, 3, voxels).astype(np.uint8),
        r"'BraTS2021_00002\.nii\.gz': expected labels among \[0, 1, 2, 4\], got 3",
    ),
    "float": (lambda voxels, _: voxels.astype(np.float32), "unscaled integers in .*, got float32"),
    "size": (lambda voxels, _: voxels[1:], r"6×5×4 voxels in 'BraTS2021_00002\.nii\.gz', got 5×5×4"),
    "four dimensions": (lambda voxels, _: np.stack([voxels] * 2, -1), "6×5×4 voxels in .*, got 6×5×4×2"),
}


@pytest.mark.parametrize("violation", CONTENT_VIOLATIONS)
def test_content_that_breaks_a_rule_is_named(violation, brats2021, contents):
    change, said = CONTENT_VIOLATIONS[violation]
    contents[NAMES[2]] = nifti(contents, NAMES[2], change)
    [found] = check(brats2021, contents.items())
    assert re.search(said, found)


def test_scaled_labels_are_refused(brats2021, contents):
    packed = bytearray(gzip.decompress(contents[NAMES[2]]))
    struct.pack_into("<ff", packed, 112, 2.0, 0.0)  # scl_slope, scl_inter
    contents[NAMES[2]] = gzip.compress(bytes(packed))
    violations = check(brats2021, contents.items())
    assert any("slope and intercept (2.0, 0.0)" in violation for violation in violations)


def test_a_case_that_lies_elsewhere_is_named(brats2021, contents):
    def move(voxels, header):
        affine = header.get_best_affine()
        affine[0, 3] += 0.5
        header.set_qform(affine, 1)
        header.set_sform(affine, 1)
        return voxels

    contents[NAMES[2]] = nifti(contents, NAMES[2], move)
    [violation] = check(brats2021, contents.items())
    assert "'BraTS2021_00002.nii.gz' to lie where its image does" in violation


@pytest.mark.parametrize(("challenge", "n_violations"), [("brats2021", 0), ("brats2023", 1), ("brats2024", 0)])
def test_in_2023_the_qform_counts_to_the_last_bit(challenge, n_violations, submission_of):
    def nudge(voxels, header):
        header["qoffset_x"] += np.float32(1e-5)
        return voxels

    made = submission_of(challenge)
    contents = unpacked(made)
    first = next(iter(contents))
    contents[first] = nifti(contents, first, nudge)
    violations = check(made, contents.items())
    assert len(violations) == n_violations
    assert all("exactly the qform" in violation for violation in violations)


def test_the_validator_of_2024_does_not_look_where_a_file_lies(submission_of, caplog):
    def move(voxels, header):
        header.set_sform(header.get_best_affine() + np.eye(4, k=3), 1)
        return voxels

    caplog.set_level("INFO", "nnunetv2_gsp")
    made = submission_of("brats2024")
    contents = unpacked(made)
    first = next(iter(contents))
    contents[first] = nifti(contents, first, move)
    assert check(made, contents.items()) == []
    [note] = [record.message for record in caplog.records]
    assert note.startswith(f"note: The challenge does not look where files lie, but expected is {first!r} to lie where")


@pytest.mark.parametrize(
    "damaged",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"no image",
        lambda content: b"",
        lambda content: content[:-6] + bytes([content[-6] ^ 1]) + content[-5:],
        lambda content: gzip.compress(gzip.decompress(content)[:-50]),
    ],
    ids=["cut off", "text", "empty", "checksum", "cut off before it was compressed"],
)
def test_damaged_files_are_named(damaged, brats2021, contents):
    contents[NAMES[2]] = damaged(contents[NAMES[2]])
    [violation] = check(brats2021, contents.items())
    assert "whole image in 'BraTS2021_00002.nii.gz', got one that cannot be read" in violation


def test_a_bomb_is_read_no_further_than_a_case_can_reach(brats2021, contents, monkeypatch):
    """Zeros that unpack to a hundred times the size of a case, behind a header that is in order."""
    contents[NAMES[1]] = gzip.compress(gzip.decompress(contents[NAMES[1]]) + bytes(100_000_000))
    contents[NAMES[2]] = bytes(100_000_000)  # deflated once, by the zip alone
    n_read = []
    read = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda self, size: n_read.append(size) or read(self, size))
    first, second = check(brats2021, contents.items())
    assert "'BraTS2021_00001.nii.gz': expected at most" in first
    assert "once unpacked, got more" in first
    assert "got 100000000" in second
    assert sum(n_read) < 10_000_000


META_VIOLATIONS = {
    "compressed": ("CompressedData = False", "CompressedData = True", "CompressedData = 'True'"),
    "type": ("MET_UCHAR", "MET_SHORT", "MET_SHORT"),
    "path": ("= Case00_segmentation.raw", "= ../../secret.raw", r"secret\.raw"),
    "list": ("= Case00_segmentation.raw", "= LIST\nCase00_segmentation.raw", "LIST"),
    "size": ("DimSize = 6 5 4", "DimSize = 6 5 3", "6×5×4 voxels in .*, got 6×5×3"),
    "spacing": ("3.6", "3.7", "spacing"),
    "origin": ("Offset = -7", "Offset = -8", "origin"),
    "no scale": ("ElementSpacing = ", "ElementSpacing = no ", "in .Case00_segmentation.mhd., got one that cannot"),
    "twice": ("ElementSpacing", "DimSize = 6 5 3\nElementSpacing", "DimSize = '6 5 3 and 6 5 4'"),
    "no text": ("NDims", "NDims\xff", "cannot be read"),
}


@pytest.mark.parametrize("violation", META_VIOLATIONS)
def test_a_header_of_promise12_that_breaks_a_rule_is_named(violation, promise12, promise12_contents):
    old, new, said = META_VIOLATIONS[violation]
    name = "Case00_segmentation.mhd"
    assert old.encode() in promise12_contents[name]
    promise12_contents[name] = promise12_contents[name].replace(old.encode(), new.encode("latin1"))
    [found] = check(promise12, promise12_contents.items())
    assert re.search(said, found)
    assert name in found


def test_voxels_of_promise12_are_checked(promise12, promise12_contents):
    header, raw = "Case00_segmentation.mhd", "Case00_segmentation.raw"
    without = {name: content for name, content in promise12_contents.items() if name != raw}
    [no_raw] = check(promise12, without.items())
    assert "Expected 'Case00_segmentation.raw' beside" in no_raw
    [lonely_raw, missing] = check(promise12, [each for each in promise12_contents.items() if each[0] != header])
    assert "got 'Case00_segmentation.raw'" in lonely_raw
    assert missing == "Expected a file for Case00, got none."
    for content, said in ((bytes([2] * 120), "got 2"), (bytes(100), "120 bytes in"), (bytes(999), "got more")):
        [violation] = check(promise12, {**promise12_contents, raw: content}.items())
        assert said in violation


def test_a_header_alone_sets_no_memory_aside(promise12, promise12_contents, monkeypatch):
    name = "Case00_segmentation.mhd"
    promise12_contents[name] = promise12_contents[name].replace(b"DimSize = 6 5 4", b"DimSize = 99999 99999 99")
    check(promise12, [entry for entry in promise12_contents.items() if "Case00" in entry[0]])
    monkeypatch.setattr("SimpleITK.ReadImage", lambda file: pytest.fail(f"{file} was read"))
    assert check_submission(promise12.file, "promise12") == [
        "Expected 989980200099 bytes in 'Case00_segmentation.raw', got 120."
    ]


@pytest.mark.parametrize("size", ["0 8 4", "99999999 99999999 0", "-6 -5 4"])
def test_an_image_of_no_voxels_is_named(size, promise12, promise12_contents):
    header, raw = "Case00_segmentation.mhd", "Case00_segmentation.raw"
    promise12_contents[header] = promise12_contents[header].replace(b"= 6 5 4", b"= " + size.encode())
    check(promise12, [(header, promise12_contents[header]), (raw, promise12_contents[raw] if "-" in size else b"")])
    assert check_submission(promise12.file, "promise12") == [
        f"Expected at least one voxel along each axis in {header!r}, got {size.replace(' ', '×')}."
    ]


def test_an_archive_of_other_software_passes(brats2021):
    """Int16, deflated, written by ITK, with another compressor's header: allowed, if the case is."""
    entries = []
    for case, inside in brats2021.inside.items():
        file = brats2021.predictions / f"{case}.nii.gz"
        write_image(np.where(inside == 3, 4, inside).astype(np.int16), file)
        entries.append((file.name, file.read_bytes()))
    assert check(brats2021, entries) == []
