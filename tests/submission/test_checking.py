"""Archives from strangers: every rule is broken once, and all that is wrong is said at once."""

import gzip
import re
import stat
import struct
import zipfile

import nibabel
import numpy as np
import pytest

from nnunetv2_gsp.errors import MissingInputError
from nnunetv2_gsp.submission import check_submission
from tests.sharing.bundles import change_zip, encrypted
from tests.submission.archives import NAMES, check, nifti


def link():
    info = zipfile.ZipInfo(NAMES[2])
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info


NAME_VIOLATIONS = {
    "sub-folder": (f"predictions/{NAMES[2]}", "in a folder"),
    "folder": ("predictions/", "in a folder or is one"),
    "windows folder": (f"predictions\\{NAMES[2]}", "in a folder"),
    "path that leads out": (f"../{NAMES[2]}", "leads out"),
    "absolute path": (f"/etc/{NAMES[2]}", "leads out"),
    "drive": (f"C:{NAMES[2]}", "leads out"),
    "suffix": ("BraTS2021_00002_seg.nii.gz", r"names that end in 00000\.nii\.gz"),
    "other file": ("readme.txt", r"names that end in 00000\.nii\.gz"),
    "unknown case": ("BraTS2021_00007.nii.gz", "only cases that the images have"),
    "two files of one case": ("again_00001.nii.gz", "one file for 00001, got 2"),
    "the same name twice": (NAMES[1], "one file for 00001, got 2"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("violation", NAME_VIOLATIONS)
def test_a_name_that_breaks_a_rule_is_named(violation, brats2021, contents):
    name, said = NAME_VIOLATIONS[violation]
    violations = check(brats2021, [*contents.items(), (name, contents[NAMES[2]])])
    assert len(violations) == 1
    assert re.search(said, violations[0])
    assert repr(name.split("/")[-1])[1:-1] in violations[0]


def test_missing_cases_links_and_an_empty_archive_are_said(brats2021, contents):
    [missing] = check(brats2021, list(contents.items())[:2])
    assert missing == "Expected a file for 00002, got none."
    a_link, missing = check(brats2021, [*list(contents.items())[:2], (link(), b"/etc/passwd")])
    assert "a link" in a_link
    assert len(check(brats2021, [])) == 4


def test_an_encrypted_file_is_said(brats2021, contents):
    check(brats2021, contents.items())
    change_zip(brats2021.file, encrypted)
    assert check_submission(brats2021.file, "brats2021", brats2021.source) == [
        f"Expected plain files without folders, got {NAMES[1]!r}, which is encrypted.",
        "Expected a file for 00001, got none.",
    ]


def test_files_that_share_bytes_are_refused(brats2021, contents):
    check(brats2021, contents.items())
    packed = bytearray(brats2021.file.read_bytes())
    for match in (index for index in range(len(packed)) if packed[index : index + 4] == b"PK\x01\x02"):
        struct.pack_into("<I", packed, match + 20, 10_000_000)  # compressed size in the directory
    brats2021.file.write_bytes(packed)
    [violation] = check_submission(brats2021.file, "brats2021", brats2021.source)
    assert "share bytes" in violation


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x05\x06" + bytes(10)])
def test_what_is_no_zip_is_said(content, brats2021):
    brats2021.file.write_bytes(content)
    [violation] = check_submission(brats2021.file, "brats2021")
    assert "Expected a whole zip archive" in violation
    brats2021.file.unlink()
    with pytest.raises(MissingInputError, match="no such file"):
        check_submission(brats2021.file, "brats2021")


def test_every_violation_is_listed_at_once(brats2021, contents):
    def relabel(voxels, _):
        return np.where(voxels == 4, 3, voxels).astype(np.uint8)

    entries = [
        (NAMES[0], contents[NAMES[0]][:50]),
        (NAMES[1], nifti(contents, NAMES[1], relabel)),
        ("../x.nii.gz", b""),
        ("notes.txt", b""),
        ("BraTS2021_00005.nii.gz", b""),
    ]
    assert len(check(brats2021, entries)) == 6  # the third case is missing


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_voxels_of_promise12_come_once(promise12, promise12_contents):
    raw = "Case00_segmentation.raw"
    violations = check(promise12, [*promise12_contents.items(), (raw, promise12_contents[raw])])
    assert violations == ["Expected 'Case00_segmentation.raw' once, got it 2 times."] * 2


def test_nothing_is_written_while_checking(brats2021, contents, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    check(brats2021, [*contents.items(), ("../../x.nii.gz", b""), ("/tmp/x.nii.gz", b"")])
    assert sorted(tmp_path.rglob("*")) == before


NAME = "BraTS-GLI-00001-000.nii.gz"


@pytest.fixture
def full_size(tmp_path, caplog):
    """Check a zip of files (name, affine, dtype) of the edition's size: the violations, and the notes."""
    caplog.set_level("INFO", "nnunetv2_gsp")

    def check_files(challenge, *files, size=(240, 240, 155)):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            if "/" in files[0][0]:
                archive.writestr("team/.DS_Store", b"")
            for name, affine, dtype in files:
                image = nibabel.Nifti1Image(np.zeros(size, dtype), affine)
                image.set_qform(affine, 1)
                archive.writestr(name, gzip.compress(image.to_bytes(), 1))
        return check_submission(tmp_path / "a.zip", challenge), [record.message for record in caplog.records]

    return check_files


AFFINE = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])  # ORIGIN in validate.py of Sage's
MOVED = AFFINE + np.eye(4, k=3)  # by a millimetre along x


def test_what_the_validator_of_2023_takes_is_valid_with_a_note(full_size, tmp_path):
    """utils.py and validate.py: files in a folder, hidden ones, voxels of any type."""
    violations, notes = full_size("brats2023", (f"team/{NAME}", AFFINE, np.float32))
    assert violations == []
    assert [re.sub("'.*'", "it", note) for note in notes] == [
        "note: the challenge passes over hidden files, here team/.DS_Store",
        "note: the challenge takes files in folders, here team",
        "note: it holds float32 (slope and intercept (1.0, 0.0)), taken where labels are whole.",
    ]
    with zipfile.ZipFile(tmp_path / "a.zip", "a") as archive:
        archive.writestr(f"__MACOSX/team/._{NAME}", b"\0\5\x16\7")
    assert check_submission(tmp_path / "a.zip", "brats2023") == []
    with zipfile.ZipFile(tmp_path / "a.zip", "a") as archive:
        archive.writestr("team/readme.txt", b"")  # which it refuses
        archive.writestr(f"other/{NAME}", b"")
    first, second, *_ = check_submission(tmp_path / "a.zip", "brats2023")
    assert "got 'team/readme.txt'" in first
    assert "one file for 00001-000, got 2" in second


@pytest.mark.parametrize("affine", [np.eye(4), MOVED], ids=["identity", "moved"])
def test_where_the_files_of_an_edition_lie_is_known_without_images(affine, full_size):
    for challenge, name in (("brats2023", NAME), ("brats2021", "BraTS2021_00001.nii.gz")):
        [violation] = full_size(challenge, (name, affine, np.uint8))[0]
        assert f"to lie where all of {challenge} do, with the affine {AFFINE.tolist()}, got" in violation
    assert full_size("brats2023", (NAME, AFFINE, np.uint8))[0] == []


def test_the_validator_of_2024_looks_at_the_size_alone(full_size):
    """validate2024.py; metrics_*.py compare arrays."""
    assert full_size("brats2024-ped", ("BraTS-PED-00001-000.nii.gz", np.eye(4), np.uint8))[0] == []
    assert full_size("brats2024-men-rt", ("BraTS-MEN-RT-0001-1.nii.gz", np.eye(4), np.uint8), size=(9, 8, 7))[0] == []
    [violation] = full_size("brats2024", ("BraTS-GLI-00001-100.nii.gz", np.eye(4), np.uint8))[0]
    assert "Expected 182×218×182 voxels" in violation
    for size in ((240, 240, 155), (182, 218, 182)):
        assert full_size("brats2025", (NAME, np.eye(4), np.uint8), size=size)[0] == []
    [violation] = full_size("brats2025", (NAME, np.eye(4), np.uint8), size=(9, 8, 7))[0]
    assert "Expected 240×240×155 or 182×218×182 voxels" in violation
