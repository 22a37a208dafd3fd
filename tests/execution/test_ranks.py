"""Ranks as threads with one store: each piece of work is done once, and all get its result."""

import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from torch.distributed import HashStore  # type: ignore[attr-defined]

from scotoma.execution.budget import Budget, OutOfTimeError
from scotoma.execution.ranks import Group, Ranks, appears, meeting, ranks
from scotoma.execution.store import Store, Unit
from scotoma.utils.errors import InputError

CLAIM = {"model": "m", "threat": "linf:0.1"}


def together(folder: Path, world: int, work, budget: Budget | None = None) -> list:
    """Return what `work` returns or raises in each of so many ranks with one `Store` folder."""
    shared = HashStore()
    results: list[Any] = [None] * world

    def one(rank: int) -> None:
        try:
            results[rank] = work(Store(folder, CLAIM, budget, Group(rank, world, shared)))
        except Exception as error:
            results[rank] = error

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return results


def units(count: int, done: list, pause: float = 0.0) -> list[Unit]:
    def compute(number: int) -> pl.DataFrame:
        done.append((number, threading.get_ident()))
        time.sleep(pause)
        return pl.DataFrame({"square": [number**2]})

    return [
        Unit({"number": number}, lambda number=number: compute(number)) for number in range(count)
    ]


@pytest.mark.parametrize("world", [2, 4])
def test_each_unit_is_computed_once_and_all_ranks_read_all_of_them(tmp_path, world):
    done = []

    def work(store: Store) -> list[int]:
        with store.locked():
            return [table["square"].item() for table in store.each(units(12, done, 0.02))]

    assert together(tmp_path / "run", world, work) == [[number**2 for number in range(12)]] * world
    assert Counter(number for number, _ in done) == Counter(range(12))
    shares = Counter(thread for _, thread in done)
    assert len(shares) == world
    assert min(shares.values()) >= 12 // world - 2


def test_one_table_is_computed_by_one_rank_while_the_others_wait(tmp_path):
    done = []
    tables = together(
        tmp_path / "run",
        3,
        lambda store: store.unit({"a": 1}, units(1, done, 0.3)[0].compute)["square"].item(),
    )
    assert tables == [0, 0, 0]
    assert len(done) == 1


def test_work_within_work_does_not_wait_for_itself(tmp_path):
    inner = []

    def work(store: Store) -> int:
        def outer() -> pl.DataFrame:
            return pl.DataFrame(
                {"sum": [sum(table["square"].item() for table in store.each(units(4, inner)))]}
            )

        return store.unit({"outer": True}, outer)["sum"].item()

    assert together(tmp_path / "run", 2, work) == [14, 14]
    assert len(inner) == 4


def test_what_is_on_disk_is_not_claimed_again(tmp_path):
    first, again = [], []
    together(tmp_path / "run", 2, lambda store: list(store.each(units(6, first))))
    together(tmp_path / "run", 3, lambda store: list(store.each(units(6, again))))
    assert (len(first), again) == (6, [])


def test_a_unit_that_is_damaged_after_it_was_done_is_computed_again(tmp_path, monkeypatch):
    monkeypatch.setattr("scotoma.execution.store.appears", lambda exists: appears(exists, 0.2))
    done, shared = [], HashStore()
    stores = [Store(tmp_path / "run", CLAIM, None, Group(rank, 2, shared)) for rank in range(2)]
    list(stores[0].each(units(1, done)))
    (path,) = stores[0].units.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    assert [table["square"].item() for table in stores[1].each(units(1, done))] == [0]
    assert len(done) == 2


def test_a_rank_waits_no_longer_than_the_budget(tmp_path):
    def work(store: Store):
        return store.unit({"long": True}, units(1, [], 3.0)[0].compute)

    began = time.monotonic()
    results = together(tmp_path / "run", 2, work, Budget(0.5))
    assert [type(each) for each in results if isinstance(each, Exception)] == [OutOfTimeError]
    assert time.monotonic() - began < 10


def test_a_folder_that_another_machine_does_not_see_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("scotoma.execution.store.appears", lambda exists: appears(exists, 0.2))
    shared = HashStore()
    Store(tmp_path / "here", CLAIM, None, Group(0, 2, shared))
    Group(0, 2, shared).done(f"opened {tmp_path / 'there'}")
    with pytest.raises(
        InputError,
        match="there: is not the same folder for all machines; choose a folder that they share",
    ):
        Store(tmp_path / "there", CLAIM, None, Group(1, 2, shared))


def test_the_folder_is_held_for_all_ranks_by_the_one_that_leads(tmp_path):
    shared = HashStore()
    leader, other = (
        Store(tmp_path / "run", CLAIM, None, Group(rank, 2, shared)) for rank in range(2)
    )
    with leader.locked(), other.locked():
        second = Store(tmp_path / "run", CLAIM)
        with pytest.raises(InputError, match="another audit is writing there"), second.locked():
            pass


def test_alone_every_claim_succeeds_and_nothing_waits(monkeypatch):
    alone = Ranks()
    assert alone.leads
    assert alone.claim("a")
    assert alone.claim("a")
    assert alone.wait("never")
    alone.leave()
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert ranks().world == 1


def test_the_first_rank_leaves_last():
    shared, order = HashStore(), []

    def leave(rank: int) -> None:
        time.sleep(0.1 * rank)
        order.append(rank) if rank else None
        Group(rank, 3, shared).leave()
        order.append(rank) if not rank else None

    threads = [threading.Thread(target=leave, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert order == [1, 2, 0]


def test_another_run_of_the_same_processes_begins_anew(tmp_path):
    first, second = [], []

    def work(store: Store) -> None:
        with store.locked():
            list(store.each(units(4, first)))
        store.ranks.leave()
        again = Store(tmp_path / "run", CLAIM, None, store.ranks)
        for path in again.units.glob("*") if store.ranks.leads else ():
            path.unlink()
        with again.locked():
            list(again.each(units(4, second)))
        store.ranks.leave()

    assert together(tmp_path / "run", 2, work) == [None, None]
    assert (
        Counter(number for number, _ in first)
        == Counter(number for number, _ in second)
        == Counter(range(4))
    )


def test_processes_that_are_started_again_do_not_take_old_words_for_new():
    shared = HashStore()

    def meet(rank: int, late: float, met: dict) -> None:
        time.sleep(late)
        group = Group(rank, 3, meeting(shared, rank, 3))
        met[rank] = group.claim("work")
        group.done(f"hello from {rank}")
        for other in range(3):
            assert group.wait(f"hello from {other}", 20)

    for late in ((0, 0.2, 0.1), (0.3, 0, 0.1), (0, 0, 0)):
        met: dict[int, bool] = {}
        shared.set("hello 2", "one that was lost before it was answered")
        threads = [threading.Thread(target=meet, args=(rank, late[rank], met)) for rank in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        assert sorted(met.values()) == [False, False, True]
