"""The folder is whole, names no place of this machine, and is refused in one sentence."""

import base64
import gzip
import json
import re

import pytest

from nnunetv2_gsp.errors import InputError, TargetExistsError
from nnunetv2_gsp.web import writing
from nnunetv2_gsp.web.libraries import LIBRARIES
from nnunetv2_gsp.web.writing import write_page
from tests.runtimes.models import PLANNED, dataset, plans
from tests.sharing.models import write_model_folder
from tests.web.pages import FILES

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def model_folder(nnunet_folders):
    return write_model_folder(nnunet_folders, plans(), dataset=dataset())


@pytest.fixture(autouse=True)
def libraries(monkeypatch):
    monkeypatch.setattr(writing, "library_files", lambda folder: FILES)


def embedded(script):
    text = script.read_text()
    packed = json.loads(re.search(r"Object\.assign\(EMBEDDED, (.*)\);", text)[1])
    return {name: gzip.decompress(base64.b64decode(content)) for name, content in packed.items()}


def test_the_folder_holds_the_network_its_pipeline_and_the_libraries(model_folder, tmp_path):
    page = write_page(model_folder, tmp_path / "new" / "page")
    folder = page.parent
    names = {"index.html", "page.js", "page.css", "LICENCES.txt", "README.txt", "assets"}
    assert {file.name for file in folder.iterdir()} == names
    model = embedded(folder / "assets" / "model.js")
    assert onnxruntime.InferenceSession(model["model"]).get_inputs()[0].name == "image"
    assert "PIPELINE = {" in (folder / "assets" / "model.js").read_text()
    scripts = [embedded(folder / "assets" / f"onnxruntime_{kind}.js") for kind in ("wasm", "webgpu")]
    assert {**scripts[0], **scripts[1], "niivue": (folder / "assets" / "niivue.js").read_bytes()} == FILES
    for library in LIBRARIES:
        assert f"{library.name} {library.version} ({library.licence})" in (folder / "LICENCES.txt").read_text()
    written = b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file()) + b"".join(model.values())
    assert str(tmp_path).encode() not in written
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["page"]


def test_the_page_names_no_other_host(model_folder, tmp_path):
    page = write_page(model_folder, tmp_path / "page")
    own = [page, *(page.parent / name for name in ("page.js", "page.css"))]
    assert not [file.name for file in own if re.search(r"https?://|//\w+\.", file.read_text())]


def test_a_page_is_replaced_when_asked_alone(model_folder, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(TargetExistsError):
        write_page(model_folder, tmp_path)
    with pytest.raises(InputError, match="a page that is replaced, or nothing, got a folder of something else"):
        write_page(model_folder, tmp_path, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    write_page(model_folder, tmp_path / "page")
    (tmp_path / "page" / "old.txt").touch()
    write_page(model_folder, tmp_path / "page", overwrite=True)
    assert not (tmp_path / "page" / "old.txt").exists()


def test_splines_that_the_page_has_not_are_refused(nnunet_folders, tmp_path):
    resampling = {**PLANNED, "data": {**PLANNED["data"], "order": 4}}
    folder = write_model_folder(nnunet_folders, plans(resampling=resampling), dataset=dataset())
    with pytest.raises(InputError, match="splines of order 0, 1 or 3, which the page can, got order 4"):
        write_page(folder, tmp_path / "page")
    assert list(tmp_path.iterdir()) == []
