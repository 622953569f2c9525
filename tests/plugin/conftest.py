"""Fresh virtual environments: nnU-Net and our package are really installed by pip, all that is heavy is borrowed."""

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from importlib import metadata, util
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
NNUNET_FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")


class FreshEnvironment:
    """A virtual environment with nothing of its own but what `pip` puts there."""

    def __init__(self, folder, borrowed):
        venv.create(folder / "venv", symlinks=True)
        self.root = folder / "venv"
        self.bin = self.root / "bin"
        self.site_packages = next(self.root.glob("lib/python*/site-packages"))
        (self.site_packages / "borrowed.pth").write_text(f"{borrowed}\n")
        self.variables = {name: str(folder / name) for name in NNUNET_FOLDERS}
        for path in self.variables.values():
            Path(path).mkdir()

    def pip(self, command, *arguments):
        subprocess.run(
            [sys.executable, "-m", "pip", "--python", str(self.root), command, *map(str, arguments)],
            check=True,
            stdout=subprocess.DEVNULL,
            env=self._environment(),
        )

    def install(self, *arguments):
        self.pip("install", "--no-deps", "--no-build-isolation", "--no-index", *arguments)

    def start(self, *command, **variables):
        """Start a command of this environment; nnU-Net's three folders and `variables` are all it is told."""
        return subprocess.Popen(
            [self.bin / command[0], *map(str, command[1:])],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environment(**self.variables, **variables),
            cwd=self.root,
        )  # the repository would be on the import path of `python -c`

    def run(self, *command, **variables):
        """Run a command to its end; returns its exit code, stdout and stderr."""
        process = self.start(*command, **variables)
        stdout, stderr = process.communicate()
        return process.returncode, stdout, stderr

    def ask(self, code, **variables):
        """Return what the code prints."""
        return self.run("python", "-c", code, **variables)[1].strip()

    def files_of_ours(self):
        return sorted(path.name for path in self.root.rglob("*gsp*"))

    def _environment(self, **variables):
        ours = ("nnUNet", "PYTHON")  # what the running tests set up for themselves
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return {**inherited, **variables}


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """What a commit of the working tree would hold, as a clean clone has it."""
    tree = tmp_path_factory.mktemp("clone")
    listing = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(lambda name: (REPOSITORY / name).is_file(), listing.splitlines()):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / name, tree / name)
    return tree


@pytest.fixture(scope="session")
def build_wheel(tmp_path_factory):
    """Return a function that builds the wheel of a source tree or an sdist and returns its path."""

    def build(source):
        folder = tmp_path_factory.mktemp("wheel")
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "wheel",
                "--no-deps",
                "--no-build-isolation",
                "--no-index",
                "-w",
                folder,
                source,
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return next(folder.glob("*.whl"))

    return build


@pytest.fixture(scope="session")
def wheel(tree, build_wheel):
    return build_wheel(tree)


@pytest.fixture(scope="session")
def older_tree(tree, tmp_path_factory):
    """The same package, one release ago."""
    older = shutil.copytree(tree, tmp_path_factory.mktemp("older") / "tree")
    package = older / "nnunetv2_gsp" / "__init__.py"
    package.write_text(package.read_text().replace('__version__ = "', '__version__ = "0.0.'))
    return older


@pytest.fixture(scope="session")
def nnunet_tree(tmp_path_factory):
    """The installed nnU-Net as a source tree, laid out and packaged like nnU-Net's repository."""
    tree = tmp_path_factory.mktemp("nnunet")
    package = Path(util.find_spec("nnunetv2").submodule_search_locations[0])
    shutil.copytree(package, tree / "nnunetv2", ignore=shutil.ignore_patterns("__pycache__"))
    commands = "\n".join(
        f'{entry.name} = "{entry.value}"'
        for entry in metadata.entry_points(group="console_scripts")
        if entry.value.startswith("nnunetv2.")
    )
    (tree / "pyproject.toml").write_text(f"""
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "nnunetv2"
version = "{metadata.version("nnunetv2")}"

[project.scripts]
{commands}

[tool.setuptools.packages.find]
include = ["nnunetv2*"]
""")
    return tree


@pytest.fixture(scope="session")
def borrowed(tmp_path_factory):
    """A folder of links to all that the running interpreter has installed, save nnU-Net and us."""
    links = tmp_path_factory.mktemp("borrowed")
    site_packages = [Path(path) for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    for entry in (entry for folder in site_packages for entry in folder.iterdir()):
        link = links / entry.name
        if not entry.name.startswith("nnunetv2") and not link.exists():
            link.symlink_to(entry)
    return links


@pytest.fixture(scope="session")
def nnunet_wheel(nnunet_tree, build_wheel):
    return build_wheel(nnunet_tree)


@pytest.fixture
def fresh_environment(tmp_path, borrowed):
    """Return a function that makes an environment and installs what it is given, with pip."""

    def make(*requirements):
        environment = FreshEnvironment(Path(tempfile.mkdtemp(dir=tmp_path)), borrowed)
        environment.install(*requirements)
        return environment

    return make
