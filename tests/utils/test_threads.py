"""Threads sleep while they wait, in a new process and as far as one can know in this one."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import pytest
import torch

from scotoma.utils import threads
from scotoma.utils.threads import POLICY, sleep_while_waiting, warn_of_spinning

SHOWN = "import ctypes; get = ctypes.CDLL(None).getenv; get.restype = ctypes.c_char_p; "
"""Reads the environment as a C library does."""


@pytest.mark.parametrize(
    ("load", "running", "given", "policy"),
    [
        (2.0, 3, None, "b'PASSIVE'"),
        (2.0, 3, "ACTIVE", "b'ACTIVE'"),
        (0.1, 3, None, "None"),
        (2.0, 1, None, "None"),
    ],
)
def test_on_a_busy_machine_the_policy_is_set_before_torch(load, running, given, policy):
    """The user's own policy stays, and a program that has ended does not count."""
    environment = {key: value for key, value in os.environ.items() if key != POLICY}
    now = f"cpu 1 2 3\nprocs_running {running}\nprocs_blocked 0\n"
    code = (
        f"import os, sys; from pathlib import Path; os.getloadavg = lambda: ({load}, 0, 0); "
        f"read = Path.read_text; Path.read_text = lambda path, *more: {now!r} "
        f"if str(path) == '/proc/stat' else read(path, *more); "
        f"import scotoma.cli; {SHOWN} print(get(b'{POLICY}'), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | ({POLICY: given} if given else {}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [policy, "False"]


@pytest.mark.parametrize("text", [None, "nothing of use"])
def test_where_nothing_is_known_of_other_programs_the_load_decides(monkeypatch, tmp_path, text):
    if text is not None:
        (tmp_path / "stat").write_text(text)
    monkeypatch.setattr(threads, "NOW", tmp_path / "stat")
    assert threads.others_run()


def test_after_torch_it_is_too_late(monkeypatch):
    monkeypatch.delenv(POLICY, raising=False)
    sleep_while_waiting()
    assert POLICY not in os.environ


@pytest.fixture
def busy(monkeypatch):
    """Two threads on two cores, of which another program takes one."""
    monkeypatch.delenv(POLICY, raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(threads, "usable_cores", lambda: 2)
    monkeypatch.setattr(threads, "LOAD_BEFORE", 1.0)
    monkeypatch.setattr(threads, "was_busy", lambda: True)
    warn_of_spinning.cache_clear()
    yield
    warn_of_spinning.cache_clear()


def test_spinning_threads_on_a_busy_machine_are_named_once(busy):
    with pytest.warns(UserWarning, match="OMP_WAIT_POLICY=PASSIVE"):
        warn_of_spinning()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_spinning()


@pytest.mark.parametrize("quiet", ["load", "others have ended", "one thread", "policy"])
def test_nothing_is_said_where_it_does_not_matter(busy, monkeypatch, quiet):
    if quiet == "load":
        monkeypatch.setattr(threads, "LOAD_BEFORE", 0.3)
    elif quiet == "others have ended":
        monkeypatch.setattr(threads, "was_busy", lambda: False)
    elif quiet == "one thread":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    else:
        monkeypatch.setenv(POLICY, "ACTIVE")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_spinning()


@pytest.mark.parametrize(
    ("quota", "allowed", "cores"),
    [
        ("200000 100000", 8, 2),
        ("150000 100000", 8, 1),
        ("50000 100000", 8, 1),
        ("max 100000", 8, 8),
        ("400000 100000", 3, 3),
        ("nonsense", 5, 5),
        (None, 4, 4),
    ],
)
def test_the_cores_of_a_container_are_its_quota(monkeypatch, tmp_path, quota, allowed, cores):
    file = tmp_path / "cpu.max"
    if quota is not None:
        file.write_text(quota)
    monkeypatch.setattr(threads, "QUOTA", file)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: set(range(allowed)))
    assert threads.usable_cores() == cores


@pytest.mark.parametrize(("given", "wanted"), [(None, 2), ("8", None)])
def test_torch_takes_no_more_threads_than_cores(monkeypatch, given, wanted):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    chosen: list[int | None] = [None]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(torch, "set_num_threads", lambda n: chosen.append(n))
    monkeypatch.setattr(threads, "usable_cores", lambda: 2)
    threads.keep_to_usable_cores.cache_clear()
    threads.keep_to_usable_cores()
    threads.keep_to_usable_cores.cache_clear()
    assert chosen[-1] == wanted
