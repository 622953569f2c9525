"""The examples as modules; their folder is no package."""

import importlib.util
from pathlib import Path
from types import ModuleType

ONNX_PREDICT = Path(__file__).parents[2] / "examples" / "onnx_predict.py"


def loaded(file: Path) -> ModuleType:
    """Return an example as a module of the name of its file."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
