"""What the doctor says of real environments, and of folders that will not do."""

import shutil
import sys

import pytest

from nnunetv2_gsp.engines import VARIABLE
from nnunetv2_gsp.plugin.doctor import Finding, _engines, _folder


def test_an_editable_install_in_good_order_has_no_failing_line(fresh_environment, nnunet_wheel, tree, tmp_path):
    environment = fresh_environment(nnunet_wheel, "--editable", shutil.copytree(tree, tmp_path / "tree"))
    exit_code, report, errors = environment.run("nnUNetv2_gsp", "doctor")
    assert (exit_code, errors) == (0, "")
    assert "FAIL" not in report
    for found in (
        "Python 3",
        "nnunetv2_gsp 0",
        "nnunetv2 2",
        "torch ",
        "fused layers for the CPU",
        "when Python starts",
        "nnU-Net finds nnUNetTrainerGSP",
        *environment.variables.values(),
    ):
        assert found in report

    environment.pip("uninstall", "--yes", "nnunetv2_gsp")
    assert environment.files_of_ours() == []


def test_a_broken_torch_and_a_missing_startup_line_are_lines_with_a_remedy(fresh_environment, nnunet_wheel, wheel):
    environment = fresh_environment(nnunet_wheel, wheel)
    (environment.site_packages / "nnunetv2_gsp.pth").unlink()
    (environment.site_packages / "torch.py").write_text("raise OSError('libtorch.so: no such file')")

    exit_code, report, errors = environment.run("nnUNetv2_gsp", "doctor")

    assert (exit_code, errors) == (1, "")
    failing = [line for line in report.splitlines() if line.startswith("FAIL")]
    shim = environment.site_packages / "nnunetv2_gsp" / "plugin" / "ext_trainer"
    assert "torch does not work: OSError: libtorch.so: no such file" in failing[0]
    assert failing[1].endswith(f"export nnUNet_extTrainer={shim}")
    assert "does not find nnUNetTrainerGSP: OSError: libtorch.so" in failing[2]
    assert len(failing) == 3


@pytest.mark.parametrize(
    ("folder", "remedy"),
    [
        (None, "export nnUNet_results="),
        ("{}/missing", "mkdir -p {}/missing"),
        ("{}/file", "export nnUNet_results="),
        ("{}/broken_link", "export nnUNet_results="),
        pytest.param(
            "/proc/self",
            "chmod u+w /proc/self",  # refuses even a superuser
            marks=pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc"),
        ),
    ],
)
def test_a_folder_that_training_cannot_use_fails_with_the_line_that_mends_it(folder, remedy, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "broken_link").symlink_to(tmp_path / "gone")
    monkeypatch.delenv("nnUNet_results", raising=False)
    if folder is not None:
        monkeypatch.setenv("nnUNet_results", folder.format(tmp_path))
    finding = _folder("nnUNet_results", training_writes=True)
    assert not finding.ok
    assert finding.mend.startswith(remedy.format(tmp_path))


def test_a_line_says_how_bad_it_is():
    assert str(Finding(True, "found")) == "ok    found"
    assert str(Finding(True, "no GPU", "use the CPU")) == "note  no GPU  ->  use the CPU"
    assert str(Finding(False, "nothing", "export it")) == "FAIL  nothing  ->  export it"


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ("plain", "plain for predictions, plain for training steps"),
        ("auto", "for predictions, "),
        ("checkpointed", "checkpointed for training steps"),
    ],
)
def test_the_engines_that_run_here_are_named(wish, said, monkeypatch):
    monkeypatch.setenv(VARIABLE, wish)
    finding = _engines()
    assert finding.ok
    assert said in finding.what


def test_an_engine_that_nobody_knows_fails(monkeypatch):
    monkeypatch.setenv(VARIABLE, "warp")
    finding = _engines()
    assert not finding.ok
    assert finding.mend == f"unset {VARIABLE}"


@pytest.mark.parametrize("devices", [["cpu"], ["cpu", "cuda"]])
def test_a_network_that_does_not_run_is_a_finding(devices, monkeypatch):
    def fail(*_):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore")

    monkeypatch.setattr("nnunetv2_gsp.plugin.doctor.available_devices", lambda: devices)
    monkeypatch.setattr("nnunetv2_gsp.plugin.doctor._engine_of", fail)
    finding = _engines()
    assert not finding.ok
    assert finding.what.endswith(
        f"no small network runs on {devices[-1]}: RuntimeError: CUDA error: no kernel image is available for execution "
        "on the device"
    )
    assert ("install a torch for this GPU" in finding.mend) == ("cuda" in devices)
