"""Measure stock nnU-Net and GSP on a GPU within a budget of seconds; write gpu.json, gpu.md, and on to gpu.log.

What is not timed runs first, side by side, which also fills the compilers' caches; what is timed runs alone, the most
important first. A section that fails or overruns its limit is given up and named. Needs what nnU-Net needs.
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

from benchmarks.gpu.meters import state_of_the_code
from benchmarks.gpu.results import Results
from benchmarks.gpu.settings import Settings
from benchmarks.gpu.workers import News, Section, run

HERE = "benchmarks.gpu"
ALONE = [
    Section("device", f"{HERE}.device:tables", 60),
    Section("training", f"{HERE}.training:tables", 150),
    Section("prediction", f"{HERE}.prediction:tables", 150),
    Section("pieces", f"{HERE}.pieces:tables", 60),
    Section("engines", f"{HERE}.engines:tables", 350),
    Section("epochs", f"{HERE}.epochs:tables", 400),
    Section("files", f"{HERE}.files:tables", 400),
]
# groups, the sections of one in one process
BESIDE = [
    [Section("checks", f"{HERE}.checks:tables", 120), Section("constant", f"{HERE}.checks:constant_tables", 60)],
    [Section("tests", f"{HERE}.commands:test_tables", 300)],
    [Section("commands", f"{HERE}.commands:tables", 240)],
    [Section("asked", f"{HERE}.engines:errors", 200)],
    [Section("losses", f"{HERE}.losses:tables", 600)],
]
SECTIONS = [section.name for section in [*ALONE, *(section for group in BESIDE for section in group)]]
ASKED, TAKE_ASKED = "asked", {"prediction", "pieces", "engines", "epochs", "files"}  # before which it is tried
COMPILED = {  # before they are timed
    "training": ("gsp", "stock"),
    "prediction": ("gsp", "triton", "stock"),
    "engines": ("triton", "checkpointed", "stock"),
}
ON_REQUEST = ("losses", "files", "epochs")  # which take long
SHORT = ("device", "training", "prediction", "checks")
PART_BESIDE = 0.5  # of the budget, at most, where something is timed afterwards
LAST_WORDS_S = 5


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked for, and print a short table last.

    Raises:
        SystemExit: there is no such device, or a section did not finish.
    """
    began = time.monotonic()
    asked = _parse(arguments)
    settings = Settings(asked.device, asked.tiny, asked.raw, asked.code or state_of_the_code())
    results = Results(asked.out, SECTIONS)

    def tell(news: News) -> None:
        if news.section.is_kept:
            results.take(news)
        if news.is_the_end:
            print(f"{time.monotonic() - began:4.0f} s  {news.section.name}: {news.failure or 'done'}", flush=True)

    scratch = Path(mkdtemp(prefix="gsp_bench"))
    try:
        _set_environment(scratch)
        _measure(asked, settings, began + asked.budget - LAST_WORDS_S, tell)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"\n{results.short(SHORT)}\n{time.monotonic() - began:.0f} s in all; {results.page}", flush=True)
    if results.failures():
        sys.exit(f"did not finish: {', '.join(results.failures())}")


def _measure(asked: argparse.Namespace, settings: Settings, until: float, tell: Callable[[News], None]) -> None:
    """First all that is not timed, then the rest, without the engine on request if that was wrong."""
    wrong: list[str] = []

    def tell_and_note(news: News) -> None:
        tell(news)
        if news.is_wrong and news.section.name.endswith((ASKED, ", triton")):  # tried, or compiled for what is timed
            wrong.append(news.section.name)

    names = {*asked.only, *([ASKED] if settings.on_gpu and TAKE_ASKED.intersection(asked.only) else [])}
    alone = [section for section in ALONE if section.name in names]
    beside = [[section for section in group if section.name in names] for group in BESIDE]
    share = PART_BESIDE if alone else 1.0
    log = asked.out / "gpu.log"
    run(
        [*_warm_ups(alone, settings), *beside],
        settings,
        log,
        time.monotonic() + share * (until - time.monotonic()),
        tell_and_note,
    )
    run([alone], replace(settings, takes_asked=not wrong), log, until, tell)


def _warm_ups(alone: Sequence[Section], settings: Settings) -> list[list[Section]]:
    """Return what compiles for sections that will be timed."""
    if not settings.on_gpu:
        return []
    return [
        [Section(f"compiling for {section.name}, {kind}", f"{HERE}.{section.name}:warm_{kind}", 300, is_kept=False)]
        for section in alone
        for kind in COMPILED.get(section.name, ())
    ]


def _set_environment(scratch: Path) -> None:
    """Lead nnU-Net's variables into `scratch`, before anything of nnU-Net is imported."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (scratch / name).mkdir()
        os.environ[name] = str(scratch / name)
    os.environ.pop("nnUNet_compile", None)
    for name, count in (("TORCHINDUCTOR_COMPILE_THREADS", 4), ("nnUNet_n_proc_DA", 2), ("nnUNet_def_n_proc", 2)):
        os.environ.setdefault(name, str(count))  # many processes are beside each other


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--budget", type=float, default=300, metavar="SECONDS", help="in all; default: 300")
    parser.add_argument(
        "--only",
        metavar="NAME,NAME",
        help=f"sections, of {', '.join(SECTIONS)}; default: all but {' and '.join(ON_REQUEST[1:])}, losses with --raw",
    )
    parser.add_argument("--raw", type=Path, metavar="FOLDER", help="an nnU-Net raw dataset to train on, for `losses`")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parents[1] / "results",
        metavar="FOLDER",
        help="default: benchmarks/results",
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: to see that it runs")
    parser.add_argument("--tiny", action="store_true", help="a few voxels, to see that it runs")
    parser.add_argument("--code", metavar="TEXT", help="which state of the code this is; default: as git says")
    asked = parser.parse_args(arguments)
    asked.only = asked.only.split(",") if asked.only else _by_itself(asked.raw)
    _check(parser, asked)
    return asked


def _by_itself(raw: Path | None) -> list[str]:
    return [name for name in SECTIONS if name not in ON_REQUEST or (name == "losses" and raw)]


def _check(parser: argparse.ArgumentParser, asked: argparse.Namespace) -> None:
    from torch.cuda import is_available

    unknown = [name for name in asked.only if name not in SECTIONS]
    if unknown:
        parser.error(f"expected sections of {', '.join(SECTIONS)} for --only, got {', '.join(unknown)}")
    if "losses" in asked.only and (asked.raw is None or not (asked.raw / "dataset.json").is_file()):
        parser.error(f"expected a raw dataset with a dataset.json for --raw, got {asked.raw}: `losses` trains on it")
    if asked.device == "cuda" and not is_available():
        parser.error("expected a GPU, torch finds none; to see that it runs: --device cpu --tiny")


if __name__ == "__main__":
    main()
