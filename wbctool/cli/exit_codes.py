"""The exit code that an error ends a command with."""

from __future__ import annotations

from wbctool import errors

_FATAL = 1
_INTERRUPTED = 130
_ERROR_EXIT_CODES: tuple[tuple[type[errors.WbctoolError], int], ...] = (
    (errors.SettingsInvalid, 2),
    (errors.SlidesNotFound, 4),
    (errors.OutputLocked, 5),
)


def get_exit_code(error: BaseException) -> int:
    """As README's table of exit codes has it."""
    if isinstance(error, KeyboardInterrupt):
        return _INTERRUPTED
    return next((code for kind, code in _ERROR_EXIT_CODES if isinstance(error, kind)), _FATAL)
