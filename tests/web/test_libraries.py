"""The libraries come from npm once, are checked, and are missed in one sentence."""

import base64
import hashlib
import io
import tarfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from nnunetv2_gsp.errors import DamagedFileError, UnavailableError
from nnunetv2_gsp.web import libraries
from nnunetv2_gsp.web.libraries import Library, are_at_hand, library_files


def archive(content):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as opened:
        member = tarfile.TarInfo("package/dist/view.js")
        member.size = len(content)
        opened.addfile(member, io.BytesIO(content))
    return file.getvalue()


ARCHIVE = archive(b"view()")
CHECKSUM = base64.b64encode(hashlib.sha512(ARCHIVE).digest()).decode()
VIEWER = Library("@them/viewer", "1.2.3", "MIT", CHECKSUM, 1, {"viewer": "package/dist/view.js"})


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """Serve a registry that has the one library; returns the file that it serves."""
    monkeypatch.setattr(libraries, "LIBRARIES", (VIEWER,))
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(variable, "localhost")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "served" / "@them" / "viewer" / "-" / "viewer-1.2.3.tgz"
    file.parent.mkdir(parents=True)
    file.write_bytes(ARCHIVE)
    with ThreadingHTTPServer(("localhost", 0), partial(Quiet, directory=tmp_path / "served")) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("npm_config_registry", f"http://localhost:{server.server_port}/")
        yield file
        server.shutdown()


def test_it_is_downloaded_once_into_the_cache(registry, tmp_path):
    assert not are_at_hand()
    assert library_files() == {"viewer": b"view()"}
    registry.unlink()
    assert are_at_hand()
    assert library_files() == {"viewer": b"view()"}
    kept = tmp_path / "cache" / "nnunetv2_gsp" / "npm"
    assert [file.name for file in kept.iterdir()] == ["them-viewer-1.2.3.tgz"]  # as `npm pack` names it


def test_what_npm_pack_wrote_into_a_folder_is_taken(registry, tmp_path):
    registry.rename(tmp_path / "them-viewer-1.2.3.tgz")
    assert library_files(tmp_path) == {"viewer": b"view()"}


def test_another_archive_is_refused_and_not_kept(registry, tmp_path):
    registry.write_bytes(archive(b"steal()"))
    with pytest.raises(
        DamagedFileError, match=r"npm's archive of @them/viewer 1\.2\.3, got a file with another checksum"
    ):
        library_files(tmp_path / "npm")
    assert not (tmp_path / "npm").exists()
    (tmp_path / "npm").mkdir()
    registry.rename(tmp_path / "npm" / "them-viewer-1.2.3.tgz")
    with pytest.raises(DamagedFileError, match="remove it, and it is downloaded anew, or change libraries"):
        library_files(tmp_path / "npm")


def test_without_a_network_one_sentence_says_how_to_get_it(registry, tmp_path):
    registry.unlink()
    with pytest.raises(UnavailableError) as refusal:
        library_files(tmp_path / "npm")
    assert "File not found" in str(refusal.value)
    assert "run 'npm pack @them/viewer@1.2.3' where npm can be reached" in str(refusal.value)
    assert "\n" not in str(refusal.value)
