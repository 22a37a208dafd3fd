"""Other people's error texts, cut to what fits into one line."""

from __future__ import annotations

LONGEST = 200


def reason(error: BaseException) -> str:
    """The line of an exception's text that says what went wrong; its type where it has no text.

    That is the first line, save in TorchScript, which opens with its own stack and ends with the cause.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [
        type(error).__name__
    ]
    line = (
        lines[-1].removeprefix("RuntimeError: ")
        if "TorchScript" in lines[0] and len(lines) > 1
        else lines[0]
    )
    return line if len(line) <= LONGEST else line[: LONGEST - 3] + "..."
