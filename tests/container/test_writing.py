"""The folder that docker builds an image of, and the models that make none."""

import json
import re
import stat
import zipfile
from pathlib import Path

import pytest

from nnunetv2_gsp.challenges import CHALLENGES, CONTAINERS
from nnunetv2_gsp.container.registry import INTERFACES
from nnunetv2_gsp.container.rehearsal import rehearse
from nnunetv2_gsp.container.settings import Settings
from nnunetv2_gsp.container.writing import write_container
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.sharing import export_model
from tests.container.models import BRATS, PLAIN, container, dockerfile, environment_of, write_model

SLUGS = {"grand-challenge": {"output_slug": "prostate"}}


@pytest.fixture(scope="module")
def folders(brats_models, plain_model, tmp_path_factory):
    """Return a container for each interface."""
    base = tmp_path_factory.mktemp("containers")
    return {
        name: container(
            [brats_models[0] if interface.challenge else plain_model], base / name, name, **SLUGS.get(name, {})
        )
        for name, interface in INTERFACES.items()
    }


@pytest.mark.parametrize("name", INTERFACES)
def test_every_file_that_is_copied_is_there_and_every_file_there_is_copied(name, folders):
    steps = dockerfile(folders[name])
    copied = [source for step, rest in steps if step == "COPY" for source in rest.split()[:-1]]
    there = {file.name for file in folders[name].iterdir()}
    assert set(copied) == there - {"Dockerfile", "README.md"}
    installed = " ".join(rest for step, rest in steps if step == "RUN")
    assert set(re.findall(r"[\w.-]+\.(?:txt|whl)", installed)) == {
        each for each in copied if each.endswith(("txt", "whl"))
    }


@pytest.mark.parametrize("name", INTERFACES)
def test_the_image_starts_the_module_as_the_interface_calls_it(name, folders):
    start = [(step, rest) for step, rest in dockerfile(folders[name]) if step in ("ENTRYPOINT", "CMD", "USER")]
    module = '["python", "-m", "nnunetv2_gsp.container", "/opt/algorithm"]'
    assert (
        start
        == {
            "brats2025": [("ENTRYPOINT", module)],
            "brats-mlcube": [("ENTRYPOINT", module)],
            "grand-challenge": [("USER", "1000:1000"), ("ENTRYPOINT", module)],
            "flare": [("CMD", '["sh", "predict.sh"]')],
        }[name]
    )


def test_a_base_and_an_index_can_be_given_and_cuda_is_the_index_of_pypi(folders, plain_model, tmp_path):
    arguments = [rest for step, rest in dockerfile(folders["flare"]) if step == "ARG"]
    assert [each.split("=")[0] for each in arguments] == ["BASE", "TORCH_INDEX"]
    assert arguments[1].endswith("/whl/cpu")
    folder = container([plain_model], tmp_path / "gpu", "flare", cuda=True)
    assert ("ARG", "TORCH_INDEX=https://pypi.org/simple") in dockerfile(folder)
    assert "--gpus all" in (folder / "README.md").read_text()


def test_whatever_is_written_at_run_time_goes_to_tmp(folders):
    variables = environment_of(folders["brats2025"])
    places = {name: value for name, value in variables.items() if "/" in value}
    assert {"HOME", "MPLCONFIGDIR", "nnUNet_results"} <= set(places)
    assert all(Path(value).is_relative_to("/tmp") for value in places.values())


def test_any_user_may_read_the_files(folders):
    for file in folders["brats2025"].iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o644


def test_models_come_without_pickle_and_with_their_settings(folders, brats_bundle):
    folder = folders["brats2025"]
    assert (folder / "model_0.zip").read_bytes() == brats_bundle.read_bytes()
    with zipfile.ZipFile(folder / "model_0.zip") as archive:
        assert {Path(name).suffix for name in archive.namelist()} == {".json", ".safetensors"}
    assert json.loads((folder / "container.json").read_text())["challenge"] == "brats2025"


@pytest.mark.parametrize("name", INTERFACES)
def test_the_readme_has_three_commands_with_the_interface_s_folders(name, folders):
    commands = "\n".join(re.findall(r"^    (.*)", (folders[name] / "README.md").read_text(), re.MULTILINE))
    assert "docker build -t" in commands
    assert f':{INTERFACES[name].input}:ro -v "$PWD/out":{INTERFACES[name].output} ' in commands
    assert "--network none --read-only --tmpfs /tmp" in commands
    assert "docker push" in commands or "docker save" in commands


def nothing(trained, brats_models, tmp_path):
    return [tmp_path / "nowhere"]


def other_channels(trained, brats_models, tmp_path):
    channels = {"channel_names": {"0": "T1", "1": "T1ce", "2": "T2", "3": "PD"}}
    return [write_model(trained, {**BRATS, **channels}, plans_name="pdPlans")]


def other_labels(trained, brats_models, tmp_path):
    swapped = {"background": 0, "edema": 1, "necrosis": 2, "enhancing": 3}
    model = {key: value for key, value in BRATS.items() if key != "regions_class_order"}
    return [write_model(trained, {**model, "labels": swapped}, plans_name="swappedPlans")]


def unlike(trained, brats_models, tmp_path):
    return [brats_models[0], write_model(trained, PLAIN, plans_name="unlikePlans")]


def twice(trained, brats_models, tmp_path):
    return [brats_models[0]] * 2


def damaged(trained, brats_models, tmp_path):
    (tmp_path / "model.zip").write_bytes(b"PK")
    return [tmp_path / "model.zip"]


@pytest.mark.parametrize(
    ("models", "said"),
    [
        (nothing, "expected a model folder, or a zip of an exported model, got neither"),
        (other_channels, "Expected channels among t1, t1n, .* for brats2025, got PD; change models"),
        (other_labels, "expected the labels 1 NETC, 2 SNFH, 3 ET for brats2025, got 'edema' for 1"),
        (unlike, "Expected the labels of .*nnUNetPlans__3d_fullres, .* in each model, got .* in .*unlikePlans"),
        (twice, "Expected each model once"),
        (damaged, "expected a whole zip"),
    ],
)
def test_models_that_do_not_fit_are_refused_in_one_sentence_and_nothing_is_left(
    models, said, trained, brats_models, tmp_path
):
    chosen = models(trained, brats_models, tmp_path)
    (tmp_path / "new").mkdir()
    with pytest.raises(InputError, match=said) as refusal:
        write_container(chosen, tmp_path / "new" / "algorithm", "brats2025")
    assert "\n" not in refusal.value.told()
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize(
    ("interface", "options", "said"),
    [
        ("grand-challenge", {}, "Expected the slug of the output's socket"),
        ("grand-challenge", {"output_slug": "a", "input_slugs": ("t2", "adc")}, "Expected an input's slug for each"),
        ("grand-challenge", {"output_slug": "../a"}, "Expected slugs of lower-case letters, digits and hyphens"),
        ("grand-challenge", {"output_slug": "a", "challenge": "promise12"}, "Expected no challenge with the interface"),
        (
            "brats2025",
            {"challenge": "brats2018"},
            "Expected a challenge that takes containers among .*, brats2025.*, got brats2018",
        ),
        ("flair", {}, "Expected an interface among .*flare.*, got flair; change interface"),
        ("flare", {"output_slug": "a"}, "Expected no slugs with the interface flare, got a; leave them out"),
    ],
)
def test_options_that_do_not_go_together_are_refused(interface, options, said, plain_model, tmp_path):
    with pytest.raises(InputError, match=said):
        write_container([plain_model], tmp_path / "algorithm", interface, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_stays(plain_model, tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="exists and is not replaced; change output"):
        write_container([plain_model], tmp_path / "mine", "flare")


def test_an_exported_model_and_its_folder_make_the_same(plain_model, folders, tmp_path):
    export_model(plain_model, tmp_path / "model.zip")
    folder = container([tmp_path / "model.zip"], tmp_path / "flare", "flare")
    for file in folders["flare"].iterdir():
        if file.name != "README.md":  # which names the models
            assert (folder / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("name", CONTAINERS)
def test_each_task_takes_the_predictions_of_a_network_trained_on_it(name):
    """The dataset.json is what `convert` writes for the task."""
    challenge = CHALLENGES[name]
    dataset_json = {
        "labels": {"background": 0, **challenge.regions},
        "regions_class_order": challenge.regions_class_order,
        "file_ending": challenge.file_ending,
    }
    rehearse(Settings(challenge.container, name, ()), dataset_json, "model")
