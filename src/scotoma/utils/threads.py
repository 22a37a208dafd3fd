"""Threads that sleep while they wait for each other."""

from __future__ import annotations

import os
import sys
import warnings
from functools import cache

POLICY = "OMP_WAIT_POLICY"
"""Environment variable that OpenMP reads when torch is loaded."""


def sleep_while_waiting() -> None:
    """Let OpenMP's threads sleep rather than spin on a busy machine, if torch is not loaded yet.

    Beside other busy programs, spinning threads wait for one that is not scheduled and can take 6
    to 20 times as long; on a quiet machine, sleeping ones take twice as long on small networks
    (docs/log.md). The user's own policy stays.
    """
    if "torch" not in sys.modules and _load() > 0.5:
        os.environ.setdefault(POLICY, "PASSIVE")


def _load() -> float:
    """Return the mean number of running programs in the last minute, 0 where it is unknown."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


@cache
def warn_of_spinning() -> None:
    """Warn once if threads spin beside other programs, which only a new process can change."""
    import torch

    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    load = _load()
    if threads > 1 and POLICY not in os.environ and load + threads > cores + 0.5:
        warnings.warn(
            f"this machine is busy (load {load:.1f} on {cores} cores), and the {threads} threads "
            f"of torch spin while they wait, which makes it many times slower; set "
            f"{POLICY}=PASSIVE before Python starts, or import scotoma before torch",
            stacklevel=2,
        )
