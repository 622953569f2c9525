"""What the workers' scripts compute, run by Node; examples/onnx_predict.py, which is compared with nnU-Net, and SciPy,
with which nnU-Net resamples, are the oracles."""

import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
from scipy.ndimage import binary_fill_holes

import nnunetv2_gsp.web
from tests.examples.modules import ONNX_PREDICT, loaded

pytest.importorskip("onnxruntime")
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="no Node here")

READ = """
const fs = require("fs"), given = JSON.parse(fs.readFileSync(0));
const read = name => new Float32Array(new Uint8Array(fs.readFileSync(name)).buffer);
const write = ({buffer, byteOffset, byteLength}) =>
  fs.writeFileSync(given.output, Buffer.from(buffer, byteOffset, byteLength));
"""
PREDICT = """
patchSize = given.pipeline.sliding_window.patch_size;  // of network.js
const rolled = (map, [, height, width]) => map.map((_, at) => {
  const row = Math.floor(at / width) * width;
  return map[row + (at - row + width - 1) % width];
});
const pool = {size: 2, open: async () => {}, run: async (patch, axes) => {
  const image = flipped(patch, axes), n = product(patchSize), first = image.slice(0, n);
  const logits = new Float32Array(3 * n);
  logits.set(first), logits.set(rolled(first, [1, ...patchSize].slice(-3)), n);
  logits.set(image.slice(-n).map(value => 0.5 - value), 2 * n);
  return flipped(logits, axes);
}};
(async () => {
  const channels = given.files.map(read);
  const way = preprocessed(channels, given.shape, given.spacing, given.affine, given.pipeline);
  const logits = await slide(way.images, pool, () => {}, given.pipeline.sliding_window);
  const labels = labelsOf(logits, way, given.pipeline);
  given.pipeline.postprocessing.forEach(step => keepLargestComponent(labels, step));
  write(labels.values);
})();
"""


class Network:
    """Maps a patch to three logits, which flips change."""

    def get_outputs(self):
        return [SimpleNamespace(shape=(None, 3))]

    def run(self, _, inputs):
        image = inputs["image"]
        return [np.stack([image[:, 0], np.roll(image[:, 0], 1, -1), 0.5 - image[:, -1]], 1)]


@pytest.fixture(scope="module")
def example():
    return loaded(ONNX_PREDICT)


def run(script, folder, dtype, **given):
    sources = sorted(Path(nnunetv2_gsp.web.__file__).with_name("worker").glob("*.js"))
    text = "globalThis.self = globalThis;\n" + "\n".join([*map(Path.read_text, sources), READ, script])
    (folder / "script.js").write_text(text)
    given["output"] = str(folder / "output")
    subprocess.run([str(NODE), str(folder / "script.js")], input=json.dumps(given), text=True, check=True, timeout=60)
    return np.fromfile(folder / "output", dtype)


KEPT = {"order": 1, "order_z": 0, "force_separate_z": None, "separate_z_anisotropy_threshold": 3, "is_seg": False}
PIPELINE = {
    "orientation": "stored",
    "channels": [{"normalization": {"scheme": "ZScoreNormalization", "use_mask": False}}],
    "transpose_forward": [0, 1, 2],
    "spacing": [1, 1, 1],
    "resampling": {"data": {**KEPT, "order": 3}, "probabilities": KEPT},
    "sliding_window": {
        "patch_size": [8, 10, 12],
        "step": 0.5,
        "mirroring_axes": [0, 1, 2],
        "gaussian": {"sigma": 1 / 8, "peak": 10},
        "dtype": "float16",
    },
    "regions_class_order": None,
    "postprocessing": [],
}
CT = {"scheme": "CTNormalization", "mean": 0.2, "std": 0.7, "percentile_00_5": -1.5, "percentile_99_5": 1.5}
WINDOW = PIPELINE["sliding_window"]
VARIANTS = {
    "resampled by splines, with a mask": {
        "spacing": [0.9, 1.3, 1.1],
        "channels": [{"normalization": {"scheme": "ZScoreNormalization", "use_mask": True}}] * 2,
    },
    "turned, transposed, planes apart": {
        "orientation": "RAS",
        "transpose_forward": [1, 2, 0],
        "spacing": [1.2, 3.9, 1.0],
        "channels": [{"normalization": CT}],
        "resampling": {"data": {**KEPT, "order": 3, "order_z": 0}, "probabilities": KEPT},
        "sliding_window": {**WINDOW, "mirroring_axes": [0, 2]},
    },
    "regions and components": {
        "channels": [{"normalization": {"scheme": "RescaleTo01Normalization"}}],
        "regions_class_order": [2, 1, 3],
        "postprocessing": [{"keep_largest_component_of": [1, 2], "background_label": 0}],
    },
    "2d": {
        "spacing": [1.1, 0.9],
        "channels": [{"normalization": {"scheme": "NoNormalization"}}],
        "sliding_window": {**WINDOW, "patch_size": [10, 12], "mirroring_axes": [1]},
    },
    "smaller than the patch": {"sliding_window": {**WINDOW, "patch_size": [24, 8, 32]}},
}


def image(channels):
    """Return smooth blobs with a hole in nothing, (C, Z, Y, X)."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*(np.linspace(0, 6, size) for size in (13, 22, 19)), indexing="ij"))
    waves = [np.sin(grid[0] + k) * np.cos(grid[1] - k) + 0.5 * np.sin(2 * grid[2]) for k in range(channels)]
    made = (np.stack(waves) + rng.normal(0, 0.05, (channels, *grid.shape[1:]))).astype(np.float32)
    made[:, 6:8, 10:12, 9:11] = 0
    made[:, :2] = made[..., -1] = 0
    return made


@pytest.mark.parametrize("name", VARIANTS)
def test_labels_are_the_examples(name, example, tmp_path):
    pipeline = {**PIPELINE, **VARIANTS[name]}
    spacing, data = (1.5, 1.0, 1.2), image(len(pipeline["channels"]))  # (Z, Y, X)
    axes = np.array([[0, -1, 0], [1, 0, 0], [0, 0, -1]]) @ np.diag(spacing[::-1])
    affine = np.eye(4)
    affine[:3, :3] = axes
    for channel, values in enumerate(data):
        values.tofile(tmp_path / str(channel))
        nibabel.save(nibabel.Nifti1Image(values.T, affine), tmp_path / f"{channel}.nii")
    got = run(
        PREDICT,
        tmp_path,
        np.uint16,
        files=[str(tmp_path / str(channel)) for channel in range(len(data))],
        shape=data.shape[1:],
        spacing=spacing,
        affine=affine.tolist(),
        pipeline=pipeline,
    ).reshape(data.shape[1:])
    files = [tmp_path / f"{channel}.nii" for channel in range(len(data))]
    expected = np.asarray(example.predict_case(files, pipeline, [Network()]).dataobj).T
    assert (np.bincount(expected.ravel()) > 100).sum() >= 2
    assert (got == expected).mean() >= 0.999


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("shape", [(9, 4, 21), (3, 30, 8)])
def test_splines_are_scipys(order, shape, example, tmp_path):
    values = np.random.default_rng(1).normal(size=(7, 11, 8)).astype(np.float32)
    values.tofile(tmp_path / "values")
    script = "write(clippedZoom({values: read(given.file), shape: [7, 11, 8]}, given.shape, given.order).values);"
    got = run(script, tmp_path, np.float32, file=str(tmp_path / "values"), shape=shape, order=order).reshape(shape)
    np.testing.assert_allclose(got, example.zoomed(values, shape, order), atol=2e-6)


def test_holes_are_scipys(tmp_path):
    inside = np.random.default_rng(2).random((6, 7, 8)) > 0.4
    inside.astype(np.float32).tofile(tmp_path / "values")
    script = """const volume = {values: Uint8Array.from(read(given.file)), shape: [6, 7, 8]};
    fillHoles(volume);
    write(volume.values);"""
    got = run(script, tmp_path, np.uint8, file=str(tmp_path / "values")).reshape(inside.shape)
    assert (binary_fill_holes(inside) != inside).any()
    assert (got == binary_fill_holes(inside)).all()
