"""The tests on every version that is supported: `make test-versions`, or `nox -s 'tests(3.12)'` for one."""

import nox

LOWEST = [  # what setup.cfg allows, and nnU-Net beside it
    "torch==2.5.0",
    "numpy==1.26.0",
    "SimpleITK==2.4.1",
    "nibabel==4.0.0",
    "packaging==22.0",
    "tqdm==4.65.0",
    "shtab==1.9.3",
    "dynamic-network-architectures==0.4.4",
    "jsonschema==4.18.0",
    "batchgenerators==0.25.1",
    "safetensors==0.4.3",
    "submitit==1.5.4",
    "optuna==5.0.0",
    "torchinfo==1.8.0",
    "nilearn==0.10.4",
    "scipy==1.11.1",
    "scikit-image==0.22.0",
    "matplotlib==3.8.0",
    "jinja2==3.1.0",
]
# between the lowest torch and the newest another compiler, and the oldest Triton that our kernels take
PINNED = {"3.10": LOWEST, "3.12": ["torch==2.11.0"]}


@nox.session
@nox.parametrize(
    ("python", "nnunetv2"),
    [
        nox.param("3.10", "2.8.0", id="lowest"),
        nox.param("3.11", "2.8.0", id="3.11"),
        nox.param("3.12", "2.8.1", id="3.12"),
        nox.param("3.13", "2.8.1", id="3.13"),
    ],
)
def tests(session: nox.Session, nnunetv2: str) -> None:
    """Install into a fresh environment and run what `make test` runs."""
    session.install("-e", ".[dev]", f"nnunetv2=={nnunetv2}", *PINNED.get(session.python, []))
    session.run("python", "-m", "pytest", "-n", "2", "--dist", "loadfile", *session.posargs)
