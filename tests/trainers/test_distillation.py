"""What a teacher's lesson adds to the loss, by its equation and for every kind of label."""

from types import SimpleNamespace

import pytest
import torch
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import nn

from nnunetv2_gsp.trainers.distillation import SoftCrossEntropy, TaughtLoss, _takes

SHAPE = (2, 3, 4, 5, 6)


def labels(has_regions=False, ignore_label=None):
    return SimpleNamespace(has_regions=has_regions, ignore_label=ignore_label)


@pytest.fixture
def logits():
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def probabilities():
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1)).softmax(1)


def no_loss(logits, target):
    return 0 * logits.sum()


def test_labels(logits, probabilities):
    log_student = logits - logits.exp().sum(1, keepdim=True).log()
    expected = -(probabilities * log_student).sum(1).mean()
    target = torch.zeros(2, 1, 4, 5, 6)
    torch.testing.assert_close(SoftCrossEntropy(labels())(logits, target, probabilities), expected)


def test_regions(logits, probabilities):
    student = 1 / (1 + (-logits).exp())
    expected = -(probabilities * student.log() + (1 - probabilities) * (1 - student).log()).mean()
    target = torch.zeros(SHAPE)
    torch.testing.assert_close(SoftCrossEntropy(labels(has_regions=True))(logits, target, probabilities), expected)


@pytest.mark.parametrize("has_regions", [False, True])
def test_ignored_voxels_teach_nothing(has_regions, logits, probabilities):
    ignored = torch.zeros(2, 1, 4, 5, 6, dtype=torch.bool)
    ignored[:, :, 2:] = True
    target = torch.cat([torch.zeros(SHAPE), ignored], 1) if has_regions else 7.0 * ignored
    loss = SoftCrossEntropy(labels(has_regions, ignore_label=7))
    kept = SoftCrossEntropy(labels(has_regions))(logits[:, :, :2], target[:, :, :2], probabilities[:, :, :2])
    torch.testing.assert_close(loss(logits, target, probabilities), kept)
    everything = torch.ones_like(target) if has_regions else torch.full_like(target, 7)
    assert loss(logits, everything, probabilities) == 0


def test_the_student_learns_the_most_from_its_own_opposite(logits):
    """A student that says what the teacher says has no gradient."""
    student = logits.clone().requires_grad_()
    target = torch.zeros(2, 1, 4, 5, 6)
    SoftCrossEntropy(labels())(student, target, logits.softmax(1)).backward()
    assert student.grad.abs().max() < 1e-8
    student.grad = None
    SoftCrossEntropy(labels())(student, target, (-logits).softmax(1)).backward()
    assert student.grad.abs().max() > 1e-4


def test_each_resolution_counts_as_in_nnunet_and_sees_mean_probabilities(logits):
    lesson = torch.randn(2, 3, 8, 10, 12).softmax(1)
    deep = [torch.randn(2, 3, 8, 10, 12), logits, torch.randn(2, 3, 2, 5, 3)]
    target = [torch.zeros(2, 1, *each.shape[2:]) for each in deep]
    loss = TaughtLoss(DeepSupervisionWrapper(no_loss, [0.75, 0.25, 0.0]), labels(), weight=2)
    assert loss(deep, target) == 0  # no lesson
    loss.lesson = lesson
    halved = lesson.view(2, 3, 4, 2, 5, 2, 6, 2).mean((3, 5, 7))
    distance = SoftCrossEntropy(labels())
    expected = 2 * (0.75 * distance(deep[0], target[0], lesson) + 0.25 * distance(logits, target[1], halved))
    torch.testing.assert_close(loss(deep, target), expected)


def test_without_deep_supervision_the_lesson_is_taken_as_it_is(logits, probabilities):
    loss = TaughtLoss(_NoLoss(), labels())
    loss.lesson = probabilities
    target = torch.zeros(2, 1, 4, 5, 6)
    torch.testing.assert_close(loss(logits, target), SoftCrossEntropy(labels())(logits, target, probabilities))


class _NoLoss(nn.Module):
    forward = staticmethod(no_loss)


@pytest.mark.parametrize(
    ("network", "patch", "is_taken"),
    [
        ("dynamic_network_architectures.architectures.unet.PlainConvUNet", [16, 32, 32], True),
        ("dynamic_network_architectures.architectures.unet.PlainConvUNet", [24, 40, 8], True),
        ("dynamic_network_architectures.architectures.unet.PlainConvUNet", [18, 32, 32], False),
        ("dynamic_network_architectures.architectures.unet.PlainConvUNet", [32, 32], False),
        ("nnunetv2_gsp.architectures.gsp_unet.GSPUNet", [16, 32, 32], True),
        ("nnunetv2_gsp.architectures.gsp_unet.GSPUNet", [32, 32, 32], False),  # groups belong to a patch
    ],
)
def test_which_patches_a_teacher_takes(network, patch, is_taken):
    configuration = {
        "patch_size": [16, 32, 32],
        "architecture": {
            "network_class_name": network,
            "arch_kwargs": {"strides": [[1, 1, 1], [2, 2, 2], [2, 4, 1]]},
            "_kw_requires_import": [],
        },
    }
    assert _takes(ConfigurationManager(configuration), patch) is is_taken
