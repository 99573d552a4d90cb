"""The one exception that means: the user can mend this."""


class UserError(Exception):
    """A mistake in what was asked for.

    The message is one line that names what was given, what is allowed and what to do. The command
    line prints it without a traceback and ends with exit code 2.
    """
