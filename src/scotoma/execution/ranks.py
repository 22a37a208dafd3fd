"""Processes that share one run: which of them does what, and how the others learn that it is done.

`torchrun` starts the same program in each process. Every piece of work has a name; the process that
claims a name first does that work and writes it to the run folder, which all processes share, while
the others continue with free work. No process waits for a slow machine while there is other work,
and a lost machine costs one unit: `torchrun --max-restarts` starts all processes again, and they
read what is on disk.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

LONGEST = timedelta(days=30)
"""Longest wait for another process. `torchrun` notices a lost one and ends all of them."""


class Ranks:
    """A single process, whose every claim succeeds."""

    rank = 0
    world = 1

    @property
    def leads(self) -> bool:
        """Whether this process prints, and writes the files that exist only once."""
        return self.rank == 0

    def claim(self, name: str) -> bool:
        """Return whether this process is the first to claim the work `name` and must do it."""
        return True

    def done(self, name: str) -> None:
        """Announce that the work is on disk."""

    def wait(self, name: str, seconds: float | None = None) -> bool:
        """Wait until a process calls `done` for the work; return False after `seconds`."""
        return True

    def leave(self) -> None:
        """Wait for the others at the end, since the first process may host the store.

        All claims are dropped: another run may follow.
        """


class Group(Ranks):
    """One of several processes, which share a key-value store of torch.distributed."""

    def __init__(self, rank: int, world: int, store: Store):
        self.rank, self.world, self.store = rank, world, store

    def claim(self, name: str) -> bool:
        return self.store.add(f"claim {name}", 1) == 1

    def done(self, name: str) -> None:
        self.store.set(f"done {name}", str(self.rank))

    def wait(self, name: str, seconds: float | None = None) -> bool:
        from torch.distributed import DistStoreError

        longest = LONGEST if seconds is None else timedelta(seconds=max(seconds, 0.01))
        try:
            self.store.wait([f"done {name}"], longest)
        except DistStoreError:
            return False
        return True

    def leave(self) -> None:
        from torch.distributed import PrefixStore  # type: ignore[attr-defined]

        self.done(f"left {self.rank}")
        for rank in range(self.world) if self.leads else ():
            self.wait(f"left {rank}")
        self.store = PrefixStore("next", self.store)


@cache
def ranks() -> Ranks:
    """Return this process as one of those that `torchrun` started, or as a single one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Ranks()
    from torch.distributed.rendezvous import rendezvous

    store, rank, world = next(iter(rendezvous("env://")))
    return Group(rank, world, meeting(store, rank, world))


def meeting(store: Store, rank: int, world: int) -> Store:
    """Return a part of the store that only these processes use.

    When `torchrun` starts processes again, the store still has the entries of earlier ones. So the
    first process draws a new name, sends it to each process that has written a hello, and continues
    once every process has confirmed the name.
    """
    from torch.distributed import PrefixStore  # type: ignore[attr-defined]

    if rank:
        me = uuid4().hex
        store.set(f"hello {rank}", me)
        store.wait([f"to {me}"], LONGEST)
        meeting = store.get(f"to {me}").decode()
        store.set(f"{meeting} {rank}", "here")
        return PrefixStore(meeting, store)
    meeting, missing = uuid4().hex, set(range(1, world))
    while missing:
        for peer in sorted(missing):
            if store.check([f"{meeting} {peer}"]):
                missing.remove(peer)
            elif store.check([f"hello {peer}"]):
                store.set(f"to {store.get(f'hello {peer}').decode()}", meeting)
        time.sleep(0.01)
    return PrefixStore(meeting, store)


def appears(exists: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Return whether a file of another process appears: a network file system may take a moment."""
    until = time.monotonic() + seconds
    while not (there := exists()) and time.monotonic() < until:
        time.sleep(0.1)
    return there
