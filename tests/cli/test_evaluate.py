"""The verb evaluate: what it prints and writes, and one sentence for what a user can mend."""

import numpy as np
import pytest

from nnunetv2_gsp.metrics.definitions import DEFINITIONS
from tests.cli.commands import exit_code
from tests.metrics.drawings import write, write_dataset_json
from tests.metrics.folders import REGIONS, tumour, write_folders


@pytest.fixture
def arguments(tmp_path):
    references, predictions = write_folders(tmp_path)
    return ["-gt", references, "-pred", predictions, "-np", 1]


def run(*arguments):
    return exit_code("evaluate", *arguments)


def test_it_prints_means_and_the_definition_and_writes_json_and_csv(arguments, tmp_path, capsys):
    assert run(*arguments, "--definition", "panoptica", "-o", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "panoptica as BraTS 2025 sets it" in printed
    assert "whole_tumor" in printed
    assert printed.endswith(f"Wrote {tmp_path / 'out' / 'evaluation_panoptica.json'} and evaluation_panoptica.csv.\n")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "evaluation_panoptica.csv",
        "evaluation_panoptica.json",
    ]


def test_it_replaces_files_only_when_asked(arguments):
    assert run(*arguments) == 0
    code = run(*arguments)
    assert code.startswith("nnUNetv2_gsp evaluate: ")
    assert code.endswith(
        "evaluation_brats2023.json exists and is not replaced; choose another with -o, or replace it with --overwrite."
    )
    assert run(*arguments, "--overwrite") == 0


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_it_takes_every_definition(definition, arguments, tmp_path):
    assert run(*arguments, "--definition", definition, "-o", tmp_path / "out") == 0


def test_an_unknown_definition_is_a_wrong_command_line(arguments, capsys):
    assert run(*arguments, "--definition", "hd") == 2
    assert "captk" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "hint"),
    [
        (
            ["--lesion-wise", "--definition", "directed"],
            "got directed; choose another with --definition, or leave out --lesion-wise.",
        ),
        (["-djfile", "nowhere.json"], "put it there, or name another dataset.json with -djfile."),
        (["-gt", "nowhere"], "got none; name other references with -gt."),
        (["-pred", "nowhere"], "got none; name other predictions with -pred."),
    ],
)
def test_the_sentence_says_what_to_type(more, hint, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments, "-o", "out", *more).endswith(hint)
    assert not (tmp_path / "out").exists()


def test_a_missing_case_may_be_left_out(arguments, tmp_path):
    (tmp_path / "pred" / "BraTS_002.nii.gz").unlink()
    assert run(*arguments).endswith("or leave out with --chill what only one side has.")
    assert run(*arguments, "--chill") == 0


def test_an_unknown_label_may_be_of_another_dataset(arguments, tmp_path):
    write(5 * (tumour(4) > 0), tmp_path / "pred" / "BraTS_001.nii.gz", (1.0, 1.0, 2.0))
    assert run(*arguments).endswith("or name another dataset.json with -djfile.")
    write_dataset_json(tmp_path / "other", {**REGIONS, "more": 5})
    assert run(*arguments, "-djfile", tmp_path / "other" / "dataset.json") == 0


def test_raw_labels_are_refused_with_the_commands_that_mend_them(arguments, tmp_path):
    write(np.where(tumour(1) == 3, 4, tumour(1)), tmp_path / "gt" / "BraTS_001.nii.gz", (1.0, 1.0, 2.0))
    sentence = run(*arguments)
    assert "expected label 3 for enhancing tumour, as nnU-Net's dataset has it, got label 4" in sentence
    assert "with nnUNetv2_gsp convert" in sentence


def test_references_in_another_convention_are_refused(arguments, tmp_path):
    write_dataset_json(tmp_path / "gt", {**REGIONS, "tumor_core": [2, 3]})
    assert run(*arguments).endswith("convert one of them, or name another dataset.json with -djfile.")
    assert run(*arguments, "-djfile", tmp_path / "pred" / "dataset.json") == 0
