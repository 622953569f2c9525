"""Bundles as a stranger can make them: changed anywhere, with the right checksums."""

import hashlib
import json
import stat
import zipfile

import pytest
from safetensors.torch import load, save

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.sharing import import_model
from tests.sharing.models import ARCHITECTURE, WEIGHTS, contents_of, put


def write_zip(file, contents, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in contents.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            entry.compress_type = compression
            archive.writestr(entry, content)
    return file


def change_zip(file, change):
    """Let a function change the entries of a zip, and write its directory anew."""
    with zipfile.ZipFile(file, "a") as archive:
        change(archive)
        archive._didModify = True


def encrypted(archive):
    archive.filelist[1].flag_bits |= 1


def sealed(contents):
    """Return the contents with a manifest that has their checksums, as a stranger can make one."""
    manifest = json.loads(contents["manifest.json"])
    manifest["sha256"] = {
        name: hashlib.sha256(content).hexdigest() for name, content in contents.items() if name != "manifest.json"
    }
    return {**contents, "manifest.json": json.dumps(manifest).encode()}


def assert_refused(file, results, said):
    with pytest.raises(InputError, match=said) as refusal:
        import_model(file)
    assert str(refusal.value).isprintable()
    assert list(results.rglob("*")) == []


def in_json(name, *path_and_value):
    def change(contents):
        content = json.loads(contents[name])
        put(content, *path_and_value)
        contents[name] = json.dumps(content).encode()

    return change


def in_weights(change_tensors):
    def change(contents):
        tensors = load(contents[WEIGHTS])
        change_tensors(tensors)
        contents[WEIGHTS] = save(tensors)

    return change


def in_manifest(*path_and_value):
    return in_json("manifest.json", *path_and_value)


def of_dataset(name):
    def change(contents):
        in_manifest("dataset", name)(contents)
        in_json("plans.json", "dataset_name", name)(contents)

    return change


def in_network(*path_and_value):
    return in_json("plans.json", *ARCHITECTURE, "arch_kwargs", *path_and_value)


def in_configuration(*path_and_value):
    return in_json("plans.json", "configurations", "3d_fullres", *path_and_value)


def assert_unsound(change, said, bundle, results, file):
    """Change the contents of a bundle, and give the changed ones right checksums: they are refused."""
    contents = contents_of(bundle)
    change(contents)
    if "sha256" in json.loads(contents["manifest.json"]):
        contents = sealed(contents)
    assert_refused(write_zip(file, contents), results, said)
