"""What a user did wrong, told apart from what we did wrong."""


class InputError(Exception):
    """A user's mistake in one sentence: what was expected, what came, what to do.

    The command line prints it without a traceback.
    """
