"""Which engine computes: the one that is asked for, or the first that applies, and the reason where that is another."""

import copy
import pickle
from itertools import repeat

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nnunetv2_gsp.cpu import library
from nnunetv2_gsp.engines import ENGINES, VARIABLE, choice, computed_by
from nnunetv2_gsp.errors import InputError, UnavailableError
from tests.engines.networks import PATCH, by_engine, needs_build, small_network

FUSED_LAYERS = not isinstance(library.find_fused_layers(), str)
TRAINING = "fused_training" if FUSED_LAYERS else "checkpointed"


@pytest.fixture(autouse=True)
def nothing_said_yet():
    choice._say_once.cache_clear()


def image(batch=1):
    return torch.randn(batch, 2, *PATCH)


@needs_build
def test_by_itself_a_prediction_is_fused_and_so_is_a_training_step():
    network = small_network()
    with torch.no_grad():
        assert computed_by(network, image())[:2] == ("fused", None)
    assert computed_by(network.train(), image())[:2] == ("fused_training", None)


@pytest.mark.parametrize("wish", sorted({*ENGINES} - {"triton"}))  # which needs a GPU
def test_the_environment_says_what_networks_are_computed_by_that_say_nothing(wish, monkeypatch):
    network, chosen = small_network(), small_network()
    chosen.engine = "plain"
    monkeypatch.setenv(VARIABLE, wish)
    usual = "fused" if FUSED_LAYERS else "plain"
    with torch.no_grad():
        assert computed_by(network, image()).engine == {"plain": "plain"}.get(wish, usual)
        assert computed_by(copy.deepcopy(chosen), image()).engine == "plain"
    monkeypatch.delenv(VARIABLE)
    with torch.no_grad():
        assert computed_by(network, image()).engine == usual


def test_an_unknown_engine_is_refused(monkeypatch):
    network = small_network()
    network.engine = "warp"
    with pytest.raises(InputError, match=r"Expected an engine among .*plain.*, got 'warp'"):
        network(image())
    network.engine = None
    monkeypatch.setenv(VARIABLE, "warp")
    with pytest.raises(InputError, match=f"Expected {VARIABLE} to be one of .*plain.*, got 'warp'"):
        network(image())
    monkeypatch.delenv(VARIABLE)
    network(image())


@pytest.mark.parametrize("engine", ["plain", "checkpointed", pytest.param("fused_training", marks=needs_build)])
def test_the_engine_that_is_asked_for_trains(engine):
    network, x = small_network().train(), image()
    parameters = [*network.encoder.parameters(), *network.decoder.stages.parameters()]
    gradients = torch.autograd.grad(by_engine(engine, network, x).square().mean(), parameters)
    expected = torch.autograd.grad(network.decoder(network.encoder(x)).square().mean(), parameters)
    assert all(map(torch.allclose, gradients, expected, repeat(1e-3), repeat(1e-6)))


def test_plain_runs_every_module_in_a_training_step_too():
    """Nothing is computed again: the norm of a layer runs once."""
    network, calls = small_network().train(), []
    norm = network.encoder.stages[0].convs[0].norm
    norm.forward = lambda x: calls.append(x) or x
    by_engine("plain", network, image()).mean().backward()
    assert len(calls) == 1


@pytest.mark.parametrize("compiled", [False, True])
def test_who_asks_for_predictions_in_fused_layers_can_train(compiled):
    """A training step is no call that the engine is meant for."""
    torch._dynamo.reset()
    network = small_network().train()
    network.engine = "fused"
    assert computed_by(network, image()).engine == TRAINING
    run = torch.compile(network, backend="aot_eager", fullgraph=True) if compiled else network
    run(image()).mean().backward()


@needs_build
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"norm_op": nn.BatchNorm3d}, "BatchNorm3d.*, which it does not know"),
        ({"kernel": 3}, "Conv3d.*, which it does not know"),
    ],
)
def test_an_engine_that_does_not_apply_says_why(changes, reason):
    network = small_network(**changes)
    network.engine = "fused"
    with torch.no_grad(), pytest.raises(UnavailableError, match=f"the engine fused computes, got .*{reason}.*ask for"):
        network(image())


@needs_build
def test_the_reason_is_logged_once(caplog):
    networks = small_network(norm_op=nn.BatchNorm3d), small_network(norm_op=nn.BatchNorm3d)
    with torch.no_grad(), caplog.at_level("INFO"):
        for network in networks * 2:
            network(image())
    [record] = caplog.records
    assert "computed by the plain engine here" in record.message
    assert "fused: BatchNorm3d" in record.message
    assert record.levelname == "INFO"  # plans may well ask for it


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
    assert "checkpointed: hooks of modules see each of them run once" in record.message
    assert record.levelname == "WARNING"


def test_a_hook_of_the_network_itself_sees_a_training_step():
    network, calls = small_network().train(), []
    network.register_forward_hook(lambda *_: calls.append(1))
    assert computed_by(network, image()).engine == TRAINING
    network(image())
    assert len(calls) == 1


def test_a_network_that_was_saved_whole_does_what_the_environment_says(monkeypatch):
    monkeypatch.setenv(VARIABLE, "plain")
    network = pickle.loads(pickle.dumps(small_network()))
    monkeypatch.delenv(VARIABLE)
    assert computed_by(network.train(), image()).engine == TRAINING
