"""Group Shift Pointwise networks for nnU-Net v2.

This file imports nothing on purpose: it runs at every interpreter start (see `plugin/startup.py`).
"""

__version__ = "0.1.0"  # the one place: setup.cfg reads it from here
