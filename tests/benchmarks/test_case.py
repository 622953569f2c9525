"""What a command takes is what the system says it takes, and the tables say what was measured."""

import sys

import numpy as np
import pytest
import SimpleITK as sitk

from benchmarks import case
from benchmarks.case import GSP, NNUNETS, OURS, STOCK, Contender, Run
from benchmarks.measuring import WrongError

TOLD = "case: 4×5×6 voxels; 1.5 s waited for the image, 6.0 s in the network, 0.5 s to labels"


def test_a_command_is_measured_with_its_processes(tmp_path, monkeypatch):
    held, measured, memory_bytes = tmp_path / "held", tmp_path / "measured", case._memory_bytes

    def measure(process):
        is_held = held.exists()
        found = memory_bytes(process)
        if is_held:
            measured.touch()
        return found

    monkeypatch.setattr(case, "_memory_bytes", measure)
    # the child holds 100 MB until they are measured
    child = (
        "import os, time; held, end = bytearray(100_000_000), time.monotonic() + 60\n"
        f"open({str(held)!r}, 'w').close()\n"
        f"while not os.path.exists({str(measured)!r}) and time.monotonic() < end: time.sleep(0.01)"
    )
    code = (
        "import subprocess, sys, time; begin = time.perf_counter()\n"
        f"subprocess.run([sys.executable, '-c', {child!r}]); print(time.perf_counter() - begin)"
    )
    run = case._measured([sys.executable, "-c", code], tmp_path, poll_s=0.02)
    assert 0 < float(run.said) < run.seconds
    assert 0 < run.cpu_seconds < run.seconds * 4
    assert 100 < run.peak_mb < 200


def test_work_is_counted_where_sleep_is_not(tmp_path):
    code = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    assert case._measured([sys.executable, "-c", code], tmp_path).cpu_seconds >= 0.3


def test_a_command_that_fails_gives_no_figures(tmp_path):
    with pytest.raises(WrongError, match=r"exit code 3:\nwrong"):
        case._measured([sys.executable, "-c", "print('wrong'); exit(3)"], tmp_path)


def test_contenders_are_compared_with_the_first(tmp_path):
    (tmp_path / "images").mkdir()
    labels = np.zeros((4, 5, 6), np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(labels), tmp_path / "images" / "case_0000.nii.gz")
    for place in range(2):
        (tmp_path / f"predictions_{place}_0").mkdir()
        labels[:place] = 1
        sitk.WriteImage(sitk.GetImageFromArray(labels), tmp_path / f"predictions_{place}_0" / "case.nii.gz")
    runs = {
        Contender(NNUNETS, STOCK, 1): [Run(120.0, 200.0, [(0, 10.0), (0, 3000.0)], "")],
        Contender(OURS, GSP): [Run(seconds, 10.0, [(0, 750.0)], TOLD) for seconds in (9.0, 60.0, 8.0)],
    }
    first, ours = case._comparison("Title", tmp_path / "images", runs).rows
    assert (first["speed-up"], ours["speed-up"]) == (1.0, pytest.approx(120 / 9))
    assert ours["of CPU time"] == 20
    assert ours["memory, part of the first"] == 0.25
    assert ours["labels as the first"] == 0.75
    assert ours["each, s"] == "9.0, 60.0, 8.0"


def test_the_parts_of_a_case_are_those_that_the_verb_tells():
    contender = Contender(OURS, GSP)
    table = case._parts("A CT", contender, Run(12.0, 20.0, [(0, 1.0)], f"before\n{TOLD}\nafter"))
    rows = table.rows
    assert table.title == f"A CT: where the time of {contender.name} goes"
    assert [row["s"] for row in rows] == [1.5, 6.0, 0.5, 4.0, 12.0]
    with pytest.raises(WrongError, match="tells no times"):
        case._parts("A CT", contender, Run(12.0, 20.0, [(0, 1.0)], "something else"))
