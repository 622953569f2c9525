"""Compiled, in half precision, on several devices: what nnU-Net turns on by itself where the hardware has it."""

import os
import shutil

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from nnunetv2.utilities.helpers import softmax_helper_dim1
from torch._dynamo.utils import counters
from torch.nn.parallel import DistributedDataParallel

from tests.architectures.networks import gsp_unet, isotropic
from tests.contract.conftest import CPU, ID, TRAINER

PATCH = (8, 16, 8)
GPU = pytest.param("cuda", torch.float16, marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))


@pytest.fixture
def dynamo():
    """Count what torch.compile does, from nothing."""
    torch._dynamo.reset()
    counters.clear()
    yield counters
    torch._dynamo.reset()


def test_compiled_once_for_training_and_once_for_prediction(preprocessed, dynamo):
    """Steps of training and validation, then a sliding window with mirroring over images of different sizes."""
    trainer = get_trainer_from_args(str(ID), "3d_fullres", 0, TRAINER, device=CPU)
    trainer.initialize()
    trainer.network = torch.compile(trainer.network, backend="aot_eager")
    batch = batch_of(trainer)
    trainer.network.train()
    trainer.train_step(batch)
    after_one_step = n_graphs(dynamo)
    for _ in range(3):
        trainer.train_step(batch)
    assert n_graphs(dynamo) == after_one_step == 1

    trainer.set_deep_supervision_enabled(False)
    predictor = nnUNetPredictor(device=CPU, allow_tqdm=False)
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        None,
        trainer.dataset_json,
        TRAINER,
        trainer.inference_allowed_mirroring_axes,
    )
    trainer.network.eval()
    for size in ((28, 36, 34), (20, 40, 61), (5, 70, 33)):
        predictor.predict_sliding_window_return_logits(torch.randn(2, *size))
    assert n_graphs(dynamo) == 2
    assert not dynamo["graph_break"]


@pytest.mark.contract
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_inductor_computes_what_eager_does(dynamo):
    network = gsp_unet(PATCH, (8, 16), isotropic(2), deep_supervision=True)
    x = torch.randn(2, 2, *PATCH)
    gradients = []
    for forward in (network, torch.compile(network, fullgraph=True)):
        network.zero_grad()
        outputs = forward(x)
        sum(output.square().mean() for output in outputs).backward()
        gradients.append([outputs[0].detach(), *(parameter.grad.clone() for parameter in network.parameters())])
    for eager, compiled in zip(*gradients, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("device", "dtype"), [("cpu", torch.bfloat16), GPU])
def test_a_training_in_half_precision_stays_finite_and_learns(device, dtype):
    torch.manual_seed(0)
    network = gsp_unet(PATCH, (8, 16, 32), isotropic(3), deep_supervision=True).to(device)
    optimiser = torch.optim.SGD(network.parameters(), 0.01, momentum=0.99, nesterov=True, weight_decay=3e-5)
    scaler = torch.amp.GradScaler(device, enabled=dtype is torch.float16)
    target = torch.randint(0, 3, (2, 1, *PATCH), device=device)
    x = torch.cat([target.float(), torch.randn(2, 1, *PATCH, device=device)], 1)
    losses = []
    for _ in range(100):
        optimiser.zero_grad()
        with torch.autocast(device, dtype):
            outputs = network(x)
            assert outputs[0].dtype is dtype
            loss = deep_supervision_loss()(outputs, [target[:, :, ::s, ::s, ::s] for s in (1, 2)])
        scaler.scale(loss).backward()
        scaler.unscale_(optimiser)
        assert torch.isfinite(torch.nn.utils.clip_grad_norm_(network.parameters(), 12)) or dtype is torch.float16
        scaler.step(optimiser)
        scaler.update()
        losses.append(loss.item())
    assert all(map(torch.isfinite, map(torch.tensor, losses)))
    assert losses[-1] < losses[0] - 0.1
    assert all(torch.isfinite(parameter).all() for parameter in network.parameters())


def test_two_ranks_agree_after_a_step(tmp_path):
    """As nnU-Net wraps the network: every head gets a gradient, or DDP would wait for it."""
    mp.spawn(one_step_of_a_rank, (2, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"rank_{rank}.pt") for rank in range(2))
    for name, gradient in first["gradients"].items():
        assert gradient is not None, name
        assert torch.equal(gradient, second["gradients"][name]), name
    for name, weight in first["weights"].items():
        assert torch.equal(weight, second["weights"][name]), name
    assert first["loss"] != second["loss"]  # each rank had a batch of its own


def one_step_of_a_rank(rank, world_size, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=world_size)
    torch.manual_seed(0)
    network = DistributedDataParallel(gsp_unet(PATCH, (8, 16, 32), isotropic(3), deep_supervision=True))
    optimiser = torch.optim.SGD(network.parameters(), 0.01, momentum=0.99, nesterov=True)
    torch.manual_seed(rank)
    for _ in range(2):  # DDP reports a parameter without a gradient at the second step
        optimiser.zero_grad()
        target = torch.randint(0, 3, (2, 1, *PATCH))
        loss = deep_supervision_loss()(
            network(torch.randn(2, 2, *PATCH)), [target[:, :, ::s, ::s, ::s] for s in (1, 2)]
        )
        loss.backward()
        optimiser.step()
    torch.save(
        {
            "loss": loss.item(),
            "weights": network.module.state_dict(),
            "gradients": {name: parameter.grad for name, parameter in network.module.named_parameters()},
        },
        os.path.join(folder, f"rank_{rank}.pt"),
    )
    dist.destroy_process_group()


def deep_supervision_loss():
    return DeepSupervisionWrapper(MemoryEfficientSoftDiceLoss(softmax_helper_dim1, ddp=False), [2 / 3, 1 / 3])


def batch_of(trainer):
    """Return a batch as nnU-Net's data loaders do: the target at every scale of deep supervision."""
    patch = trainer.configuration_manager.patch_size
    target = torch.randint(0, 4, (2, 1, *patch)).float()
    scales = trainer._get_deep_supervision_scales()
    targets = [
        torch.nn.functional.interpolate(
            target, [round(size * factor) for size, factor in zip(patch, scale, strict=True)]
        )
        for scale in scales
    ]
    return {"data": torch.randn(2, 2, *patch), "target": targets}


def n_graphs(dynamo):
    return dynamo["stats"]["unique_graphs"]
