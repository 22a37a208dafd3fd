"""What a person sees while something runs: a bar with the time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[int], None]


class Progress:
    """Bars on the terminal, nothing where standard error is a file or a pipe; `Silent` shows none."""

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Advance]:
        """A bar named `what`; the function given advances it by so many of `total` steps. It disappears when done."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        left = (TextColumn("left"), TimeRemainingColumn())
        console = Console(stderr=True)
        with Bars(*columns, *left, console=console, transient=True, disable=not console.is_terminal) as bars:
            task = bars.add_task(what, total=total)
            yield lambda steps: bars.advance(task, steps)


class Silent(Progress):
    """No bars: for scripts and tests."""

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Advance]:
        yield lambda steps: None
