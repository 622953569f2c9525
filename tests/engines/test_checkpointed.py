"""The training step against the network's modules called one after the other."""

import copy
import importlib
import math
import shutil

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_func
from torch._functorch.partitioners import min_cut_rematerialization_partition
from torch._inductor.utils import run_and_get_code
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.flop_counter import FlopCounterMode

from nnunetv2_gsp.counting import count_activation_bytes
from nnunetv2_gsp.engines import choice
from nnunetv2_gsp.engines.checkpointed import has_state
from tests.architectures.networks import gsp_unet, isotropic, located, stock_architecture

PATCH, FEATURES = (8, 16, 8), (16, 32, 32)
PRODUCTS = {torch.ops.aten.baddbmm.default, torch.ops.aten.bmm.default}
DROPOUT = {"dropout_op": nn.Dropout3d, "dropout_op_kwargs": {"p": 0.5, "inplace": True}}
# what nnU-Net's plans, its variants and dynamic-network-architectures' own configurations name, and their kin
NORMS = {"none": None, "instance": (nn.InstanceNorm2d, nn.InstanceNorm3d), "batch": (nn.BatchNorm2d, nn.BatchNorm3d)}
DROPOUTS = {"no dropout": None, "voxels": (nn.Dropout, nn.Dropout), "maps": (nn.Dropout2d, nn.Dropout3d)}
NONLINEARITIES = {
    nn.LeakyReLU: {"inplace": True},
    nn.ReLU: {"inplace": True},
    nn.GELU: {},
    nn.Mish: {},
    nn.RReLU: {"inplace": True},
}
BATCH_NORM = {"norm_op": nn.BatchNorm3d}


@pytest.fixture(autouse=True)
def no_fused_layers(monkeypatch):
    """Let the CPU compute as a GPU does: checkpointed steps, plain predictions."""
    others = {name: entry for name, entry in choice._ENTRIES.items() if not name.startswith("fused")}
    monkeypatch.setattr(choice, "_ENTRIES", others)


def network_of(**changes):
    torch.manual_seed(0)
    return gsp_unet(PATCH, FEATURES, isotropic(3), **{"deep_supervision": True, **changes})


def module_by_module(network):
    """Return the network with hooks, which keep every module apart."""
    network = copy.deepcopy(network)
    for module in network.modules():
        module.register_forward_hook(lambda *_: None)
    return network


def step(network, x):
    """Return logits and the gradients of the image and of every parameter."""
    network.zero_grad()
    x = x.clone().requires_grad_()
    torch.manual_seed(1)  # of dropout
    logits = network(x)
    logits = logits if isinstance(logits, list) else [logits]
    sum(level.float().square().mean() for level in logits).backward()
    return [*logits, x.grad, *(parameter.grad for parameter in network.parameters() if parameter.grad is not None)]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"deep_supervision": False},
        {"shift_position": "none"},
        {"shift_position": "CCS", "nonlin_first": True},
        {"shift_position": "CSCSUpShift", **DROPOUT},
        {"conv_bias": False, "shift_position": "CSCS"},
        {"kernel": 3, "local_shift_channels": [6, 12, 0]},
        {"nonlin_kwargs": {"inplace": False}},
        {"nonlin": nn.ReLU, "nonlin_kwargs": {"inplace": True}},
        {"norm_op": None},
        {"norm_op": None, **DROPOUT},
        {"norm_op": None, "nonlin": None},
    ],
    ids=str,
)
def test_same_logits_and_gradients(changes):
    network = network_of(**changes).double()
    x = torch.randn(2, 2, *PATCH, dtype=torch.double)
    for ours, expected in zip(step(network, x), step(module_by_module(network), x), strict=True):
        assert torch.equal(ours, expected)


def test_same_logits_and_gradients_in_2d_with_strides_that_differ():
    network = gsp_unet((12, 32), (8, 16, 16), [(1, 1), (1, 4), (3, 2)], deep_supervision=True)
    x = torch.randn(2, 2, 12, 32)
    for ours, expected in zip(step(network, x), step(module_by_module(network), x), strict=True):
        assert torch.equal(ours, expected)


def test_same_logits_and_gradients_in_half_precision():
    network, x = network_of(), torch.randn(2, 2, *PATCH)
    with torch.autocast("cpu", torch.bfloat16):
        ours, expected = step(network, x), step(module_by_module(network), x)
    assert ours[0].dtype is torch.bfloat16
    for mine, theirs in zip(ours, expected, strict=True):
        assert torch.equal(mine, theirs)


def test_convolutions_are_not_computed_again():
    network, x = network_of(), torch.randn(2, 2, *PATCH)
    flops = []
    for each in (network, module_by_module(network)):
        with FlopCounterMode(display=False) as counter:
            step(each, x)
        flops.append(counter.get_total_flops())
    assert flops[0] == flops[1] > 0


def test_predictions_are_those_of_the_modules_one_by_one():
    network, x = network_of(shift_position="CSCS").eval(), torch.randn(2, 2, *PATCH)
    with torch.no_grad():
        assert torch.equal(network(x)[0], module_by_module(network)(x)[0])
    with torch.inference_mode():
        assert torch.equal(network(x)[0], module_by_module(network)(x)[0])


def test_the_gradients_can_be_asked_for_twice():
    network = network_of()
    loss = network(torch.randn(2, 2, *PATCH))[0].square().mean()
    weights = list(network.encoder.parameters())
    first, second = (torch.autograd.grad(loss, weights, retain_graph=True) for _ in range(2))
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))


def test_hooked_modules_run_once_each_and_whole():
    network = network_of()
    calls = []
    for module in network.modules():
        module.register_forward_hook(lambda module, *_: calls.append(module))
    network(torch.randn(1, 2, *PATCH))[0].mean().backward()
    assert set(calls) == set(network.modules()) - {
        module for module in network.modules() if isinstance(module, nn.ModuleList)
    }
    assert calls.count(network.decoder.seg_layers[-1]) == calls.count(network.encoder.stages[0].convs[0].norm) == 1


def assert_trains_as_module_by_module(network, forward=None, **tolerances):
    """Compare every parameter and buffer after three steps; whatever is compared with may have its own `forward`."""
    expected, size = copy.deepcopy(network), PATCH[-len(network.shift_settings.spatial_groups[0]) :]
    train(expected, lambda x: expected.decoder(expected.encoder(x)), size)
    train(network, network if forward is None else forward, size)
    states = [dict(each.state_dict()) for each in (network, expected)]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], **{"rtol": 0, "atol": 0, **tolerances}, msg=name)


def train(network, forward, size):
    optimiser = torch.optim.SGD(network.parameters(), 0.01, momentum=0.99, nesterov=True)
    torch.manual_seed(1)
    for _ in range(3):
        optimiser.zero_grad()
        sum(level.square().mean() for level in forward(torch.randn(2, 2, *size) + 1)).backward()
        optimiser.step()


@pytest.mark.parametrize("nonlin", NONLINEARITIES)
@pytest.mark.parametrize("dropout", DROPOUTS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("n_axes", [2, 3])
def test_trains_as_module_by_module(n_axes, norm, dropout, nonlin):
    norm_op, dropout_op = (ops and ops[n_axes - 2] for ops in (NORMS[norm], DROPOUTS[dropout]))
    torch.manual_seed(0)
    network = gsp_unet(
        PATCH[-n_axes:],
        (8, 16),
        isotropic(2, n_axes),
        deep_supervision=True,
        norm_op=norm_op,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        dropout_op=dropout_op,
        dropout_op_kwargs={"p": 0.5, "inplace": True},
        nonlin=nonlin,
        nonlin_kwargs=NONLINEARITIES[nonlin],
    )
    assert_trains_as_module_by_module(network)


@pytest.mark.parametrize(
    "changes",
    [
        {"norm_op": nn.InstanceNorm3d, "norm_op_kwargs": {"track_running_stats": True}},
        {"norm_op": nn.BatchNorm3d, "norm_op_kwargs": {"momentum": None}},
        {**BATCH_NORM, "nonlin_first": True},
        {**BATCH_NORM, "shift_position": "CSCSUpShift"},
        {**BATCH_NORM, **DROPOUT, "shift_position": "CSCS"},
        {**BATCH_NORM, "nonlin_kwargs": {"inplace": False}},
        {**BATCH_NORM, "nonlin": None},
        {"dropout_op": nn.Dropout3d, "dropout_op_kwargs": {"p": 0.5, "inplace": False}},
    ],
    ids=str,
)
def test_state_changes_once_a_step(changes):
    assert_trains_as_module_by_module(network_of(**changes))


def test_weights_with_state_are_computed_once_a_step():
    network = network_of()
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            spectral_norm(module)
    assert_trains_as_module_by_module(network)


class CountingNorm(nn.Module):
    """A norm of one's own, whose state nobody sees."""

    def __init__(self, channels, **_):
        super().__init__()
        self.norm, self.n_calls = nn.InstanceNorm3d(channels), 0

    def forward(self, x):
        self.n_calls += 1
        return self.norm(x) * self.n_calls


def test_norms_from_elsewhere_run_once_a_step():
    network = network_of(norm_op=CountingNorm)
    assert_trains_as_module_by_module(network)
    assert {module.n_calls for module in network.modules() if isinstance(module, CountingNorm)} == {3}


def test_compiled_trains_as_module_by_module():
    torch._dynamo.reset()
    network = network_of(**BATCH_NORM, **DROPOUT)
    assert_trains_as_module_by_module(
        network, torch.compile(network, backend="aot_eager", fullgraph=True), rtol=1e-3, atol=1e-4
    )


def test_synchronised_batch_norm_has_state():
    """As nnU-Net puts it in place of the others on several GPUs; it does not run on a CPU."""
    network = nn.SyncBatchNorm.convert_sync_batchnorm(network_of(**BATCH_NORM))
    assert all(has_state(layer.all_modules[1]) for stage in network.encoder.stages for layer in stage.convs)


def stock_and_gsp(device, features, patch, **changes):
    with torch.device(device):
        kwargs = {**located(stock_architecture(features, isotropic(len(features)))), **changes}
        stock = PlainConvUNet(input_channels=4, num_classes=4, deep_supervision=True, **kwargs)
        gsp = gsp_unet(
            patch, features, isotropic(len(features)), input_channels=4, num_classes=4, deep_supervision=True, **changes
        )
        return stock, gsp.to(device), torch.zeros(2, 4, *patch)


@pytest.mark.parametrize(
    ("device", "features", "patch"),
    [("meta", (32, 64, 128, 256, 320, 320), (128, 128, 128)), ("cpu", (16, 32), (16, 16, 16))],
)
def test_keeps_at_most_six_tenths_of_what_stock_keeps(device, features, patch):
    stock, gsp, x = stock_and_gsp(device, features, patch)
    assert 0 < count_activation_bytes(gsp, x) <= 0.6 * count_activation_bytes(stock, x)


@pytest.mark.parametrize(("changes", "share"), [(DROPOUT, 0.55), (BATCH_NORM, 0.85)], ids=["dropout", "batch norm"])
def test_what_runs_once_is_all_that_is_kept_beside(changes, share):
    """Dropout of whole maps keeps nothing; BatchNorm keeps its output, which is all that it adds."""
    stock, gsp, x = stock_and_gsp("meta", (32, 64, 128, 256, 320, 320), (128, 128, 128), **changes)
    assert 0 < count_activation_bytes(gsp, x) <= share * count_activation_bytes(stock, x)


def test_compiled_keeps_no_more_and_computes_no_convolution_again():
    torch._dynamo.reset()
    products = []

    def count(graph, _):
        products.append(sum(node.target in PRODUCTS for node in graph.graph.nodes))
        return make_boxed_func(graph.forward)

    backend = aot_autograd(fw_compiler=count, bw_compiler=count, partition_fn=min_cut_rematerialization_partition)
    stock, gsp, x = stock_and_gsp("cpu", (16, 32), (16, 16, 16))
    compiled = torch.compile(gsp, backend=backend, fullgraph=True)
    assert 0 < count_activation_bytes(compiled, x) <= 0.6 * count_activation_bytes(stock, x)
    sum(level.sum() for level in compiled(x)).backward()
    n_convolutions = sum(isinstance(module, nn.Conv3d) for module in gsp.modules())
    assert products == [n_convolutions, 2 * n_convolutions - 1]  # the image gets no gradient


def test_compiled_for_a_gpu_gradients_in_pieces_keep_no_more(monkeypatch):
    _, gsp, x = stock_and_gsp("cpu", (16, 32), (16, 16, 16))
    pointwise = importlib.import_module("nnunetv2_gsp.ops.pointwise")
    monkeypatch.setattr(pointwise, "PIECE", 256)
    monkeypatch.setattr(pointwise, "LEAST_PIECES", 2)
    backend = aot_autograd(
        fw_compiler=lambda graph, _: make_boxed_func(graph.forward), partition_fn=min_cut_rematerialization_partition
    )
    kept = []
    for on_gpu in (False, True):
        monkeypatch.setattr(pointwise, "_on_gpu", lambda _, on_gpu=on_gpu: on_gpu)
        torch._dynamo.reset()
        kept.append(count_activation_bytes(torch.compile(gsp, backend=backend, fullgraph=True), x))
    assert 0 < kept[1] <= 1.01 * kept[0]


def test_compiled_keeps_no_map_but_the_convolutions_and_what_a_stage_hands_on():
    torch._dynamo.reset()
    kept = []

    def look(graph, _):
        output = next(node for node in graph.graph.nodes if node.op == "output")
        kept.extend(node for node in output.args[0] if node is not None and node.op != "placeholder")
        return make_boxed_func(graph.forward)

    network, x = network_of(deep_supervision=False), torch.randn(2, 2, *PATCH)
    backend = aot_autograd(
        fw_compiler=look,
        bw_compiler=lambda graph, _: make_boxed_func(graph.forward),
        partition_fn=min_cut_rematerialization_partition,
    )
    torch.compile(network, backend=backend, fullgraph=True)(x).sum().backward()
    maps = [
        node
        for node in kept
        if node.meta["val"].is_floating_point()
        and 0 not in node.meta["val"].stride()
        and math.prod(node.meta["val"].shape[2:]) > 1
    ]
    assert len(maps) > 10
    views = {torch.ops.aten.view.default, torch.ops.aten.transpose.int, torch.ops.aten.permute.default}
    others = [node.target for node in maps if node.target not in PRODUCTS | views]
    # what a stage hands on; an encoder's has two readers
    n_handed_on = len(network.encoder.stages) + len(network.decoder.stages) - 1
    assert others in ([], [torch.ops.aten.leaky_relu.default] * n_handed_on)


def test_compiled_under_autocast_keeps_and_joins_maps_in_half_precision():
    torch._dynamo.reset()
    kept, joined = [], []

    def look(graph, _):
        nodes = list(graph.graph.nodes)
        kept.extend(node for node in nodes[-1].args[0] if node is not None and node.op != "placeholder")
        joined.extend(node for node in nodes if node.target is torch.ops.aten.cat.default)
        return make_boxed_func(graph.forward)

    network, x = network_of(deep_supervision=False), torch.randn(2, 2, *PATCH)
    backend = aot_autograd(
        fw_compiler=look,
        bw_compiler=lambda graph, _: make_boxed_func(graph.forward),
        partition_fn=min_cut_rematerialization_partition,
    )
    with torch.autocast("cpu", torch.bfloat16):
        logits = torch.compile(network, backend=backend, fullgraph=True)(x)
    logits.sum().backward()
    maps = [
        node.meta["val"]
        for node in (*kept, *joined)
        if node.meta["val"].is_floating_point() and math.prod(node.meta["val"].shape[2:]) > 1
    ]
    assert len(maps) > 20
    assert {each.dtype for each in maps} == {torch.bfloat16}


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_norm_nonlinearity_and_shift_are_one_kernel_a_layer():
    torch._dynamo.reset()
    block = gsp_unet((8, 8, 8), (16, 16), isotropic(2), input_channels=16, shift_position="CSCS").encoder.stages[0]
    with torch.no_grad():
        _, code = run_and_get_code(torch.compile(block, fullgraph=True), torch.randn(2, 16, 8, 8, 8))
    calls = [
        line.split("(")[0].strip()
        for source in code
        for line in source.splitlines()
        if line.strip().startswith("cpp_fused") and "=" not in line
    ]
    assert len(calls) == len(block.convs) == 2
    assert all("var_mean" in call and "index" in call for call in calls)  # and so is what comes in between
