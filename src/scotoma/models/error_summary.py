"""Error texts of other libraries, cut to one line."""

from __future__ import annotations

LONGEST = 200


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
