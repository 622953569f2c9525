from contextlib import nullcontext
from copy import deepcopy

import pytest

from nnunetv2_gsp.architectures.from_plans import GSP_NETWORK, describe, gsp_architecture, read_architecture
from nnunetv2_gsp.architectures.request import ShiftRequest
from tests.architectures.networks import gsp_unet, isotropic, located, stock_architecture


def test_stock_plans_get_resolved_settings_and_are_left_alone():
    stock = stock_architecture((16, 32, 64), isotropic(3))
    before = deepcopy(stock)
    architecture = gsp_architecture(stock, (16, 32, 32))
    assert stock == before
    assert architecture["network_class_name"] == GSP_NETWORK
    assert architecture["arch_kwargs"] == {
        **before["arch_kwargs"],
        "spatial_groups": [[2, 2, 2], [1, 4, 4], [2, 4, 4]],
        "shift_channels": [8, 16, 32],
        "shift_position": "CSC",
        "shift_location": "both",
        "local_shift_channels": [0, 0, 0],
        "kernel": 1,
    }


def test_gsp_plans_are_taken_at_their_word():
    architecture = gsp_architecture(stock_architecture((16, 32), isotropic(2)), (8, 8, 8))
    architecture["arch_kwargs"].update(
        spatial_groups=[[1, 2, 2], [1, 1, 2]], shift_channels=[4, 6], shift_position="CCS"
    )
    assert gsp_architecture(architecture, (8, 8, 8)) == architecture


def test_gsp_plans_that_give_only_the_groups_get_the_papers_defaults():
    architecture = gsp_architecture(stock_architecture((16, 32), isotropic(2)), (8, 8, 8))
    short, nulled = deepcopy(architecture), deepcopy(architecture)
    for name in ("shift_channels", "shift_position", "shift_location", "local_shift_channels", "kernel"):
        del short["arch_kwargs"][name]
        nulled["arch_kwargs"][name] = None
    assert gsp_architecture(short, (8, 8, 8)) == gsp_architecture(nulled, (8, 8, 8)) == architecture


def test_the_short_path_names_the_same_network():
    architecture = gsp_architecture(stock_architecture((16, 32), isotropic(2)), (8, 8, 8))
    short = {**architecture, "network_class_name": "nnunetv2_gsp.architectures.GSPUNet"}
    assert gsp_architecture(short, (8, 8, 8)) == architecture


def test_plans_whose_blocks_have_nothing_to_shift_between_are_refused():
    single = stock_architecture((16, 32), isotropic(2), n_conv_per_stage=[1, 1], n_conv_per_stage_decoder=[1])
    with pytest.raises(ValueError, match="nothing would move"):
        gsp_architecture(single, (8, 8, 8))


@pytest.mark.parametrize(
    ("request_", "encoder", "decoder", "is_refused"),
    [
        ({"shift_location": "encoder"}, 1, 2, True),
        ({"shift_location": "decoder"}, 2, 1, True),
        ({"shift_location": "decoder"}, 1, 2, False),
        ({}, 1, 2, False),
        ({"shift_ratio": 0}, 1, 1, False),
        ({"shift_position": "CCS"}, 1, 1, False),
        ({"shift_ratio": 0, "local_shift_ratio": 0.5}, 1, 1, True),
    ],
)
def test_where_nothing_would_move_is_refused_unless_asked_for(request_, encoder, decoder, is_refused):
    stock = stock_architecture(
        (16, 32), isotropic(2), n_conv_per_stage=[encoder] * 2, n_conv_per_stage_decoder=[decoder]
    )
    with pytest.raises(ValueError, match="nothing would move") if is_refused else nullcontext():
        gsp_architecture(stock, (8, 8, 8), ShiftRequest(**request_))


def test_residual_plans_become_two_convolutions_a_stage():
    kwargs = gsp_architecture(stock_architecture((16, 32, 32), isotropic(3), "residual"), (8, 8, 8))["arch_kwargs"]
    assert kwargs["n_conv_per_stage"] == [2, 2, 2]
    assert kwargs["n_conv_per_stage_decoder"] == [2, 2]
    assert "n_blocks_per_stage" not in kwargs
    plain = gsp_architecture(stock_architecture((16, 32, 32), isotropic(3)), (8, 8, 8))["arch_kwargs"]
    assert kwargs == plain


def test_other_networks_are_refused_by_name():
    primus = stock_architecture((16, 32), isotropic(2))
    primus["network_class_name"] = "dynamic_network_architectures.architectures.primus.Primus"
    with pytest.raises(NotImplementedError, match=r"primus\.Primus"):
        gsp_architecture(primus, (8, 8, 8))


@pytest.mark.parametrize(
    ("patch_size", "groups", "message"),
    [
        ((8, 8, 10), None, "strides a map of 4×4×5 voxels"),
        ((8, 8, 8), [[2, 2, 2], [3, 1, 1], [1, 1, 1]], "stage 1 .* 4×4×4 voxels, got 3×1×1"),
        ((8, 8, 8), [[2, 2, 2], [2, 2, 2]], r"spatial_groups must have one entry a stage, 3 here, got \[\[2"),
        ((8, 8, 8), [[2, 2, 2], [2, 2], [1, 1, 1]], r"stage 1 must be 3 positive counts, .* got \[2, 2\]"),
        ((8, 8, 8), [[2, 2, 2], [2, 2, 2], [4, 1, 1]], "stage 2 .* 2×2×2 voxels, got 4×1×1"),
    ],
)
def test_what_does_not_divide_is_named(patch_size, groups, message):
    architecture = stock_architecture((16, 32, 32), isotropic(3))
    if groups is not None:
        architecture = gsp_architecture(architecture, (8, 8, 8))
        architecture["arch_kwargs"].update(spatial_groups=groups, shift_channels=None)
    with pytest.raises(ValueError, match=message):
        gsp_architecture(architecture, patch_size)


def test_table_says_what_the_network_does():
    architecture = gsp_architecture(stock_architecture((32, 98), [(1, 1, 1), (2, 2, 2)]), (14, 14, 14))
    lines = describe(read_architecture(architecture, (14, 14, 14)), (14, 14, 14)).splitlines()
    assert lines[0] == "Group Shift, CSC in encoder and decoder, 1×1×1 convolutions:"
    assert lines[2].split() == ["0", "14×14×14", "32", "2×2×2", "7×7×7", "16"]
    assert lines[3].split()[:6] == ["1", "7×7×7", "98", "1×7×7", "7×1×1", "49"]
    assert "no equal split of equal axes" in lines[3]
    assert located(architecture)["shift_channels"] == list(
        gsp_unet((14, 14, 14), (32, 98), [(1, 1, 1), (2, 2, 2)]).shift_settings.shift_channels
    )


def test_table_says_how_many_channels_move_by_single_voxels():
    entry = gsp_architecture(
        stock_architecture((16, 32), isotropic(2, dim=2)), (16, 16), ShiftRequest(local_shift_ratio=0.25)
    )
    _, header, *stages = describe(read_architecture(entry, (16, 16)), (16, 16)).splitlines()
    assert header.split()[-3:] == ["shifted", "channels", "locally"]
    assert [line.split()[-2:] for line in stages] == [["8", "4"], ["16", "8"]]  # a half and a quarter
    assert {len(line) for line in stages} == {len(header)}
