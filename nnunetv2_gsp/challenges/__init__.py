"""Knows every challenge and task, an object each; a module beside this one that has `CHALLENGES` is one more.

Cheap to import: the command line takes its choices from here.
"""

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules

from nnunetv2_gsp.challenges.challenge import Challenge


def _found() -> list[Challenge]:
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    found: list[Challenge] = [each for module in modules for each in getattr(module, "CHALLENGES", ())]
    return sorted(found, key=lambda challenge: challenge.name)


CHALLENGES: Mapping[str, Challenge] = {challenge.name: challenge for challenge in _found()}
FAMILIES: Mapping[str, tuple[Challenge, ...]] = {
    family: tuple(challenge for challenge in CHALLENGES.values() if challenge.family == family)
    for family in dict.fromkeys(challenge.family for challenge in CHALLENGES.values())
}
EDITIONS = tuple(challenge.edition for challenge in CHALLENGES.values() if challenge.edition)
SUBMISSIONS = tuple(challenge.name for challenge in CHALLENGES.values() if challenge.archive)
CONTAINERS = tuple(challenge.name for challenge in CHALLENGES.values() if challenge.archive and challenge.container)

__all__ = ["CHALLENGES", "CONTAINERS", "EDITIONS", "FAMILIES", "SUBMISSIONS", "Challenge"]
