"""Errors that a user can correct, and those of other libraries cut to one line."""

from __future__ import annotations

LONGEST = 200
"""Characters of an error of another library."""


class InputError(ValueError):
    """Something that the user gave cannot be used.

    The message says what is wrong and what to do. The command line prints it in one line and exits
    with status 2.

    >>> import scotoma
    >>> try:
    ...     scotoma.Threat.parse("lnf:0.3")
    ... except scotoma.InputError as error:
    ...     print(error)
    unknown norm 'lnf' in the threat; did you mean 'linf'?
    """


def reason(error: BaseException) -> str:
    """Return the line of an exception's text that names the cause; its type if it has no text.

    This is the first line, except in TorchScript errors, which begin with a stack trace.

    >>> reason(ValueError("no such layer"))
    'no such layer'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = (lines or [type(error).__name__])[0]
    if "TorchScript" in line and len(lines) > 1:
        line = lines[-1].removeprefix("RuntimeError: ")
    return line if len(line) <= LONGEST else line[: LONGEST - 3] + "..."
