"""Predicts a folder of NIfTI images as nnU-Net does, with what `nnUNetv2_gsp export MODEL_FOLDER -o model.onnx` wrote.

It needs onnxruntime, numpy, scipy and nibabel alone. docs/pipeline.md explains the values of pipeline.json.
"""

import argparse
import itertools
import json
from pathlib import Path

import nibabel
import numpy as np
import onnxruntime
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from scipy.ndimage import binary_fill_holes, find_objects, gaussian_filter, label, map_coordinates, zoom
from scipy.special import expit


def predict_case(files, pipeline, networks):
    """Return the predicted labels of one case as a NIfTI image; `files` are its channels."""
    stored = [nibabel.load(file) for file in files]
    if stored[0].ndim != 3 or len({image.shape for image in stored}) > 1:
        raise SystemExit(f"{files[0]}: expected 3D images of one size, got {[image.shape for image in stored]}.")
    images = [nibabel.as_closest_canonical(image) if pipeline["orientation"] == "RAS" else image for image in stored]
    data = np.stack([image.get_fdata().T for image in images], dtype=np.float32, casting="unsafe")  # (C, Z, Y, X)
    labels = predict_labels(data, np.array(images[0].header.get_zooms()[::-1], float), pipeline, networks)
    for step in pipeline["postprocessing"]:
        keep_largest_component(labels, **step)
    prediction = nibabel.Nifti1Image(labels.astype(np.uint8 if labels.max() < 255 else np.uint16).T, images[0].affine)
    if pipeline["orientation"] == "RAS":
        prediction = prediction.as_reoriented(ornt_transform(axcodes2ornt("RAS"), io_orientation(stored[0].affine)))
    return prediction


def predict_labels(data, spacing, pipeline, networks):
    """Return the labels (Z, Y, X) of an image (C, Z, Y, X) float32 with voxels of `spacing`."""
    order = pipeline["transpose_forward"]
    data, spacing = data.transpose(0, *(axis + 1 for axis in order)), spacing[order]
    inside = binary_fill_holes((data != 0).any(0))
    box = (find_objects(inside.astype(np.uint8)) or [(slice(None),) * 3])[0]  # an empty image stays whole
    cropped = data[(slice(None), *box)]
    for image, channel in zip(cropped, pipeline["channels"], strict=True):
        image[:] = normalized(image, inside[box], **channel["normalization"])
    planned = np.array([*spacing[: 3 - len(pipeline["spacing"])], *pipeline["spacing"]])  # in 2D, slices stay
    shape = tuple(round(i / j * k) for i, j, k in zip(spacing, planned, cropped.shape[1:], strict=True))
    resampled = resample(cropped, shape, spacing, planned, **pipeline["resampling"]["data"])
    logits = sum(slide(resampled, network, **pipeline["sliding_window"]) for network in networks) / len(networks)
    logits = resample(logits, cropped.shape[1:], planned, spacing, **pipeline["resampling"]["probabilities"])
    labels = np.zeros(data.shape[1:], np.uint16)
    if pipeline["regions_class_order"] is None:
        labels[box] = logits.argmax(0)
    else:
        for region, value in zip(logits.astype(np.float32), pipeline["regions_class_order"], strict=True):
            labels[box][expit(region) > 0.5] = value
    return labels.transpose(np.argsort(order))


def normalized(image, inside, scheme, use_mask=False, mean=0, std=1, percentile_00_5=None, percentile_99_5=None):
    """Return one channel (Z, Y, X), normalised; `inside` is where the image is not background."""
    if scheme == "ZScoreNormalization":
        values = image[inside] if use_mask else image
        return np.where(inside | (not use_mask), (image - values.mean()) / max(values.std(), 1e-8), image)
    if scheme == "CTNormalization":
        return (image.clip(percentile_00_5, percentile_99_5) - mean) / max(std, 1e-8)
    if scheme == "RescaleTo01Normalization":
        return (image - image.min()) / max((image - image.min()).max(), 1e-8)
    return image / 255 if scheme == "RGBTo01Normalization" else image


def resample(data, shape, spacing, new_spacing, order, order_z, force_separate_z, separate_z_anisotropy_threshold, **_):
    """Return images (C, Z, Y, X) in `shape`, by splines; an axis along which voxels are long is resampled apart."""
    if data.shape[1:] == tuple(shape):
        return data
    apart = []
    for each in () if force_separate_z is False else (spacing, new_spacing):
        if not apart and (force_separate_z or max(each) / min(each) > separate_z_anisotropy_threshold):
            apart = list(np.flatnonzero(each == max(each)))
    if len(apart) != 1:
        return np.stack([zoomed(image, shape, order) for image in data]).astype(data.dtype)
    axis, plane = apart[0], np.delete(shape, apart)
    planes = [np.stack([zoomed(each, plane, order) for each in np.moveaxis(image, axis, 0)], axis) for image in data]
    grid = [old / new * (np.arange(new) + 0.5) - 0.5 for old, new in zip(planes[0].shape, shape, strict=True)]
    grid = np.meshgrid(*grid, indexing="ij")
    return np.stack([map_coordinates(each, grid, order=order_z, mode="nearest") for each in planes]).astype(data.dtype)


def zoomed(image, shape, order):
    """Return an image in another shape, within its range of values."""
    image, factors = image.astype(float), [1 / (old / new) for old, new in zip(image.shape, shape, strict=True)]
    return zoom(image, factors, order=order, mode="nearest", grid_mode=True).clip(image.min(), image.max())


def slide(data, network, patch_size, step, mirroring_axes, gaussian, dtype):
    """Return logits (outputs, Z, Y, X) of a preprocessed image (C, Z, Y, X), averaged over windows and flips."""
    missing = [max(0, patch - size) for size, patch in zip(data.shape[-len(patch_size) :], patch_size, strict=True)]
    borders = [(0, 0)] * (4 - len(patch_size)) + [(lack // 2, lack - lack // 2) for lack in missing]
    image = np.pad(data, borders)
    point = np.zeros(patch_size)
    point[tuple(size // 2 for size in patch_size)] = 1
    weight = gaussian_filter(point, [size * gaussian["sigma"] for size in patch_size], mode="constant")
    weight = (weight / (weight.max() / gaussian["peak"])).astype(dtype)
    weight[weight == 0] = weight[weight > 0].min()
    flips = [axes for n in range(len(mirroring_axes) + 1) for axes in itertools.combinations(mirroring_axes, n)]
    weights = np.zeros(image.shape[1:], dtype)
    total = np.zeros((network.get_outputs()[0].shape[1], *weights.shape), dtype)
    positions = [range(size) for size in weights.shape[: 3 - len(patch_size)]]  # a 2D patch lies in each slice
    for size, patch in zip(weights.shape[-len(patch_size) :], patch_size, strict=True):
        starts = np.linspace(0, size - patch, int(np.ceil((size - patch) / (patch * step))) + 1).round().astype(int)
        positions.append([slice(start, start + patch) for start in starts])
    for window in itertools.product(*positions):
        patch, logits = image[(slice(None), *window)][None], 0
        for axes in (tuple(axis + 2 for axis in flip) for flip in flips):
            logits = logits + np.flip(network.run(None, {"image": np.flip(patch, axes)})[0], axes)
        total[(slice(None), *window)] += logits[0] / len(flips) * weight
        weights[window] += weight
    total /= weights
    return total[tuple(slice(low, size - high) for (low, high), size in zip(borders, total.shape, strict=True))]


def keep_largest_component(labels, keep_largest_component_of, background_label):
    """Remove, in place, all but the largest component of some labels taken together."""
    mask = np.isin(labels, keep_largest_component_of)
    components, _ = label(mask, np.ones((3, 3, 3)))
    sizes = np.bincount(components[mask], minlength=2)
    labels[mask & (sizes[components] < sizes.max())] = background_label


def main():
    """Predict each case of a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", type=Path, help="pipeline.json, with its networks beside it")
    parser.add_argument("-i", type=Path, required=True, help="folder of images named as for nnU-Net: CASE_0000.nii.gz")
    parser.add_argument("-o", type=Path, required=True, help="folder of the predictions")
    arguments = parser.parse_args()
    pipeline = json.loads(arguments.pipeline.read_text(encoding="utf-8"))
    endings = [channel["file_suffix"] + pipeline["file_ending"] for channel in pipeline["channels"]]
    files = [arguments.pipeline.with_name(network["file"]) for network in pipeline["networks"]]
    networks = [onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]) for file in files]
    cases = [file.name.removesuffix(endings[0]) for file in sorted(arguments.i.glob(f"*{endings[0]}"))]
    missing = [case + ending for case in cases for ending in endings if not (arguments.i / (case + ending)).is_file()]
    if not cases or missing:
        raise SystemExit(f"{arguments.i}: expected images CASE{' and CASE'.join(endings)}, got no {missing or 'case'}.")
    arguments.o.mkdir(parents=True, exist_ok=True)
    for case in cases:
        prediction = predict_case([arguments.i / (case + ending) for ending in endings], pipeline, networks)
        nibabel.save(prediction, arguments.o / (case + pipeline["file_ending"]))


if __name__ == "__main__":
    main()
