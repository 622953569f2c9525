"""The bench on sizes that take no time: it measures what it says, refuses what is wrong, and keeps what it measured."""

import json

import pytest
import torch

from benchmarks import layer, measuring, networks, page, shift, training
from benchmarks.measuring import WrongError, check, check_labels, peak_megabytes
from benchmarks.models import WAYS, Plan, gsp, prediction
from benchmarks.page import Table, save
from nnunetv2_gsp.timing import Timing

SMALL = Plan(patch=(16, 16, 16), features=(8, 16, 16))
FLAT = Plan(patch=(8, 32, 32), features=(8, 16, 16), spacing_mm=(3.6, 0.6, 0.6))


def test_wrong_outputs_are_refused():
    expected = torch.tensor([[1.0, -2.0], [0.0, 1.0]])
    assert check("right", expected + 1e-5, expected, tolerance=1e-4) == pytest.approx(5e-6, rel=0.05)
    with pytest.raises(WrongError, match=r"off by 5\.0e-02, more than 1e-04"):
        check("wrong", expected + 0.1, expected, tolerance=1e-4)
    with pytest.raises(WrongError, match="nan"):
        check("no number", torch.full((2, 2), torch.nan), expected, tolerance=1e-4)
    with pytest.raises(WrongError, match=r"\(2,\) instead of \(2, 2\)"):
        check("another shape", expected[0], expected, tolerance=1e-4)


def test_other_labels_are_refused():
    expected = torch.randn(1, 3, 100, generator=torch.Generator().manual_seed(0))
    check_labels("right", 2 * expected, expected)
    with pytest.raises(WrongError, match=r"99\.0000% of the voxels"):
        check_labels("wrong", torch.cat((-expected[..., :1], expected[..., 1:]), dim=2), expected)


def test_nothing_is_timed_over_a_wrong_contender(monkeypatch):
    monkeypatch.setitem(WAYS, "fused", lambda network, image: lambda: WAYS["PyTorch"](network, image)() + 1)
    monkeypatch.setattr(networks, "interleaved", lambda *_: pytest.fail("it was timed"))
    with pytest.raises(WrongError, match="GSP, fused is off by"):
        networks.time_tables({"GSP": networks.Network(gsp, SMALL, ("PyTorch", "fused"))})


def test_networks_of_a_flat_patch_are_what_nnunet_plans():
    topology = FLAT.topology()
    assert topology["kernel_sizes"][0] == (1, 3, 3)
    assert topology["strides"][:2] == ((1, 1, 1), (1, 2, 2))
    assert set(networks.networks_of(FLAT)) == {"stock", "stock, 3×3×3 everywhere", "GSP"}
    assert set(networks.networks_of(SMALL)) == {"stock", "GSP"}


def test_without_openvino_its_rows_say_so(monkeypatch):
    monkeypatch.setattr(networks, "HAS_OPENVINO", False)
    [table] = networks.time_tables(networks.networks_of(SMALL), rounds=1)
    rows = {row[""]: row for row in table.rows}
    assert rows["stock, PyTorch"]["speed-up over stock"] == 1
    assert rows["GSP, OpenVINO"]["speed-up over stock"] == "not installed"
    assert rows["GSP, PyTorch"]["ms"].median_ms > 0


@pytest.mark.skipif(not measuring.HAS_OPENVINO, reason="OpenVINO is an extra of the bench")
def test_openvino_computes_the_same_network():
    with torch.inference_mode():
        logits, expected = (prediction(gsp, way, SMALL)() for way in ("OpenVINO", "PyTorch"))
    check("OpenVINO", logits, expected, tolerance=1e-4)


def test_peak_memory_counts_what_a_run_takes_for_a_moment():
    assert 400 < peak_megabytes(_takes_400_megabytes) < 500


def _takes_400_megabytes():
    return lambda: torch.ones(100_000_000).sum()


def test_small_tables_of_every_section(monkeypatch):
    monkeypatch.setattr(layer.shutil, "which", lambda name: None)  # compiling takes half a minute
    for table in (
        *shift.tables(channels=16, size=(8, 8, 8), rounds=1),
        *layer.tables(channels=16, edge=8, rounds=1),
        *training.tables(SMALL, rounds=1),
    ):
        assert all(list(row) == list(table.rows[0]) for row in table.rows)
        assert all(value is not None for row in table.rows for value in row.values())


def test_a_section_measured_anew_takes_the_place_of_its_old_tables_alone(tmp_path):
    for section, milliseconds in (("first", 1.0), ("second", 2.0), ("first", 3.0)):
        save(
            tmp_path,
            section,
            {"threads": 2},
            [
                Table(
                    f"The {section}",
                    [
                        {"": "row", "ratio": 12.34, "ms": Timing(milliseconds, 0.5, 4.0)},
                        {"": "short", "ratio": "not installed"},
                    ],
                )
            ],
        )
    assert (
        (tmp_path / "bench.md").read_text()
        == page.HEAD
        + """
## The first

| | ratio | ms |
|---|---:|---:|
| row | 12.3 | 3.0 (0.5-4.0) |
| short | not installed | |

Measured on threads 2.

## The second

| | ratio | ms |
|---|---:|---:|
| row | 12.3 | 2.0 (0.5-4.0) |
| short | not installed | |

Measured on threads 2.
"""
    )
    assert json.loads((tmp_path / "bench.json").read_text())["first"]["tables"][0]["rows"][0]["ms"]["median_ms"] == 3
