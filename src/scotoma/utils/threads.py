"""As many threads as the process may use, which sleep while they wait for each other."""

from __future__ import annotations

import os
import re
import sys
import time
import warnings
from functools import cache
from pathlib import Path

POLICY = "OMP_WAIT_POLICY"
"""Environment variable that OpenMP reads when torch is loaded."""
BUSY = 0.5
"""Mean number of other running programs from which a machine is busy."""
LOAD_BEFORE = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
"""Mean number of running programs in the last minute before this process, which would count as
another one later; 0 where it is unknown."""
QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Where Linux (cgroup 2) says how much processor time a container has: "200000 100000" is two."""
NOW = Path("/proc/stat")
"""Where Linux says how many programs run at this moment."""
LOOKS, PAUSE = 5, 0.002
"""How often to look for other programs, and seconds between two looks: each rests at times."""


def usable_cores() -> int:
    """Return how many cores this process may use, by its affinity and the quota of its container.

    >>> 1 <= usable_cores() <= (os.cpu_count() or 1)
    True
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = count or 1
    try:
        quota, period = QUOTA.read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


@cache
def keep_to_usable_cores() -> None:
    """Let torch use no more threads than cores, once; the user's own number stays.

    torch counts the cores of the machine, of which a container may have a few.
    """
    import torch

    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > usable_cores():
        torch.set_num_threads(usable_cores())


def others_run() -> bool:
    """Return whether another program runs right now; True where that is unknown.

    Its own threads count too, once torch has started some.
    """
    for _ in range(LOOKS):
        try:
            match = re.search(r"^procs_running (\d+)$", NOW.read_text(), re.MULTILINE)
        except OSError:
            match = None
        if not match or int(match[1]) > 1:
            return True
        time.sleep(PAUSE)
    return False


@cache
def was_busy() -> bool:
    """Return whether other programs ran when this one began.

    The mean load alone still counts a program that has just ended.
    """
    return LOAD_BEFORE > BUSY and others_run()


def sleep_while_waiting() -> None:
    """Let OpenMP's threads sleep rather than spin on a busy machine, if torch is not loaded yet.

    Beside other busy programs, spinning threads wait for one that is not scheduled and can take 6
    to 20 times as long; on a quiet machine, sleeping ones take twice as long on small networks
    (docs/log.md). The user's own policy stays.
    """
    if was_busy() and "torch" not in sys.modules:
        os.environ.setdefault(POLICY, "PASSIVE")


@cache
def warn_of_spinning() -> None:
    """Warn once if threads spin beside other programs, which only a new process can change."""
    import torch

    threads, cores, load = torch.get_num_threads(), usable_cores(), LOAD_BEFORE
    crowded = was_busy() and load + threads > cores + BUSY
    if threads > 1 and POLICY not in os.environ and crowded:
        warnings.warn(
            f"this machine is busy (load {load:.1f} on {cores} cores), and the {threads} threads "
            f"of torch spin while they wait, which makes it many times slower; set "
            f"{POLICY}=PASSIVE before Python starts, or import scotoma before torch",
            stacklevel=2,
        )
