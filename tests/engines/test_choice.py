"""Which engine computes: the one that is asked for, or the first that applies, and the reason where that is another."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nnunetv2_gsp.architectures import GSPUNet
from nnunetv2_gsp.engines import ENGINES, VARIABLE, choice, compute, explain
from tests.architectures.networks import gsp_unet, isotropic
from tests.engines.networks import PATCH, assert_close, by_engine, needs_build, small_network


@pytest.fixture(autouse=True)
def nothing_said_yet():
    choice._say_once.cache_clear()


def image(batch=1):
    return torch.randn(batch, 2, *PATCH)


@needs_build
def test_by_itself_a_prediction_is_fused_and_a_training_step_checkpointed():
    network = small_network()
    with torch.no_grad():
        assert explain(network, image()) == ("fused", None)
    assert explain(network.train(), image()) == ("checkpointed", None)


@pytest.mark.parametrize("wish", ENGINES)
def test_the_environment_variable_is_read_when_a_network_is_built(wish, monkeypatch):
    monkeypatch.setenv(VARIABLE, wish)
    network = gsp_unet(PATCH, (8, 16), isotropic(2))
    monkeypatch.delenv(VARIABLE)
    assert (network.engine, gsp_unet(PATCH, (8, 16), isotropic(2)).engine) == (wish, "auto")


def test_an_unknown_engine_is_refused(monkeypatch):
    monkeypatch.setenv(VARIABLE, "warp")
    with pytest.raises(ValueError, match=f"Expected {VARIABLE} to be one of .*plain.*, got 'warp'"):
        gsp_unet(PATCH, (8, 16), isotropic(2))


@pytest.mark.parametrize("engine", ["plain", "checkpointed"])
def test_the_engine_that_is_asked_for_trains(engine):
    network, x = small_network().train(), image()
    parameters = [*network.encoder.parameters(), *network.decoder.stages.parameters()]
    gradients = torch.autograd.grad(by_engine(engine, network, x).square().mean(), parameters)
    expected = torch.autograd.grad(network.decoder(network.encoder(x)).square().mean(), parameters)
    assert all(map(torch.equal, gradients, expected))


def test_plain_runs_every_module_in_a_training_step_too():
    """Nothing is computed again: the norm of a layer runs once."""
    network, calls = small_network().train(), []
    norm = network.encoder.stages[0].convs[0].norm
    norm.forward = lambda x: calls.append(x) or x
    by_engine("plain", network, image()).mean().backward()
    assert len(calls) == 1


@needs_build
@pytest.mark.parametrize(
    ("engine", "is_training", "reason"),
    [("fused", True, "no prediction on the CPU"), ("checkpointed", False, "no training step")],
)
def test_an_engine_that_does_not_apply_says_why(engine, is_training, reason):
    network = small_network().train(is_training)
    with torch.set_grad_enabled(is_training), pytest.raises(RuntimeError, match=f"{engine}.*{reason}.*Ask for plain"):
        by_engine(engine, network, image())


@needs_build
def test_the_reason_is_logged_once(caplog):
    network = small_network(norm_op=nn.BatchNorm3d)
    with torch.no_grad():
        for _ in range(3):
            network(image())
        assert explain(network, image()).engine == "plain"
    [record] = caplog.records
    assert "fused does not apply: not known to the fused layers: BatchNorm3d" in record.message
    assert "the plain engine computes instead" in record.message


@pytest.mark.parametrize("call", ["gradients", "deep supervision", "traced", "counted"])
@pytest.mark.filterwarnings("ignore")
def test_nothing_is_logged_where_no_engine_steps_aside(call, caplog):
    network = small_network(deep_supervision=call == "deep supervision")
    if call == "gradients":
        network(image())
    with torch.no_grad():
        if call == "traced":
            torch.jit.trace(network, image(), check_trace=False)
        elif call == "counted":
            with FlopCounterMode(display=False):
                network(image())
        else:
            network(image())
    assert caplog.records == []


def test_training_with_hooks_is_plain_and_says_so(caplog):
    network = small_network().train()
    network.encoder.stages[0].register_forward_hook(lambda *_: None)
    network(image())
    [record] = caplog.records
    assert "checkpointed does not apply: modules have hooks" in record.message


class StagePlusOne(nn.Module):
    def __init__(self, stage):
        super().__init__()
        self.stage = stage

    def forward(self, x):
        return self.stage(x) + 1


def test_a_part_of_ones_own_is_called_in_a_training_step():
    network, x = small_network().train(), image()
    network.decoder.stages[-1] = StagePlusOne(network.decoder.stages[-1])
    assert_close(network(x), network.decoder(network.encoder(x)))
    assert explain(network, x).reason.endswith("a part with a forward of its own: StagePlusOne")


def test_a_network_that_was_pickled_before_there_were_engines_computes():
    network = small_network()
    del network.engine
    assert isinstance(network, GSPUNet)
    with torch.no_grad():
        assert compute(network, image()).shape == (1, 3, *PATCH)
