"""Shares a model as a bundle without pickle: written by `export_model`, read by `import_model`.

nnU-Net's own checkpoints are pickles, which run code when they are loaded. A bundle holds only tensors, JSON and
checksums, and the names in it are checked before nnU-Net looks them up. The checksums reveal damage, not the author.
"""

from nnunetv2_gsp.sharing.exporting import export_model
from nnunetv2_gsp.sharing.importing import import_model, prediction_command

__all__ = ["export_model", "import_model", "prediction_command"]
