"""The primary endpoint of a comparison: the one score that decides, chosen before anything is scored."""

from collections.abc import Collection
from dataclasses import dataclass

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.metrics.definitions import DICE, Definition, Metric

_PARAMETERS = ("primary",)


@dataclass(frozen=True)
class Endpoint:
    """One score of each case: a metric in one region, or its mean over all regions.

    Attributes:
        metric: metric of the score.
        region: name of the region; None takes the mean over the regions that all who are compared have a score in.

    Examples:
        >>> Endpoint(DICE).title, Endpoint(DICE, "core").title
        ('mean Dice over regions', 'Dice of core')
    """

    metric: Metric = DICE
    region: str | None = None

    @property
    def title(self) -> str:
        """The endpoint in words, for tables and sentences."""
        return f"{self.metric.name} of {self.region}" if self.region else f"mean {self.metric.name} over regions"


def find_endpoint(text: str, definition: Definition) -> Endpoint:
    """Return the endpoint that a text names, METRIC or METRIC:REGION, in capitals or not.

    Args:
        text: name of a metric of the definition, and of a region after a colon if not the mean over all is meant.
        definition: the definition that has the metric.

    Raises:
        InputError: the definition has no such metric.

    Examples:
        >>> from nnunetv2_gsp.metrics.definitions import DEFINITIONS
        >>> find_endpoint("hd95:core", DEFINITIONS["captk"]).title
        'HD95 of core'
    """
    name, _, region = text.partition(":")
    by_name = {metric.name.lower(): metric for metric in definition.metrics}
    if name.lower() not in by_name:
        metrics = ", ".join(metric.name for metric in definition.metrics)
        raise InputError(
            f"a primary endpoint METRIC or METRIC:REGION with a metric of {definition.name} ({metrics})",
            repr(text),
            parameters=_PARAMETERS,
        )
    return Endpoint(by_name[name.lower()], region or None)


def check_region(endpoint: Endpoint, regions: Collection[str]) -> None:
    """Check that the endpoint's region is one of those that are scored.

    Args:
        endpoint: primary endpoint of a comparison.
        regions: names of the regions that are scored.

    Raises:
        InputError: there is no such region.

    Examples:
        >>> check_region(Endpoint(DICE, "lesion"), ["core", "whole"])
        Traceback (most recent call last):
            ...
        nnunetv2_gsp.errors.InputError: Expected a primary endpoint in a region that is scored (core, whole)...
    """
    if endpoint.region is not None and endpoint.region not in regions:
        raise InputError(
            f"a primary endpoint in a region that is scored ({', '.join(regions)})",
            repr(endpoint.region),
            parameters=_PARAMETERS,
        )
