"""The command line: parses, calls the API, prints; each command imports heavy libraries itself."""

from __future__ import annotations

import errno
import re
import sys
from typing import Any, NoReturn

import typer
from typer.main import get_command

from scotoma.cli import (  # noqa: F401  each adds its commands to the application
    auditing,
    comparing,
    exporting,
    gating,
    inspecting,
    judging,
    papers,
    training,
    verifying,
)
from scotoma.cli.app import INTERRUPTED, app
from scotoma.execution.ranks import ranks
from scotoma.utils.errors import InputError

UsageError: Any = typer.BadParameter.__base__
"""Error for a wrong option or command; from click, or from the copy that typer carries."""

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)
"""Errors of a disk on which files were written before."""


def main() -> None:
    """Run the command line. Bad input ends in one line and exit code 2."""
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="scotoma", standalone_mode=False)
    except InputError as error:
        fail(as_flags(str(error), sys.argv[1]))
    except UsageError as error:
        command = error.ctx.command_path if error.ctx else "scotoma"
        fail(f"{error.format_message().rstrip('.')}; see `{command} --help`")
    except OSError as error:
        fail(f"{error.filename or 'a file'}: {error.strerror or error}{finished_work(error)}")
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:
        typer.echo("stopped; the same command continues from here", err=True)
    sys.exit(code)


def finished_work(error: OSError) -> str:
    """Return a note that finished work is kept, if the disk failed during the run.

    >>> finished_work(OSError(errno.ENOSPC, "No space")), finished_work(OSError(20, "Not"))
    ('; what was finished is kept', '')
    """
    return "; what was finished is kept" if error.errno in DISK else ""


def as_flags(message: str, command: str) -> str:
    """Write the library's parameters as options of a command: `limit=0` becomes `--limit 0`.

    >>> as_flags("limit=0: want at least one image, or add trust_pickle=True.", "audit")
    '--limit 0: want at least one image, or add --trust-pickle.'
    """
    group = getattr(get_command(app), "commands", {}).get(command)
    options = {option.name: option.opts[0] for option in group.params} if group else {}

    def flag(match: re.Match) -> str:
        option = options.get({"root": "data_root"}.get(match[1], match[1]), "")
        value = "" if match[2] == "True" else f" {match[2]}"
        return (option + value).rstrip() if option.startswith("--") else match[0]

    return re.sub(r"\b([a-z_]+)=(True\b|[^\s,:;)]*)", flag, message)


def fail(message: str) -> NoReturn:
    """Print one line on standard error, from one process alone, and exit with code 2."""
    if ranks().claim(f"told {message}"):
        typer.echo(f"scotoma: {' '.join(message.split())}", err=True)
    sys.exit(2)
