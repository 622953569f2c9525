"""A format by the ending of a file."""

from pathlib import Path

import pytest

from nnunetv2_gsp.runtimes.formats import FORMATS, format_of


@pytest.mark.parametrize("name", [name for name, known in FORMATS.items() if known.ending])
def test_a_format_has_an_ending_of_its_own(name):
    assert format_of(Path(f"a.b/model{FORMATS[name].ending}")) == name
