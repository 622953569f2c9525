"""The verbs as the parser has them."""

from nnunetv2_gsp.cli import parser


def verbs():
    """Return the parser of each verb by its name."""
    [subparsers] = [action for action in parser()._actions if action.dest == "verb"]
    return subparsers.choices


def actions(verb):
    """Return what a verb's parser was told to take, -h apart."""
    return [action for action in verb._actions if action.dest != "help"]
