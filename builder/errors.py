"""The errors that end a command: each names the place and the way out."""


class ArasError(Exception):
    """Bad input, recipe or environment; the message says what, where and what to do (exit 2)."""

    exit_code = 2


class WorkFailed(ArasError):
    """Work was attempted and part of it failed; what succeeded is kept (exit 1)."""

    exit_code = 1


class CorruptFile(ArasError):
    """A file whose bytes are not the ones that were written."""
