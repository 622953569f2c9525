"""Lists the interfaces by name."""

from collections.abc import Mapping

from nnunetv2_gsp.container.brats import BRATS_2025, BRATS_MLCUBE
from nnunetv2_gsp.container.flare import FLARE
from nnunetv2_gsp.container.grand_challenge import GRAND_CHALLENGE
from nnunetv2_gsp.container.interface import Interface

INTERFACES: Mapping[str, Interface] = {
    interface.name: interface for interface in (BRATS_2025, BRATS_MLCUBE, GRAND_CHALLENGE, FLARE)
}
