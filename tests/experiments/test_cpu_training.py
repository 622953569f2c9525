"""The command that trains on a share of the CPU, beside `nnUNetv2_train -device cpu`; test_local.py really trains."""

import inspect
import sys

import pytest
import torch
from nnunetv2.run import run_training as nnunet

from nnunetv2_gsp.experiments import cpu_training
from tests.conftest import torch_threads

SIGNATURE = inspect.signature(nnunet.run_training)


@pytest.fixture
def trained(monkeypatch):
    """Let no training start; gives a function that runs a command and returns what nnU-Net would train, by name."""

    def run(main, *arguments):
        calls = []
        monkeypatch.setattr(nnunet, "run_training", lambda *given, **named: calls.append((given, named)))
        monkeypatch.setattr(sys, "argv", ["command", *arguments])
        main()
        [(given, named)] = calls
        bound = SIGNATURE.bind(*given, **named)
        bound.apply_defaults()
        return bound.arguments

    return run


@pytest.mark.parametrize(
    "arguments",
    [
        ("Dataset137_BraTS", "3d_fullres", "0"),
        ("137", "2d", "all"),
        ("137", "3d_fullres", "4", "-tr", "nnUNetTrainerGSP", "-p", "nnUNetGSPPlans"),
        ("137", "3d_fullres", "4", "-p", "nnUNetGSPPlans", "--c"),
    ],
)
def test_trains_what_nnunets_command_trains_on_the_cpu(arguments, trained):
    ours = trained(cpu_training.main, *arguments)
    with torch_threads(1):
        theirs = trained(nnunet.run_training_entry, *arguments, "-device", "cpu")
    assert ours == theirs
    assert ours["device"] == torch.device("cpu")


def test_the_number_of_threads_is_left_alone(trained, monkeypatch):
    calls = []
    for setter in ("set_num_threads", "set_num_interop_threads"):
        monkeypatch.setattr(torch, setter, calls.append)
    trained(cpu_training.main, "137", "3d_fullres", "0")
    assert calls == []
    trained(nnunet.run_training_entry, "137", "3d_fullres", "0", "-device", "cpu")
    assert calls  # which is why


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--help"], 0, "usage: python -m nnunetv2_gsp.experiments.cpu_training "),
        (["137", "3d_fullres", "0", "-device", "cpu"], 2, "unrecognized arguments: -device cpu"),
        (["137", "3d_fullres"], 2, "the following arguments are required: fold"),
    ],
)
def test_help_and_usage(arguments, code, said, monkeypatch, capsys):
    monkeypatch.setattr(nnunet, "run_training", lambda *_, **__: pytest.fail("a training was started"))
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    with pytest.raises(SystemExit) as ending:
        cpu_training.main()
    output = capsys.readouterr()
    assert ending.value.code == code
    assert said in (output.err if code else output.out)
    assert "usage: " in output.out + output.err
