"""Protocols: what was trained differently, and what is not known."""
from nnunetv2_gsp.comparison.protocols import TrainingProtocol, differences


def test_protocols_that_are_not_known_are_not_compared():
    assert differences({"a": TrainingProtocol(), "b": TrainingProtocol((8, 8, 8), 2, (5,), None)}) == []
    assert differences({"a": TrainingProtocol((8, 8, 8)), "b": TrainingProtocol((8, 8, 16))}) == [
        "Trained with different patch sizes: a 8×8×8, b 8×8×16."]
