from types import SimpleNamespace

import pytest
import torch

from nnunetv2_gsp import timing
from nnunetv2_gsp.timing import Timing, environment, interleaved


def test_contenders_take_turns_and_the_clock_waits_for_the_device(monkeypatch):
    events = []
    monkeypatch.setattr(
        torch,
        "get_device_module",
        lambda device: SimpleNamespace(synchronize=lambda: events.append(f"wait for {device}")),
    )
    interleaved({"a": lambda: events.append("a"), "b": lambda: events.append("b")}, 2, "cuda")
    one_round = ["wait for cuda", "a", "wait for cuda", "wait for cuda", "b", "wait for cuda"]
    assert events == 3 * one_round


def test_median_and_spread_leave_out_the_warm_up_round(monkeypatch):
    seconds = iter([0, 9, *(moment for start in range(10, 15) for moment in (start, start + 0.001 * (15 - start)))])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(seconds))
    # 5, 4, 3, 2, 1 ms; the 10th percentile lies 0.4 of the way from the smallest to the next
    result = interleaved({"a": lambda: None}, 5)["a"]
    assert [result.low_ms, result.median_ms, result.high_ms] == pytest.approx([1.4, 3, 4.6])


def test_one_round_is_its_own_spread():
    result = interleaved({"a": lambda: None}, 1)["a"]
    assert result == Timing(result.median_ms, result.median_ms, result.median_ms)
    assert result.median_ms > 0


def test_a_timing_shows_its_spread():
    assert str(Timing(12.34, 9.0, 101.06)) == "12.3 (9.0-101.1)"
    assert str(Timing(0.12345, 0.1, 2)) == "0.123 (0.100-2.000)"


def test_figures_say_what_they_depend_on():
    assert set(environment()) == {"machine", "processor", "threads", "python", "torch"}
    assert environment()["torch"] == torch.__version__
