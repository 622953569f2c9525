"""Protocols: what was trained differently, and what is not known."""

from nnunetv2_gsp.comparison.protocols import TrainingProtocol, differences, unknown_lengths


def test_protocols_that_are_not_known_are_not_compared():
    assert differences({"a": TrainingProtocol(), "b": TrainingProtocol((8, 8, 8), 2, (5,), (0.01,))}) == []
    assert differences({"a": TrainingProtocol((8, 8, 8)), "b": TrainingProtocol((8, 8, 16))}) == [
        "Trained with different patch sizes: a 8×8×8, b 8×8×16."
    ]


def test_lengths_are_unknown_only_where_anything_is_known():
    assert unknown_lengths({"a": TrainingProtocol(), "b": TrainingProtocol()}) == []
    assert unknown_lengths({"a": TrainingProtocol(epochs=(5,)), "b": TrainingProtocol()}) == [
        "How long b was trained is not known."
    ]


def test_folds_of_equal_length_are_said_once():
    assert differences({"a": TrainingProtocol(epochs=(5, 5)), "b": TrainingProtocol(epochs=(8, 9))}) == [
        "Trained for different numbers of epochs: a 5, b 8, 9."
    ]
