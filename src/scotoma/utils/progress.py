"""Progress bars with the time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

Advance = Callable[[int], None]


def unseen(steps: int) -> None:
    """Show nothing of these steps."""


class Progress:
    """Bars on the terminal; none if standard error is a file or a pipe.

    >>> with Progress().bar("attacking", total=10) as advance:
    ...     advance(10)
    """

    def __init__(self):
        self._bars: Bars | None = None
        self._open: list[tuple[TaskID, str]] = []
        self._after_step: Callable[[], None] = lambda: None

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Advance]:
        """Open a bar named `what` below the open ones; it disappears when done.

        Yields a function that advances it by a number of the `total` steps.
        """
        if self._bars is not None:
            bars = self._bars
            task = bars.add_task(what, total=total)
            self._open.append((task, what))

            def step(steps: int) -> None:
                bars.advance(task, steps)
                self._after_step()

            try:
                yield step
            finally:
                self._open.pop()
                bars.remove_task(task)
            return
        with _live() as self._bars:
            try:
                with self.bar(what, total) as advance:
                    yield advance
            finally:
                self._bars = None

    @contextmanager
    def checking(self, check: Callable[[], None]) -> Iterator[None]:
        """Call `check` after every step, which may end the work by an error."""
        before, self._after_step = self._after_step, check
        try:
            yield
        finally:
            self._after_step = before

    def say(self, text: str) -> None:
        """Write beside the innermost bar how far its work has come."""
        if self._bars is not None and self._open:
            task, what = self._open[-1]
            self._bars.update(task, description=f"{what}, {text}")

    @property
    def visible(self) -> bool:
        """Whether standard error is a terminal, where somebody may be watching."""
        return self._console.is_terminal

    def keep(self, text: str) -> None:
        """Write a line above the bars, which stays."""
        if self.visible:
            self._console.print(text, soft_wrap=True, highlight=False)

    @property
    def _console(self) -> Console:
        return _console() if self._bars is None else self._bars.console


class Silent(Progress):
    """No bars: for scripts and tests."""

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Advance]:
        yield lambda steps: self._after_step()

    @property
    def visible(self) -> bool:
        return False


def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True)


def _live() -> Bars:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    console = _console()
    return Bars(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
