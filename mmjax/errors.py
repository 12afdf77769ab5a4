"""What a user can mend: one plain sentence that names the thing and the mend.

The command line prints these sentences without a traceback. Everything else is a bug of ours and
keeps its traceback.
"""


class UserError(Exception):
    """A mistake or a mishap that the user can mend; the command ends with `exit_status`."""

    exit_status = 1


class ConfigError(UserError, ValueError):
    """A wrong command, option or experiment: nothing was run, exit status 2."""

    exit_status = 2


class DataError(UserError):
    """A data file that is missing, damaged or not what it should be, or values that are not finite."""


class RunError(UserError):
    """A run that cannot go on: a damaged checkpoint, a full disk, a loss that is not finite."""
