"""The page in headless Chromium: it segments as nnU-Net does, cancels, and says in a sentence what is wrong."""

import gzip
import pickle
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import nibabel
import numpy as np
import pytest

from nnunetv2_gsp.web.libraries import are_at_hand
from nnunetv2_gsp.web.writing import write_page
from tests.runtimes.cases import CASES, assert_alike, of_nnunet, write_case
from tests.web.browser import CHROMIUM, GPU_IN_SOFTWARE, chromium

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"),
    pytest.mark.skipif(
        not are_at_hand(), reason="the page's libraries are not in the cache; export a page to get them"
    ),
]
PHANTOM = "phantom, regions"


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def page(nnunet_folders, tmp_path_factory):
    """Write the page of a case by its name, once; returns the case and the page."""
    made = {}

    def write(name):
        if name not in made:
            folder = tmp_path_factory.mktemp("results")
            written = write_case(name, nnunet_folders, folder)
            if name == "smaller than the patch":
                keep_largest_component(written.model_folder)
            made[name] = written, write_page(written.model_folder, folder / "page")
        return made[name]

    return write


def keep_largest_component(model_folder):
    from nnunetv2.postprocessing.remove_connected_components import (
        remove_all_but_largest_component_from_segmentation as keep,
    )

    folder = model_folder / "crossval_results_folds_0"
    folder.mkdir()
    (folder / "postprocessing.pkl").write_bytes(pickle.dumps(([keep], [{"labels_or_regions": [1]}])))


def text(tab, name):
    return tab.run(f"document.getElementById('{name}').textContent")


def give(tab, files):
    """Give files to the page, and return what it says of them: what is wrong, or nothing."""
    tab.choose("#files", files)
    tab.wait("!busy && document.getElementById('files').value === ''")
    return text(tab, "wrong")


def segment(tab):
    tab.run("document.getElementById('segment').click()")
    tab.wait("!busy")
    assert text(tab, "wrong") == ""
    return text(tab, "state")


def saved(tab, folder):
    tab.save_downloads(folder)
    tab.run("document.getElementById('save').click()")
    file = folder / "case_segmentation.nii.gz"
    for _ in range(100):
        if file.exists():
            return nibabel.load(file)
        tab.run("new Promise(resolve => setTimeout(resolve, 50))")
    raise AssertionError("nothing was saved")


def open_page(tab, url):
    tab.complaints.clear()
    tab.requests.clear()
    tab.open(url)


@pytest.mark.parametrize(
    "name", [PHANTOM, *(pytest.param(name, marks=pytest.mark.contract) for name in CASES if name != PHANTOM)]
)
def test_labels_are_nnunets(name, page, tab, tmp_path):
    written, file = page(name)
    open_page(tab, file.as_uri())
    assert give(tab, sorted(written.images.iterdir())) == ""
    assert segment(tab).startswith("Done in ")
    image = saved(tab, tmp_path)
    expected = of_nnunet(written, tmp_path)
    if name == "smaller than the patch":
        expected = post_processed(written, expected)
    assert_alike(image, expected)
    assert (image.get_data_dtype(), image.header["qform_code"] > 0) == (np.uint8, True)
    assert tab.complaints == []
    assert {url.partition(":")[0] for url in tab.requests} <= {"file", "data", "blob"}


def post_processed(written, expected):
    from nnunetv2.postprocessing.remove_connected_components import apply_postprocessing

    steps = pickle.loads((written.model_folder / "crossval_results_folds_0" / "postprocessing.pkl").read_bytes())
    labels = np.asarray(expected.dataobj)
    kept = apply_postprocessing(labels, *steps)
    assert (kept != labels).any()  # or it would show nothing
    return nibabel.Nifti1Image(kept, expected.affine)


def test_volumes_are_in_ml_and_nothing_is_wider_than_the_screen(page, tab, tmp_path):
    written, file = page(PHANTOM)
    open_page(tab, file.as_uri())
    one = combined(written, tmp_path)
    assert give(tab, [one]) == ""
    segment(tab)
    labels = np.asarray(saved(tab, tmp_path).dataobj)
    shown = tab.run(
        "[...document.querySelectorAll('#volumes tr')].map(row => [...row.cells].map(cell => cell.textContent))"
    )
    regions = {"whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]}
    assert dict(shown) == {name: f"{np.isin(labels, of).sum() * 0.512:.2f}" for name, of in regions.items()}
    for width in (390, 1280):
        tab.resize(width)
        assert tab.run("document.documentElement.scrollWidth") <= width


@pytest.mark.contract
def test_nan_counts_as_0_as_itk_reads_it(page, tab, tmp_path):
    written, file = page(PHANTOM)
    open_page(tab, file.as_uri())
    first, *others = sorted(written.images.iterdir())
    with_nan = changed(first, tmp_path, lambda voxels: np.where(voxels == 0, np.nan, voxels))
    assert give(tab, [with_nan, *others]) == ""
    segment(tab)
    assert_alike(saved(tab, tmp_path), of_nnunet(written, tmp_path))


def combined(written, folder):
    """Write all channels as one 4D image."""
    images = [nibabel.load(file) for file in sorted(written.images.iterdir())]
    file = folder / "case.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.stack([each.get_fdata() for each in images], -1), images[0].affine), file)
    return file


def header_alone(folder):
    """Write what begins as a CT of 300 MB does."""
    file = folder / "ct.nii.gz"
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((512, 512, 600))
    header["magic"], header["vox_offset"] = b"n+1", 352
    file.write_bytes(gzip.compress(header.binaryblock + bytes(100_000)))
    return file


def changed(file, folder, change):
    image = nibabel.load(file)
    copy = folder / file.name
    nibabel.save(nibabel.Nifti1Image(change(image.get_fdata()), image.affine), copy)
    return copy


def truncated(file, folder):
    copy = folder / file.name
    copy.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return copy


def text_file(folder):
    file = folder / "notes.nii"
    file.write_text("patient 7" * 100)
    return file


def moved(file, folder):
    image = nibabel.load(file)
    copy = folder / file.name
    affine = image.affine.copy()
    affine[0, 3] += 5
    nibabel.save(nibabel.Nifti1Image(image.get_fdata(), affine), copy)
    return copy


TOO_LARGE = (
    "ct.nii.gz: expected an image that fits into a browser's memory, got 512 × 512 × 600 voxels (11.6 GB); crop it, or "
    "run nnUNetv2_predict."
)
WRONG = {
    "a missing channel": (
        lambda files, _: files[:3],
        "Expected 4 files, one a channel (MR0, MR1, MR2, MR3) or one 4D file, got 3.",
    ),
    "other sizes": (
        lambda files, folder: [*files[:3], changed(files[3], folder, lambda voxels: voxels[1:])],
        "case_0003.nii.gz: expected {whole} voxels as in case_0000.nii.gz, got {cut}.",
    ),
    "another place": (
        lambda files, folder: [*files[:3], moved(files[3], folder)],
        "case_0003.nii.gz: expected the place and the voxels of case_0000.nii.gz, got others.",
    ),
    "a label file": (
        lambda files, folder: [*files[:3], changed(files[3], folder, lambda voxels: (voxels > 0).astype(float))],
        "case_0003.nii.gz: expected an image, got a few whole numbers, as labels are.",
    ),
    "a CT of 300 MB": (
        lambda _, folder: [header_alone(folder)] * 4,
        TOO_LARGE,
    ),
    "another kind of file": (
        lambda files, folder: [*files[:3], text_file(folder)],
        "notes.nii: expected an image in NIfTI (.nii or .nii.gz), got another kind of file.",
    ),
    "half a file": (
        lambda files, folder: [*files[:3], truncated(files[3], folder)],
        "case_0003.nii.gz: expected a whole file, got one that cannot be read to its end.",
    ),
}


@pytest.fixture(scope="module")
def opened(page, tab):
    written, file = page(PHANTOM)
    open_page(tab, file.as_uri())
    return sorted(written.images.iterdir())


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_one_sentence_and_the_page_lives_on(name, opened, tab, tmp_path):
    choose, said = WRONG[name]
    first, *others = nibabel.load(opened[0]).shape
    whole, cut = (" × ".join(map(str, [size, *others])) for size in (first, first - 1))
    assert give(tab, choose(opened, tmp_path)) == said.format(whole=whole, cut=cut)
    assert give(tab, opened) == ""
    assert tab.run("document.getElementById('segment').disabled") is False


def test_cancel_ends_it_and_it_can_begin_again(opened, tab):
    give(tab, opened)
    tab.run("document.getElementById('segment').click()")
    tab.wait("!document.getElementById('cancel').hidden")
    tab.run("document.getElementById('cancel').click()")
    tab.wait("!busy")
    assert (text(tab, "state"), text(tab, "wrong")) == ("Cancelled.", "")
    assert tab.run("document.getElementById('segmented').hidden") is True
    assert segment(tab).startswith("Done in ")


class Isolating(SimpleHTTPRequestHandler):
    """A static server whose pages may share memory between threads."""

    def end_headers(self):
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(page):
    _, file = page(PHANTOM)
    with ThreadingHTTPServer(("localhost", 0), partial(Isolating, directory=file.parent)) as serving:
        Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://localhost:{serving.server_port}/index.html"
        serving.shutdown()


@pytest.mark.contract
def test_a_server_that_isolates_gets_threads(server, page, tab, tmp_path):
    written, _ = page(PHANTOM)
    open_page(tab, server)
    give(tab, sorted(written.images.iterdir()))
    assert "Computed by WebAssembly, " in (said := segment(tab))
    assert "thread" in said
    assert "worker" not in said
    assert_alike(saved(tab, tmp_path), of_nnunet(written, tmp_path))
    assert all(url.startswith((server.removesuffix("index.html"), "data:", "blob:")) for url in tab.requests)


@pytest.mark.contract
def test_a_gpu_gives_the_same_labels_or_is_left_alone(page, tmp_path):
    """Chromium's GPU in software, slower than WebAssembly: what counts is that it is tried and told."""
    written, file = page(PHANTOM)
    with chromium(tmp_path / "profile", *GPU_IN_SOFTWARE) as tab:
        open_page(tab, file.as_uri())
        give(tab, sorted(written.images.iterdir()))
        assert "WebGPU" in (said := segment(tab))
        assert "offers no WebGPU" not in said
        assert_alike(saved(tab, tmp_path), of_nnunet(written, tmp_path))
