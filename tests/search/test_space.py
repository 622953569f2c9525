"""Choices and the networks they stand for: the oracle is what a template of this package makes of the same plans."""

import optuna
import pytest

from nnunetv2_gsp.architectures.from_plans import read_stages
from nnunetv2_gsp.counting import count_architecture
from nnunetv2_gsp.plans import gsp_plans
from nnunetv2_gsp.plans_templates import Template, load_template
from nnunetv2_gsp.search.space import Space
from tests.planned_dataset import effective, stock_plans

each_configuration = pytest.mark.parametrize("configuration", ["2d", "3d_lowres", "3d_fullres"])
TEMPLATES = {
    "default": ("default", {}),
    "default_local": ("default_local", {}),
    "decoder alone": ("default", {"shift_location": "decoder"}),
    "local alone": ("default", {"shift_ratio": 0, "local_shift_ratio": 0.375}),
    "pointwise": ("default", {"shift_position": "none"}),
    **{preset: (preset, {}) for preset in ("gsp_s", "gsp_m", "gsp_l")},
}


@pytest.fixture
def space(configuration):
    planned = effective(stock_plans(), configuration)
    return Space(read_stages(planned["architecture"], planned["patch_size"]))


def made(settings, configuration):
    return made_by(Template("search", "", "", settings), configuration)


def made_by(template, configuration):
    return gsp_plans(stock_plans(), "x", template, [configuration])["configurations"][configuration]


@each_configuration
@pytest.mark.parametrize("name", TEMPLATES)
def test_the_first_ones_are_the_networks_of_the_templates(name, space, configuration):
    template, settings = TEMPLATES[name]
    wanted = made_by(load_template(template, settings), configuration)
    assert made(space.settings(space.first()[name]), configuration) == wanted


@pytest.mark.parametrize("configuration", ["3d_fullres"])
def test_there_is_no_other_first_one(space):
    assert set(space.first()) == set(TEMPLATES)


@each_configuration
def test_halves_are_groups_of_two_along_each_axis_throughout(space, configuration):
    settings = space.settings(space.choice(groups="halves"))
    kwargs = made(settings, configuration)["architecture"]["arch_kwargs"]
    assert kwargs["spatial_groups"] == [[2] * (2 if configuration == "2d" else 3)] * 3


@each_configuration
def test_width_convolutions_and_stages_are_those_chosen(space, configuration):
    choice = space.choice(width=0.75, convolutions=3, convolutions_decoder=1, stages=2)
    kwargs = made(space.settings(choice), configuration)["architecture"]["arch_kwargs"]
    assert kwargs["features_per_stage"] == [12, 24]
    assert (kwargs["n_conv_per_stage"], kwargs["n_conv_per_stage_decoder"]) == ([3, 3], [1])
    n_axes = 2 if configuration == "2d" else 3
    assert kwargs["strides"] == [[1] * n_axes, [2] * n_axes]


@pytest.mark.parametrize("configuration", ["3d_fullres"])
def test_what_has_no_effect_makes_no_other_network(space):
    still = space.choice(shift_ratio=0.0)
    assert space.settings(still) == space.settings({**still, "shift_location": "encoder", "groups": "halves"})
    local = space.choice(shift_ratio=0.0, local_shift_ratio=0.5)
    assert space.settings(local) == space.settings({**local, "groups": "halves"})


@pytest.mark.parametrize("configuration", ["3d_lowres"])
@pytest.mark.parametrize("more", [{"width": 0.75}, {"convolutions": 2}, {"convolutions_decoder": 2}, {"stages": 3}])
def test_any_more_than_the_cheapest_costs_more(more, space, configuration):
    def macs(choice):
        network = made(space.settings(choice), configuration)
        return count_architecture(network["architecture"], network["patch_size"], 2, 3)[1]

    assert macs({**space.cheapest(), **more}) > macs(space.cheapest())


@pytest.mark.parametrize("configuration", ["3d_fullres"])
def test_every_first_choice_can_be_suggested(space):
    study = optuna.create_study(directions=["maximize", "minimize"])
    for name, choice in space.first().items():
        study.enqueue_trial(choice)
        assert space.suggested_by(study.ask()) == choice, name
