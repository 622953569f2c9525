"""Who looks on while operators or modules run: tracers, exporters, counters, transforms and hooks."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn.modules import module as every_module
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from nnunetv2_gsp.ops.recording import (
    has_hooks,
    has_hooks_of_all_modules,
    is_intercepted,
    is_recording,
    is_transformed,
    is_watched,
)


class Asking(nn.Module):
    """Asks while it runs."""

    def __init__(self):
        super().__init__()
        self.answers = []

    def forward(self, x):
        self.answers.append((is_recording(), is_transformed(), is_watched()))
        return x + 1


RECORDS, TRANSFORMS, WATCHES, NOBODY = (True, False, True), (False, True, True), (False, False, True), (False,) * 3


@pytest.fixture
def asking():
    return Asking()


@pytest.mark.parametrize("context", [nullcontext, torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu")])
def test_nobody_looks_on(context, asking):
    with context():
        asking(torch.zeros(2))
    assert asking.answers == [NOBODY]


@pytest.mark.filterwarnings("ignore")
def test_a_trace_and_an_export_record(asking):
    torch.jit.trace(asking, torch.zeros(2), check_trace=False)
    assert asking.answers.pop() == RECORDS

    class Exported(nn.Module):
        def forward(self, x):
            return x + (1 if is_recording() else 100)

    exported = torch.export.export(Exported(), (torch.zeros(2),), strict=False)
    assert exported.module()(torch.zeros(2)).tolist() == [1, 1]


@pytest.mark.parametrize(
    "transform",
    [
        lambda function, x: torch.func.vmap(function)(x),
        lambda function, x: torch.func.grad(lambda x: function(x).sum())(x),
        lambda function, x: torch.func.jvp(function, (x,), (x,)),
        lambda function, x: torch.func.functionalize(function)(x),
    ],
    ids=["vmap", "grad", "jvp", "functionalize"],
)
def test_transforms_of_torch_func(transform, asking):
    transform(asking, torch.zeros(2))
    assert set(asking.answers) == {TRANSFORMS}
    asking(torch.zeros(2))
    assert asking.answers[-1] == NOBODY


def test_forward_mode_derivatives(asking):
    with forward_ad.dual_level():
        asking(forward_ad.make_dual(torch.zeros(2), torch.ones(2)))
    assert asking.answers == [TRANSFORMS]


class Passing(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("mode", [lambda: FlopCounterMode(display=False), Passing], ids=["dispatch", "function"])
def test_modes_that_see_each_operator_watch(mode, asking):
    with mode():
        asking(torch.zeros(2))
    assert asking.answers == [WATCHES]


@pytest.mark.parametrize(
    ("holder", "name", "expected"),
    [
        (torch._C, "_functorch", TRANSFORMS),
        (forward_ad, "_current_level", TRANSFORMS),
        (torch._C, "_len_torch_dispatch_stack", WATCHES),
        (torch._C, "_len_torch_function_stack", WATCHES),
    ],
)
def test_without_a_private_name_of_torch_the_answer_is_the_careful_one(holder, name, expected, asking, monkeypatch):
    monkeypatch.delattr(holder, name)
    asking.forward(torch.zeros(2))
    assert asking.answers == [expected]


HOOKS = {
    "register_forward_hook": lambda *_: None,
    "register_forward_pre_hook": lambda *_: None,
    "register_full_backward_hook": lambda *_: None,
    "register_full_backward_pre_hook": lambda *_: None,
}


@pytest.mark.parametrize("register", HOOKS)
def test_hooks_of_a_module(register):
    module = nn.Sequential(nn.Identity())
    assert not has_hooks(module)
    handle = getattr(module, register)(HOOKS[register])
    assert has_hooks(module)
    assert is_intercepted(module)
    assert not has_hooks(module[0])
    assert not is_intercepted(module[0])
    assert not has_hooks_of_all_modules()
    handle.remove()
    assert not has_hooks(module)


@pytest.mark.parametrize("kind", ["forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook"])
def test_hooks_of_all_modules(kind):
    assert not has_hooks_of_all_modules()
    handle = getattr(every_module, f"register_module_{kind}")(lambda *_: None)
    try:
        assert has_hooks_of_all_modules()
        assert not has_hooks(nn.Identity())
        assert is_intercepted(nn.Identity())
    finally:
        handle.remove()
    assert not has_hooks_of_all_modules()


def test_a_forward_of_one_module():
    module, other = nn.Identity(), nn.Identity()
    module.forward = lambda x: x + 1
    assert is_intercepted(module)
    assert not is_intercepted(other)
