"""nnU-Net's own post-processing becomes plain data; nothing else in its place runs."""

import os
import pickle

import numpy as np
import pytest
from nnunetv2.postprocessing.remove_connected_components import remove_all_but_largest_component_from_segmentation

from nnunetv2_gsp.runtimes.postprocessing import read_postprocessing
from nnunetv2_gsp.sharing.refused import RefusedError

KEEP = remove_all_but_largest_component_from_segmentation


def write(folder, content, folds="0_1"):
    (folder / f"crossval_results_folds_{folds}").mkdir()
    (folder / f"crossval_results_folds_{folds}" / "postprocessing.pkl").write_bytes(pickle.dumps(content))


def test_what_nnunet_saves(tmp_path):
    labels = list(np.unique([1, 2, 3]))  # numbers of numpy, as nnU-Net's label manager has them
    arguments = [{"labels_or_regions": labels}, {"labels_or_regions": (2, 3)}, {"labels_or_regions": 3}]
    write(tmp_path, ([KEEP] * 3, arguments))
    assert read_postprocessing(tmp_path, ["1", "0"]) == [
        {"keep_largest_component_of": kept, "background_label": 0} for kept in ([1, 2, 3], [2, 3], [3])
    ]


def test_other_folds_have_none(tmp_path):
    write(tmp_path, ([KEEP], [{"labels_or_regions": 1}]))
    assert read_postprocessing(tmp_path, ["0"]) == []


class Payload:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize(
    "content",
    [
        lambda folder: Payload(folder),
        lambda folder: ([KEEP, KEEP], [{"labels_or_regions": 1}]),
        lambda folder: ([KEEP], [{"labels": 1}]),
        lambda folder: ([len], [{"labels_or_regions": 1}]),
        lambda folder: (["another step"], [{"labels_or_regions": 1}]),
    ],
)
def test_anything_else_is_refused(content, tmp_path):
    write(tmp_path, content(tmp_path / "run"))
    with pytest.raises(RefusedError, match="nnU-Net's post-processing alone"):
        read_postprocessing(tmp_path, ["0", "1"])
    assert not (tmp_path / "run").exists()
