"""Processes that share one run: which of them does what, and how the others hear that it is done.

Started by `torchrun`, each process runs the same program. Work has a name that says what it is; whoever claims a name first
does that work and writes it to the run folder, which all of them see, and the others go on to what is free. So nobody waits
for a slow machine before there is nothing else to do, and a machine that is lost costs the unit that it was at:
`torchrun --max-restarts` starts all processes again, and they find what is on disk.
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
"""That a process waits for another: a lost one is noticed by `torchrun`, which ends all of them."""


class Ranks:
    """One process alone, whose every claim succeeds."""

    rank = 0
    world = 1

    @property
    def leads(self) -> bool:
        """Whether this process speaks for all: it prints, and writes what there is one of."""
        return self.rank == 0

    def claim(self, name: str) -> bool:
        """Whether this process is the first to ask for the work `name`, which is then its to do."""
        return True

    def done(self, name: str) -> None:
        """The work is on disk."""

    def wait(self, name: str, seconds: float | None = None) -> bool:
        """Wait until `done` was called for the work, by whichever process; False after so many seconds without."""
        return True

    def leave(self) -> None:
        """Wait for the others at the end, for the first process may be the one that they talk through. What was said is forgotten:
        another run may follow."""


class Group(Ranks):
    """One of several processes, which talk through a key-value store of torch.distributed."""

    def __init__(self, rank: int, world: int, store: Store):
        self.rank, self.world, self.store = rank, world, store

    def claim(self, name: str) -> bool:
        return self.store.add(f"claim {name}", 1) == 1

    def done(self, name: str) -> None:
        self.store.set(f"done {name}", str(self.rank))

    def wait(self, name: str, seconds: float | None = None) -> bool:
        from torch.distributed import DistStoreError

        try:
            self.store.wait(
                [f"done {name}"],
                LONGEST if seconds is None else timedelta(seconds=max(seconds, 0.01)),
            )
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
    """This process among those that `torchrun` started, or alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Ranks()
    from torch.distributed.rendezvous import rendezvous

    store, rank, world = next(iter(rendezvous("env://")))
    return Group(rank, world, meeting(store, rank, world))


def meeting(store: Store, rank: int, world: int) -> Store:
    """A part of the store for these very processes.

    `torchrun` keeps the store when it starts processes again, with all that earlier ones said there. So the first process names the
    meeting anew, answers whoever says hello, and goes on when every other one has said that name back.
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
        for other in sorted(missing):
            if store.check([f"{meeting} {other}"]):
                missing.remove(other)
            elif store.check([f"hello {other}"]):
                store.set(f"to {store.get(f'hello {other}').decode()}", meeting)
        time.sleep(0.01)
    return PrefixStore(meeting, store)


def seen(exists: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether something that another process wrote shows up here; a network's file system may take a moment."""
    until = time.monotonic() + seconds
    while not (found := exists()) and time.monotonic() < until:
        time.sleep(0.1)
    return found
