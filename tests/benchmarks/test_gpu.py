"""The bench of the GPU, tiny and on the CPU: sections that fail are given up, and its figures mean what they say."""

import argparse
import json
import pkgutil
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.gpu import __main__ as bench
from benchmarks.gpu import (
    checks,
    commands,
    device,
    engines,
    epochs,
    files,
    losses,
    meters,
    pieces,
    prediction,
    training,
    workers,
)
from benchmarks.gpu.__main__ import SECTIONS, main
from benchmarks.gpu.networks import network_of
from benchmarks.gpu.results import HEAD, Results
from benchmarks.gpu.settings import Settings
from benchmarks.gpu.workers import News, Section
from benchmarks.measuring import WrongError
from benchmarks.models import CHANNELS, CLASSES, Plan
from benchmarks.page import Table
from nnunetv2_gsp.timing import Timing
from tests.benchmarks.fake_sections import section

TINY = Settings("cpu", is_tiny=True)
ROOT = Path(__file__).parents[2]


def test_a_section_that_fails_dies_or_hangs_is_left_behind_and_the_others_go_on(tmp_path):
    found = {}
    groups = [
        [section("failing"), section("poisoned"), section("dying"), section("measured")],
        [section("measured"), section("hanging", 1), section("measured")],
    ]
    workers.run(
        groups,
        TINY,
        tmp_path / "log",
        time.monotonic() + 400,
        lambda news: found.setdefault(news.section.name, []).append(news),
    )
    [half, wrong], [dead], [stopped] = found["failing"], found["dying"], found["hanging"]
    assert [news.failure for news in found["poisoned"]] == ["", ""]  # the failure before was in another process
    assert half.table.title == "Half"
    assert wrong.failure == "ValueError: It is\nwrong."
    assert dead.failure == "its process ended with exit code 3"
    assert re.match(r"it was stopped after \d+ s", stopped.failure)
    assert [news.table and news.table.title for news in found["measured"]] == ["On cpu", None] * 3
    assert not any(news.failure for news in found["measured"])
    log = (tmp_path / "log").read_text()
    assert "ValueError" in log
    pid = re.search(r"^child (\d+)$", log, re.MULTILINE)[1]
    assert "sleep 1000" not in subprocess.run(["ps", "-o", "args=", "-p", pid], capture_output=True, text=True).stdout


def test_every_section_needs_only_what_nnunet_needs():
    """A machine with a GPU may have no network to fetch more from."""
    code = (
        "import pkgutil, sys, benchmarks.gpu as bench\n"
        "sys.modules.update(dict.fromkeys(['safetensors', 'medpy', 'monai', 'surface_distance', "
        "'nilearn', 'openvino', 'submitit', 'hypothesis', 'pytest']))\n"
        "for module in pkgutil.iter_modules(bench.__path__, 'benchmarks.gpu.'):\n    __import__(module.name)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_what_the_budget_does_not_reach_is_named(tmp_path):
    failures = {}
    workers.run(
        [[section("hanging"), section("measured")]],
        TINY,
        tmp_path / "log",
        time.monotonic() + 0.2,
        lambda news: failures.update({news.section.name: news.failure}),
    )
    assert re.match(r"it was stopped after \d+ s", failures.pop("hanging"))
    assert failures == {"measured": "no time was left"}


def test_a_section_without_a_table_keeps_those_of_an_earlier_run(tmp_path):
    table, failed = Table("Steps", [{"": "compiled"}]), Section("training", "", 1)
    Results(tmp_path, SECTIONS).take(News(failed, table, {"GPU": "A"}))
    results = Results(tmp_path, SECTIONS)
    results.take(News(failed, failure="no time was left"))
    page = (tmp_path / "gpu.md").read_text()
    assert "## Steps" in page
    assert "Measured on GPU A." in page
    assert "**Not finished: training**, no time was left" in page
    assert results.failures() == ["training"]
    assert "Steps" not in results.short(["training"])  # which is of this run
    Results(tmp_path, SECTIONS).take(News(failed, table, {"GPU": "B"}))
    assert "Not finished" not in (tmp_path / "gpu.md").read_text()


@pytest.mark.parametrize(
    ("failing", "failure", "is_timed"),
    [
        ("asked", "", True),
        ("asked", "it was stopped after 140 s", True),
        ("asked", "RuntimeError: illegal address", False),
        ("compiling for prediction, triton", "RuntimeError: illegal address", False),
        ("compiling for prediction, gsp", "RuntimeError: illegal address", True),
    ],
)
def test_an_engine_on_request_that_fails_when_tried_is_not_timed(failing, failure, is_timed, tmp_path, monkeypatch):
    seen = []

    def run(groups, settings, log, until, tell):
        of_all = [each for group in groups for each in group]
        seen.append(([each.name for each in of_all], settings.takes_asked))
        for each in of_all:
            tell(News(each, failure=failure if each.name == failing else ""))

    monkeypatch.setattr(bench, "run", run)
    asked = argparse.Namespace(only=["prediction"], out=tmp_path)
    bench._measure(asked, Settings("cuda"), time.monotonic() + 1, lambda _: None)
    (beside, takes_asked), last = seen
    assert takes_asked
    assert {"asked", "compiling for prediction, triton"} <= set(beside)
    assert last == (["prediction"], is_timed)
    settings = Settings("cuda", takes_asked=is_timed)
    assert [each.engine for each in settings.contenders] == ["auto", "auto", *(["triton"] if is_timed else [])]


def test_a_page_names_the_machine_once_and_what_did_not_finish(tmp_path):
    first, second = (Section(name, "", 1) for name in ("device", "training"))
    old = Results(tmp_path, SECTIONS)
    old.take(News(second, Table("Of an earlier run", [{"": "row"}]), {"GPU": "old"}))
    results = Results(tmp_path, SECTIONS)
    results.take(News(second, Table("Steps", [{"": "compiled", "ms": Timing(2.5, 2, 3)}]), {"GPU": "A"}))
    results.take(News(second, Table("Steps", [{"": "eager", "ms": Timing(0.25, 0.2, 0.3)}]), {"GPU": "A"}))
    results.take(News(first, Table("Copy", [{"": "row"}]), {"GPU": "A"}))
    results.take(News(first, failure="its time\nis up"))
    assert (
        (tmp_path / "gpu.md").read_text()
        == HEAD
        + """
## Copy

| |
|---|
| row |

**Not finished: device**, its time is up

## Steps

| | ms |
|---|---:|
| eager | 0.250 (0.200-0.300) |

Measured on GPU A.
"""
    )
    assert results.failures() == ["device"]
    assert results.short(["training"]).startswith("## Steps")
    assert list(json.loads((tmp_path / "gpu.json").read_text())) == ["device", "training"]


@pytest.mark.parametrize(
    "tables",
    [
        device.tables,
        training.tables,
        engines.tables,
        engines.errors,
        prediction.tables,
        pieces.tables,
        checks.tables,
        checks.constant_tables,
    ],
)
def test_small_tables_of_every_section(tables, nnunet_folders, monkeypatch):
    monkeypatch.setenv("nnUNet_compile", "false")  # which a trainer's sets
    found = list(tables(TINY))
    assert found
    for table in found:
        assert all(set(row) <= set(table.rows[0]) for row in table.rows)
        assert table.rows[0][""]


def test_fewest_bytes_are_those_of_the_maps_that_convolutions_make():
    plan = Plan((16, 16, 16), (16, 24, 32))
    network, made = network_of("GSP", plan), []
    for convolution in (module for module in network.modules() if isinstance(module, nn.Conv3d)):
        convolution.register_forward_hook(lambda module, inputs, output: made.append(output.numel()))
    image = torch.randn(1, CHANNELS, *plan.patch)
    with torch.no_grad():
        skips = network.encoder(image)
        logits = network.decoder(skips)
    assert logits.shape == (1, CLASSES, *plan.patch)
    twice = 2 * sum(made) - logits.numel() + image.numel() + sum(skip.numel() for skip in skips[:-1])
    assert prediction.least_bytes(plan.patch, plan.features) == 2 * twice


def test_every_section_and_every_warm_up_is_there():
    warm_ups = bench._warm_ups(bench.ALONE, Settings("cuda"))
    assert len(warm_ups) == 8
    assert not bench._warm_ups(bench.ALONE, TINY)  # nothing is compiled on a CPU
    for group in [bench.ALONE, *bench.BESIDE, *warm_ups]:
        for each in group:
            assert callable(pkgutil.resolve_name(each.tables))


def test_short_runs_are_timed_in_a_row():
    calls = []
    [timing] = meters.in_a_row({"wait": lambda: calls.append(time.sleep(0.01))}, 5, rounds=2, device="cpu").values()
    assert len(calls) == 5 * 3  # one round to warm up
    assert 10 <= timing.median_ms < 5 * 10


def test_kernels_come_longest_first():
    [table] = meters.longest_kernels("two products", lambda: torch.randn(300, 300) @ torch.randn(300, 300), TINY)
    assert {"`aten::mm`", "`aten::normal_`"} <= {row[""] for row in table.rows}
    assert [row["ms"] for row in table.rows] == sorted((row["ms"] for row in table.rows), reverse=True)
    assert sum(row["part of all"] for row in table.rows) == pytest.approx(1, abs=0.01)


def test_a_wrong_shift_is_refused(monkeypatch):
    monkeypatch.setattr(checks, "group_shift", lambda x, groups, channels: x)
    with pytest.raises(WrongError, match="not exact"):
        next(checks.tables(TINY))


def test_a_loss_that_is_no_number_is_refused(nnunet_folders, monkeypatch):
    monkeypatch.setenv("nnUNet_compile", "false")
    run = training.Training("GSP", "eager", TINY)
    run.batch["data"].fill_(torch.nan)
    with pytest.raises(WrongError, match="loss of a training step is nan"):
        run.step()


def test_a_command_that_stops_is_named_with_its_last_words():
    with pytest.raises(WrongError, match=r"Exit code 1: \.\.\. no such plan"):
        commands.output_of([sys.executable, "-c", "raise SystemExit('no such plan')"], {})


def test_a_training_whose_loss_is_no_number_is_refused():
    commands._check_losses({"train_losses": [0.5, 0.1], "val_losses": [0.4, -0.2]})
    with pytest.raises(WrongError, match="nan"):
        commands._check_losses({"train_losses": [0.5, 0.1], "val_losses": [0.4, float("nan")]})


def test_learning_stands_side_by_side():
    log = {"train_losses": [0.5], "val_losses": [0.25], "mean_fg_dice": [0.125]}
    found = {(each, seed): {**log, "Dice": 0.5 + seed / 10} for each in TINY.contenders for seed in (0, 1)}
    rows = {row[""]: row for row in losses._table("Dataset001_A", found, TINY).rows}
    assert list(rows) == [
        "training loss, epoch 1",
        "validation loss, epoch 1",
        "Dice of validation patches, epoch 1",
        "Dice of whole cases",
    ]
    assert rows["validation loss, epoch 1"]["stock"] == "0.250, 0.250"
    assert rows["Dice of whole cases"]["GSP by plain"] == "0.500, 0.600"


@pytest.mark.contract
def test_a_case_is_predicted_file_to_file_by_both_commands(nnunet_folders, monkeypatch):
    monkeypatch.setenv("nnUNet_compile", "false")  # which a trainer's sets
    *_, table = files.tables(TINY)
    assert [row[""] for row in table.rows] == [
        f"`{command}`, {contender}, eager" for command, contender in files.contenders(TINY)
    ]
    assert [bool(row["image, network, labels, s"]) for row in table.rows] == [False, False, True, True]
    assert all(row["labels as nnU-Net's"] > 0.99 for row in table.rows)


def test_a_command_whose_labels_are_other_ones_is_told(nnunet_folders, monkeypatch):
    monkeypatch.setenv("nnUNet_compile", "false")
    told = iter([(8.0, np.zeros(4), "")] * 2 + [(2.0, np.arange(4), "")])
    monkeypatch.setattr(files, "_predicted", lambda *_: next(told))
    found = []
    with pytest.raises(WrongError, match=r"nnUNetv2_gsp predict gives 25.00% of the labels"):
        found.extend(files.tables(TINY))
    assert [row["labels as nnU-Net's"] for row in found[-1].rows] == [1, 1, 0.25]


def test_epochs_are_those_of_nnunets_benchmark(nnunet_folders, monkeypatch):
    """Its trainer asks for a GPU, so here stands what it leaves, and the plans that it would have read."""
    seconds = iter([8.0, 2.0, 1.0, "Training has ended due to an error"])

    def left(command, variables):
        assert variables["nnUNet_compile"] == "false"  # on a CPU
        trainer, plans = command[command.index("-tr") + 1], command[command.index("-p") + 1]
        name = json.loads((nnunet_folders / "nnUNet_preprocessed" / "Dataset900_Bench" / f"{plans}.json").read_text())[
            "plans_name"
        ]
        fold = Path(variables["nnUNet_results"], "Dataset900_Bench", f"{trainer}__{name}__3d_fullres", "fold_0")
        fold.mkdir(parents=True)
        (fold / "benchmark_result.json").write_text(json.dumps({"machine": {"fastest_epoch": next(seconds)}}))

    monkeypatch.setattr(epochs, "run", left)
    *_, table = epochs.tables(TINY)
    assert [row[""] for row in table.rows] == [
        "stock, `-p nnUNetPlans`",
        "GSP, `-p nnUNetGSPPlans`",
        "GSP by plain, `-p nnUNetGSPPlans`",
    ]
    assert [row["GSP / stock"] for row in table.rows] == [1, 0.25, 0.125]
    for folder in (nnunet_folders / "nnUNet_results" / "epochs", nnunet_folders / "nnUNet_preprocessed"):
        shutil.rmtree(folder)
    with pytest.raises(WrongError, match="stock: Training has ended due to an error"):
        next(epochs.tables(TINY))


def test_tests_of_a_gpu_are_found_by_why_they_are_skipped(monkeypatch):
    ends = iter([(1, "=== 3 passed, 1 error in 1.0s ==="), (0, "=== 2 passed in 1.0s ===")])

    def outcome_of(command, _):
        code, end = next(ends)
        return code, f"{command[-1]}\n{end}\n"

    monkeypatch.setattr(commands, "outcome_of", outcome_of)
    found = []
    with pytest.raises(WrongError, match=r"^exit code 1: 3 passed, 1 error in 1\.0s$"):
        found.extend(commands.test_tables(TINY))
    first, second = found[-1].rows
    assert "`tests/ops/test_group_shift.py`" in first[""]
    assert [row["outcome"] for row in (first, second)] == ["3 passed, 1 error in 1.0s", "2 passed in 1.0s"]
    assert second[""] == "`tests/engines/test_triton.py`, `tests/ops/test_gpu_layer.py`"


def test_the_command_writes_page_json_and_log_and_prints_a_table_last(tmp_path):
    command = [
        sys.executable,
        "-m",
        "benchmarks.gpu",
        "--device",
        "cpu",
        "--tiny",
        "--only",
        "device",
        "--budget",
        "400",
        "--out",
        tmp_path,
        "--code",
        "abc",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "device: done" in done.stdout
    assert "## What the card can do" in done.stdout
    assert sorted(file.name for file in tmp_path.iterdir()) == ["gpu.json", "gpu.log", "gpu.md"]
    assert "code abc" in (tmp_path / "gpu.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--only", "device,speed"], "expected sections of device, .* got speed"),
        (["--only", "losses"], "expected a raw dataset with a dataset.json for --raw, got None"),
        pytest.param(
            ["--only", "device"],
            "expected a GPU, torch finds none",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_a_mistake_gets_one_sentence(arguments, sentence, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert re.search(sentence, capsys.readouterr().err)
