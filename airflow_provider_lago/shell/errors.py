"""Why a command ends without having done what it was asked for."""

from __future__ import annotations


class ShellError(Exception):
    """No request can be made, or none may be sent. The text says what to do."""

    exit_code = 1


class UsageError(ShellError):
    """The command line asks for something that does not exist, or lacks something."""

    exit_code = 2
