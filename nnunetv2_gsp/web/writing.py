"""Writes the page's folder: scripts that work from file:// too, where a page can read no other files."""

import base64
import gzip
import json
import shutil
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.files import check_target
from nnunetv2_gsp.markup import render
from nnunetv2_gsp.nnunet import FINAL_CHECKPOINT
from nnunetv2_gsp.runtimes import onnx_runtime
from nnunetv2_gsp.runtimes.exporting import export_network
from nnunetv2_gsp.web.libraries import LIBRARIES, are_at_hand, library_files

_SOURCES = Path(__file__).parent
MODEL = "assets/model.js"  # holds the network and what is computed around it
_PAGE = ("embedded", "images", "viewing", "saving", "page")  # in the order in which they use one another
_SEGMENTING = ("volumes", "resampling", "preprocessing", "windows", "labels", "pool", "segmenting")
_ORDERS = {0, 1, 3}  # of splines, which resampling.js can
_README = """Open index.html in a browser; the folder can be moved and copied, and needs no network.

From a static server that sends these two headers the page computes in several threads, which share memory:
Cross-Origin-Opener-Policy: same-origin
Cross-Origin-Embedder-Policy: require-corp
"""


def write_page(
    model_folder: Path,
    output: Path,
    folds: Sequence[str | int] | None = None,
    checkpoint_name: str = FINAL_CHECKPOINT,
    libraries: Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a folder with a page that segments images by a trained GSP model in a browser, without a network.

    Args:
        model_folder: model folder TRAINER__PLANS__CONFIGURATION in nnUNet_results/DATASET.
        output: folder to write; missing folders above it are created.
        folds: as `export_network` takes them; the page averages their logits.
        checkpoint_name: name of the checkpoint's file in each fold's folder.
        libraries: folder of npm's archives of the JavaScript libraries, into which missing ones are downloaded; None
            takes the user's cache.
        overwrite: True replaces an existing page.

    Returns:
        The page to open.

    Raises:
        InputError: as `export_network`; or something other than a page would be replaced, the libraries are missing
            and can't be downloaded, or the plans ask for splines that the page has not.
    """
    check_target(output, overwrite, is_folder=True)
    _check_replaceable(output)
    output.absolute().parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".page_", dir=output.absolute().parent) as unfinished:
        exported = Path(unfinished, "exported", "model.onnx")
        export_network(model_folder, exported, "onnx", folds, checkpoint_name)
        pipeline = json.loads(exported.with_name("pipeline.json").read_text(encoding="utf-8"))
        _check_supported(pipeline)
        folder = Path(unfinished, output.name)
        _write_files(folder, pipeline, exported.read_bytes(), library_files(libraries))
        if output.exists():
            shutil.rmtree(output)
        folder.rename(output)
    return output / "index.html"


def can_write_page() -> bool:
    """Return whether all that a page needs is here: the packages that export, and the libraries in the cache."""
    return are_at_hand() and all(find_spec(package) is not None for package in onnx_runtime.PACKAGES)


def _check_replaceable(output: Path) -> None:
    if output.exists() and any(output.iterdir()) and not (output / MODEL).is_file():
        raise InputError(
            "a page that is replaced, or nothing", "a folder of something else", where=output, parameters=["output"]
        )


def _check_supported(pipeline: Mapping[str, Any]) -> None:
    resampling = [pipeline["resampling"][what] for what in ("data", "probabilities")]
    unknown = {each[order] for each in resampling for order in ("order", "order_z")} - _ORDERS
    if unknown:
        raise InputError(
            "plans that resample by splines of order 0, 1 or 3, which the page can",
            f"order {', '.join(map(str, sorted(unknown)))}",
            remedy="export the model for another runtime",
            parameters=["format"],
        )


def _write_files(folder: Path, pipeline: Mapping[str, Any], model: bytes, libraries: Mapping[str, bytes]) -> None:
    assets = folder / "assets"
    assets.mkdir(parents=True)
    (folder / "index.html").write_text(
        render(
            "web/page.html.j2",
            **{name: pipeline[name] for name in ("model", "versions", "channels")},
            folds=[fold for network in pipeline["networks"] for fold in network["folds"]],
            libraries=LIBRARIES,
        ),
        encoding="utf-8",
    )
    shutil.copyfile(_SOURCES / "page.css", folder / "page.css")
    workers = {"segmenting.js": _joined("worker", _SEGMENTING), "network.js": _joined("worker", ["network"])}
    (folder / "page.js").write_bytes(_joined("page", _PAGE))
    (assets / "niivue.js").write_bytes(libraries["niivue"])
    constants = f"const EMBEDDED = {{}}, PIPELINE = {json.dumps(pipeline)};\n"
    _write_embedded(folder / MODEL, {"model": model, **workers}, constants)
    for kind in ("wasm", "webgpu"):
        files = {name: content for name, content in libraries.items() if name.startswith(f"{kind}.")}
        _write_embedded(assets / f"onnxruntime_{kind}.js", files)
    (folder / "LICENCES.txt").write_text(_licences(), encoding="utf-8")
    (folder / "README.txt").write_text(_README, encoding="utf-8")


def _joined(folder: str, names: Sequence[str]) -> bytes:
    scripts = [(_SOURCES / folder / f"{name}.js").read_text(encoding="utf-8") for name in names]
    return "\n".join(['"use strict";', *scripts]).encode()


def _write_embedded(script: Path, files: Mapping[str, bytes], before: str = "") -> None:
    """Write a script that holds files, compressed, which the page unpacks when it needs them."""
    packed = {name: base64.b64encode(gzip.compress(content, mtime=0)).decode() for name, content in files.items()}
    script.write_text(f"{before}Object.assign(EMBEDDED, {json.dumps(packed)});\n", encoding="utf-8")


def _licences() -> str:
    return "\n\n".join(
        f"{library.name} {library.version} ({library.licence})\n\n"
        + (_SOURCES / "licences" / f"{library.base_name}.txt").read_text(encoding="utf-8")
        for library in LIBRARIES
    )
