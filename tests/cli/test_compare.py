"""The verb compare: which arguments go together, what it prints and writes, and what one can type instead."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from nnunetv2_gsp.comparison import report, verdict
from nnunetv2_gsp.metrics.definitions import DEFINITIONS
from tests.cli.commands import calls_of, exit_code
from tests.comparison.contenders import write_predictions

NAMES = ("gt", "poor", "good")


@pytest.fixture
def arguments(tmp_path):
    for name, noise in zip(NAMES, (0, 0.5, 0.05), strict=True):
        write_predictions(tmp_path / name, noise, range(2))
    return ["-pred", tmp_path / "poor", tmp_path / "good", "-gt", tmp_path / "gt", "-o", tmp_path / "out", "-np", 1]


def run(*arguments):
    return exit_code("compare", *arguments)


def test_it_prints_the_verdict_and_writes_four_files(arguments, tmp_path, capsys):
    assert run(*arguments, "--definition", "panoptica") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("On 2 cases no difference is shown between good and poor: mean Dice over regions")
    assert f"Wrote {tmp_path / 'out' / 'comparison.html'}, which opens in any browser" in printed
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        f"comparison.{kind}" for kind in ("csv", "html", "json", "md")
    ]


def test_the_primary_endpoint_is_chosen(arguments, tmp_path, capsys):
    assert run(*arguments, "--primary", "HD95:2") == 0
    assert "between good and poor: HD95 of 2 typically" in capsys.readouterr().out


def test_it_replaces_files_only_when_asked(arguments, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "comparison.md").write_text("mine")
    assert run(*arguments).endswith(
        "comparison.md exists and is not replaced; choose another with -o, or replace it with --overwrite."
    )
    assert (tmp_path / "out" / "comparison.md").read_text() == "mine"
    assert run(*arguments, "--overwrite") == 0


def test_every_flag_is_passed_on(monkeypatch):
    monkeypatch.setattr(verdict, "verdict", lambda comparison: "no difference")
    of_models, of_folders = (
        calls_of(monkeypatch, report, name, SimpleNamespace(caveats=[]))
        for name in ("compare_trained_models", "compare_folders")
    )
    models, folders = "-d 1 -tr A B -c 2d -p P Q -f 0 2", "-pred poor good -gt gt -djfile d.json --images images"
    for side in (models, folders):
        assert run(*f"{side} -o out --definition captk --primary HD95 -np 3 --overwrite".split()) == 0
    wishes = {
        "output": Path("out"),
        "definition": DEFINITIONS["captk"],
        "primary": "HD95",
        "processes": 3,
        "overwrite": True,
    }
    assert of_models == [
        {
            **wishes,
            "dataset": "1",
            "trainers": ["A", "B"],
            "configuration": "2d",
            "plans_names": ["P", "Q"],
            "folds": ["0", "2"],
        }
    ]
    assert of_folders == [
        {
            **wishes,
            "predictions": [Path("poor"), Path("good")],
            "references": Path("gt"),
            "dataset_json": Path("d.json"),
            "images": Path("images"),
        }
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("-d", "1"),
        ("-pred", "a", "b"),
        ("-gt", "a"),
        ("-d", "1", "-tr", "a", "b", "-pred", "a"),
        ("-pred", "a", "b", "-gt", "c", "-f", "0"),
        ("-d", "1", "-tr", "a", "b", "--images", "images"),
    ],
)
def test_it_takes_models_or_folders_not_both(arguments, tmp_path, capsys):
    assert run(*arguments, "-o", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "expected either -d and -tr (with -c, -p, -f) or -pred and -gt (with -djfile, --images), got " in said
    given = {argument for argument in arguments if argument.startswith("-")}
    assert set(said.split(", got ")[1].split()) == (given or {"neither"})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "hint"),
    [
        (["--images", "nowhere"], "got none; name other images with --images."),
        (["-djfile", "nowhere.json"], "put it there, or name another dataset.json with -djfile."),
        (["-gt", "nowhere"], "got none; name other references with -gt."),
        (["--primary", "IoU"], "got 'IoU'; choose another with --primary."),
        (["--primary", "Dice:7"], "got '7'; choose another with --primary."),
        (["-pred", "poor", "poor"], "name other predictions with -pred."),
    ],
)
def test_the_sentence_says_what_to_type(more, hint, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments, *more).endswith(hint)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "hint"),
    [(["-p", "a", "b", "c"], "got 3; name other plans with -p."), (["-f", "0", "all"], "choose folds with -f.")],
)
def test_of_models_the_sentence_names_their_flags(more, hint, trained_dataset, tmp_path):
    line = ["-d", trained_dataset, "-tr", "nnUNetTrainer", "nnUNetTrainerGSP", "-o", tmp_path / "out", *more]
    assert run(*line).endswith(hint)


@pytest.fixture
def trained_dataset(tmp_path, monkeypatch):
    """Name a dataset with references, and nothing trained."""
    name = "Dataset777_Compared"
    for folder in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{folder}", str(tmp_path / folder))
        (tmp_path / folder / name).mkdir(parents=True)
    write_predictions(tmp_path / "preprocessed" / name / "gt_segmentations", 0, range(2))
    return name
