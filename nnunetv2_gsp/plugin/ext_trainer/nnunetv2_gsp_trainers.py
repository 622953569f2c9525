"""The only module that nnU-Net imports by path; it passes on the classes of the installed package.

nnU-Net drops the modules below such a folder from `sys.modules` after its search. Classes defined here would lose their
module, not pickle, and exist twice; classes imported from the package do not.
"""

from nnunetv2_gsp.trainers import *  # noqa: F403
