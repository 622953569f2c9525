"""A refusal is one short printable line that says where, whatever a stranger's names hold."""

import pytest

from nnunetv2_gsp.sharing.refused import RefusedError, check_schema, refusals_of, refusing


def test_what_a_terminal_obeys_is_not_told():
    assert str(RefusedError("a name", "\x1b[2J\n\x07")) == "Expected a name, got [2J."


def test_a_long_name_is_cut():
    assert len(str(RefusedError("a name", "x y " * 1000))) < 600


def test_any_error_is_a_refusal_and_a_refusal_stays_as_it_is():
    with (
        pytest.raises(RefusedError, match=r"Expected JSON, got none \(KeyError\); get it again\."),
        refusing("JSON", "get it again"),
    ):
        raise KeyError
    with pytest.raises(RefusedError, match=r"^Expected 2, got 3\.$"), refusing("JSON"):
        raise RefusedError("2", "3")


def test_places_stand_from_the_outermost_on():
    with (
        pytest.raises(RefusedError, match=r"^model\.zip, plans\.json: expected sound content, got a: 'x' is"),
        refusals_of("model.zip"),
    ):
        check_schema({"a": "x"}, {"properties": {"a": {"type": "integer"}}}, "plans.json")
